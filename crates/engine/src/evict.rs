//! Who leaves when a slot is needed.

use crate::action::Action;
use crate::bits::ChunkSet;
use crate::engine::Engine;
use crate::pool::Residence;
use crate::{Chunk, Slot, effort};

impl Engine {
    /// Frees one slot: of the chunk whose next use is furthest away, as far as that is known.
    pub(crate) fn make_room(
        &mut self,
        urgent: bool,
        soon: Option<&ChunkSet>,
        actions: &mut Vec<Action>,
    ) -> bool {
        let guard = self.guard();
        let victim = self
            .oldest_passed(guard, soon)
            .or_else(|| self.oldest_doubtful(guard, soon))
            .or_else(|| soon.and_then(|soon| self.read_in_vain(soon)))
            .or_else(|| urgent.then(|| self.least_urgent()).flatten());
        match victim {
            Some(chunk) => {
                self.withdraw(chunk, actions);
                true
            }
            None => false,
        }
    }

    /// Drops all chunks that were touched, whatever they are worth, for the pager to withdraw together: where the kernel
    /// has no mapping left. They are in ascending order.
    pub fn drop_touched(&mut self) -> Vec<Chunk> {
        let is_touched = |chunk: &Chunk| matches!(self.pool.get(*chunk), Residence::Touched { .. });
        let mut touched: Vec<Chunk> = self.pool.occupants().filter(is_touched).collect();
        touched.sort_unstable();
        let mut withdrawn = Vec::new();
        touched
            .iter()
            .for_each(|&chunk| self.withdraw(chunk, &mut withdrawn));
        touched
    }

    /// The chunk touched longest ago that the plan doesn't keep: its next use is a whole pass away.
    fn oldest_passed(&mut self, guard: usize, soon: Option<&ChunkSet>) -> Option<Chunk> {
        let mut skipped = Vec::new();
        let mut found = None;
        while self.pool.recent.len() > guard {
            let Some(entry) = self.pool.recent.pop_front() else {
                break;
            };
            effort::spend(1);
            if !self.pool.is_current(entry) {
                continue;
            }
            if self.plan.keeps(entry.0) {
                self.kept.push_back(entry);
            } else if self.sparse.contains(entry.0) {
                self.doubtful.push_back(entry);
            } else if soon.is_some_and(|soon| soon.contains(entry.0)) || self.is_shared(entry.0) {
                skipped.push(entry);
            } else {
                found = Some(entry.0);
                break;
            }
        }
        for entry in skipped.into_iter().rev() {
            self.pool.recent.push_front(entry);
        }
        for passed_over in [&mut self.kept, &mut self.doubtful] {
            self.pool.forget_stale(passed_over);
        }
        found
    }

    /// The sparse chunk (a row, an expert) touched longest ago.
    fn oldest_doubtful(&mut self, guard: usize, soon: Option<&ChunkSet>) -> Option<Chunk> {
        let mut index = 0;
        while self.doubtful.len() + self.pool.recent.len() > guard {
            let &entry = self.doubtful.get(index)?;
            effort::spend(1);
            if !self.pool.is_current(entry) {
                self.doubtful.remove(index);
            } else if soon.is_some_and(|soon| soon.contains(entry.0)) {
                index += 1;
            } else {
                self.doubtful.remove(index);
                return Some(entry.0);
            }
        }
        None
    }

    /// A chunk that was read ahead and is not coming up any more.
    fn read_in_vain(&self, soon: &ChunkSet) -> Option<Chunk> {
        self.pool.occupants().find(|&chunk| {
            matches!(
                self.pool.get(chunk),
                Residence::Ready { awaited: false, .. }
            ) && !soon.contains(chunk)
                && !self.wished.contains(chunk)
        })
    }

    /// For a thread that waits: something read ahead that nobody waits for, else the kept chunk touched longest ago.
    fn least_urgent(&mut self) -> Option<Chunk> {
        let ahead = self.look_ahead();
        let rank = |chunk: Chunk| {
            let mut coming = ahead.iter().chain(&self.wished_order);
            coming
                .position(|&other| other == chunk)
                .unwrap_or(usize::MAX)
        };
        let untouched = self
            .pool
            .occupants()
            .filter(|&chunk| {
                matches!(
                    self.pool.get(chunk),
                    Residence::Ready { awaited: false, .. }
                )
            })
            .max_by_key(|&chunk| rank(chunk));
        if untouched.is_some() {
            return untouched;
        }
        while let Some(entry) = self.kept.pop_front() {
            if self.pool.is_current(entry) {
                return Some(entry.0);
            }
        }
        // Each thread may still stand in the chunk that it touched last.
        while self.pool.recent.len() > self.threads.min(self.limit / 4) {
            let entry = self.pool.recent.pop_front()?;
            if self.pool.is_current(entry) {
                return Some(entry.0);
            }
        }
        // Whoever waited for these may have gone on without them; nothing else will happen by itself.
        let stuck = self.in_flight == 0;
        let mut ready = self.pool.occupants();
        stuck
            .then(|| ready.find(|&chunk| matches!(self.pool.get(chunk), Residence::Ready { .. })))
            .flatten()
    }

    pub(crate) fn withdraw(&mut self, chunk: Chunk, actions: &mut Vec<Action>) {
        match self.pool.get(chunk) {
            Residence::Touched { .. } => {
                if let Some(until) = self.visible_until.get_mut(chunk as usize) {
                    *until = self.clock;
                }
            }
            _ => self.counters.wasted += 1,
        }
        if let Some(slot) = self.pool.unseat(chunk) {
            self.counters.withdrawn += 1;
            actions.push(Action::Withdraw { chunk, slot });
        }
    }

    /// After a smaller budget: leave until it holds. Reads under way end first.
    pub(crate) fn shrink(&mut self, actions: &mut Vec<Action>) {
        while self.pool.used() > self.limit {
            let before = actions.len();
            if !self.make_room(true, None, actions) {
                break;
            }
            let freed: Vec<Slot> = actions
                .iter()
                .skip(before)
                .filter_map(|action| match action {
                    Action::Withdraw { slot, .. } => Some(*slot),
                    _ => None,
                })
                .collect();
            self.stale_slots.extend(freed);
        }
        for slot in self.stale_slots.drain(..) {
            if self.pool.is_free(slot) {
                actions.push(Action::Release { slot });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Action, Chunks, Engine, Marker, Residence};

    #[test]
    fn a_pinned_chunk_never_leaves_and_takes_no_slot() {
        let count = 40;
        let chunks = Chunks {
            count,
            used: (0..count).collect(),
            ..Chunks::default()
        };
        let mut engine = Engine::new(chunks, 20, 2);
        assert!(!engine.pin(7), "it is not there");
        for pass in 0..4 {
            engine.passed(1, Marker::enter(0));
            for chunk in 0..count {
                let mut actions = Vec::new();
                if engine.residence(chunk) == Residence::Absent {
                    engine.missing(1, chunk, chunk..chunk + 1);
                }
                engine.pump(&mut actions);
                for action in actions {
                    match action {
                        Action::Read { chunk, .. } => engine.loaded(chunk),
                        Action::Withdraw { chunk, .. } => assert!(pass == 0 || chunk != 7),
                        Action::Release { .. } => {}
                    }
                }
                engine.touched(1, chunk);
                if (pass, chunk) == (1, 7) {
                    let used = engine.slots_used();
                    assert!(engine.pin(7) && !engine.pin(7));
                    assert_eq!(engine.slots_used(), used - 1);
                    engine.resize(engine.limit() - 1);
                }
                if (pass, chunk) == (2, 20) {
                    let mut actions = Vec::new();
                    engine.forget(7, &mut actions);
                    engine.resize(8);
                    engine.pump(&mut actions);
                    assert!(!actions.is_empty());
                    assert!(
                        !actions
                            .iter()
                            .any(|action| matches!(action, Action::Withdraw { chunk: 7, .. }))
                    );
                }
            }
            engine.passed(1, Marker::leave(0));
        }
        assert!(matches!(engine.residence(7), Residence::Pinned { .. }));
    }

    #[test]
    fn what_is_announced_in_every_pass_is_remembered_once() {
        let count = 60;
        let chunks = Chunks {
            count,
            used: (0..count).collect(),
            sparse: (0..4).collect(),
            rows: vec![],
        };
        let mut engine = Engine::new(chunks, 30, 2);
        for _ in 0..200 {
            engine.passed(1, Marker::enter(0));
            engine.announce(&[0, 1, 2, 3]);
            for chunk in 0..count {
                if engine.residence(chunk) == Residence::Absent {
                    engine.missing(1, chunk, chunk..chunk + 1);
                }
                let mut actions = Vec::new();
                engine.pump(&mut actions);
                for action in actions {
                    if let Action::Read { chunk, .. } = action {
                        engine.loaded(chunk);
                    }
                }
                if matches!(engine.residence(chunk), Residence::Ready { .. }) {
                    engine.touched(1, chunk);
                }
            }
            engine.passed(1, Marker::leave(0));
        }
        let most = 2 * count as usize + 1;
        for queue in [&engine.kept, &engine.doubtful, &engine.pool.recent] {
            assert!(queue.len() <= most, "{} of {count} chunks", queue.len());
        }
    }
}
