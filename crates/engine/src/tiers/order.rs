//! Which block comes after which.

use std::collections::VecDeque;

/// Different successors remembered for each block: loops, a prefill before a decode, an encoder before a decoder.
const SUCCESSORS: usize = 3;

/// The order of blocks, learned by watching; before that, their numbers.
#[derive(Debug)]
pub struct Order {
    /// Of each block, the latest first.
    successors: Vec<VecDeque<u32>>,
}

impl Order {
    /// For blocks `1..=count`; block 0 is the whole model.
    pub fn new(count: usize) -> Self {
        Self {
            successors: vec![VecDeque::new(); count + 1],
        }
    }

    /// `to` came after `from`.
    pub fn follow(&mut self, from: u32, to: u32) {
        if let Some(known) = self.successors.get_mut(from as usize) {
            known.retain(|&block| block != to);
            known.push_front(to);
            known.truncate(SUCCESSORS);
        }
    }

    /// The distinct blocks expected after `from`, in order, `from` itself not among them.
    pub fn after(&self, from: u32) -> Vec<u32> {
        let count = self.successors.len() as u32 - 1;
        let mut seen = vec![false; self.successors.len()];
        let mut walk = Vec::new();
        let mut at = from;
        loop {
            if let Some(place) = seen.get_mut(at as usize) {
                *place = true;
            }
            let unseen = |block: &u32| !seen.get(*block as usize).copied().unwrap_or(true);
            let known = self.successors.get(at as usize);
            let next = match known {
                Some(known) if !known.is_empty() => known.iter().copied().find(|b| unseen(b)),
                _ => Some(if at < count { at + 1 } else { 1 }).filter(|b| unseen(b)),
            };
            match next {
                Some(block) => {
                    walk.push(block);
                    at = block;
                }
                None => return walk,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_first_guess() {
        assert_eq!(Order::new(4).after(0), [1, 2, 3, 4]);
        assert_eq!(Order::new(4).after(3), [4, 1, 2]);
    }

    #[test]
    fn a_loop_does_not_hide_what_follows_it() {
        let mut order = Order::new(4);
        // An encoder (1), then a shared layer (2) several times, then a head (4), again and again.
        for (from, to) in [(1, 2), (2, 2), (2, 2), (2, 4), (4, 1), (1, 2), (2, 2)] {
            order.follow(from, to);
        }
        assert_eq!(order.after(1), [2, 4]);
        assert_eq!(order.after(2), [4, 1]);
    }
}
