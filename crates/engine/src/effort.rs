//! What deciding costs, counted while the engine is tested: whatever could grow with the model says how far it went.

#[cfg(test)]
thread_local! {
    static STEPS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// So many entries were looked at.
#[cfg(test)]
pub fn spend(steps: usize) {
    STEPS.set(STEPS.get() + steps as u64);
}

/// So many entries were looked at.
#[cfg(not(test))]
pub fn spend(_: usize) {}

/// All that this thread has looked at.
#[cfg(test)]
pub fn spent() -> u64 {
    STEPS.get()
}

#[cfg(test)]
mod tests {
    use super::spent;
    use crate::{Action, Chunk, Chunks, Engine, Marker, Residence};
    use std::collections::VecDeque;

    /// Reads under way at once before the oldest ends.
    const DISK: usize = 4;

    /// One caller, and a disk that is a queue.
    struct Machine {
        engine: Engine,
        disk: VecDeque<Chunk>,
        visible: Vec<bool>,
        touches: u64,
    }

    impl Machine {
        fn new(chunks: Chunks, slots: usize) -> Self {
            Self {
                disk: VecDeque::new(),
                visible: vec![false; chunks.count as usize],
                touches: 0,
                engine: Engine::new(chunks, slots, 2),
            }
        }

        fn pump(&mut self) {
            let mut actions = Vec::new();
            self.engine.pump(&mut actions);
            for action in actions {
                match action {
                    Action::Read { chunk, .. } => self.disk.push_back(chunk),
                    Action::Withdraw { chunk, .. } => self.visible[chunk as usize] = false,
                    Action::Release { .. } => {}
                }
            }
        }

        fn arrive(&mut self) {
            if let Some(chunk) = self.disk.pop_front() {
                self.engine.loaded(chunk);
                self.pump();
            }
        }

        fn passed(&mut self, marker: Marker) {
            self.engine.passed(0, marker);
            self.pump();
        }

        fn touch(&mut self, chunk: Chunk, unit: std::ops::Range<Chunk>) {
            self.touches += 1;
            if self.visible[chunk as usize] {
                return;
            }
            while !matches!(self.engine.residence(chunk), Residence::Ready { .. }) {
                self.engine.missing(0, chunk, unit.clone());
                self.pump();
                self.arrive();
            }
            self.visible[chunk as usize] = true;
            self.engine.touched(0, chunk);
            self.pump();
            if self.disk.len() >= DISK {
                self.arrive();
            }
        }
    }

    /// A model of `count` chunks in blocks of `size`, of which the last `experts` are used one after the other.
    #[derive(Clone, Copy)]
    struct Model {
        count: u32,
        size: u32,
        experts: u32,
        slots: usize,
    }

    /// Entries looked at for each touch, in the first pass and in the sixth to ninth.
    fn steps(model: Model) -> [f64; 2] {
        let Model {
            count,
            size,
            experts,
            slots,
        } = model;
        let is_expert = |chunk: &Chunk| chunk % size >= size - experts;
        let chunks = Chunks {
            count,
            used: (0..count).collect(),
            sparse: (0..count).filter(is_expert).collect(),
            rows: Vec::new(),
        };
        let mut machine = Machine::new(chunks, slots);
        let mut steps = [0.0; 2];
        for pass in 0..9 {
            let before = (spent(), machine.touches);
            machine.passed(Marker::enter(0));
            for block in 0..count / size {
                machine.passed(Marker::enter(block + 1));
                let (first, dense) = (block * size, size - experts);
                for chunk in first..first + dense {
                    machine.touch(chunk, first..first + dense);
                }
                if experts > 0 {
                    let routed = first + dense + (pass * 7 + block * 3) % experts;
                    machine.touch(routed, routed..routed + 1);
                }
                machine.passed(Marker::leave(block + 1));
            }
            machine.passed(Marker::leave(0));
            let cost = (spent() - before.0) as f64 / (machine.touches - before.1) as f64;
            match pass {
                0 => steps[0] = cost,
                5.. => steps[1] += cost / 4.0,
                _ => {}
            }
        }
        steps
    }

    /// Eight times the model costs eight times as much.
    fn assert_linear(name: &str, small: Model, large: Model) {
        for (pass, (small, large)) in ["first", "later"]
            .iter()
            .zip(steps(small).iter().zip(steps(large)))
        {
            assert!(
                large < small * 1.3,
                "{name}, {pass} passes: {small:.0} steps a touch, then {large:.0}"
            );
        }
    }

    #[test]
    fn a_touch_costs_the_same_in_a_model_eight_times_as_large() {
        let model = Model {
            count: 800,
            size: 20,
            experts: 0,
            slots: 60,
        };
        let cases = [
            ("a small pool", model, 1),
            (
                "a third",
                Model {
                    slots: 270,
                    ..model
                },
                8,
            ),
            (
                "nearly all",
                Model {
                    slots: 790,
                    ..model
                },
                8,
            ),
            (
                "all",
                Model {
                    slots: 800,
                    ..model
                },
                8,
            ),
            (
                "experts",
                Model {
                    size: 40,
                    experts: 32,
                    ..model
                },
                1,
            ),
            ("large blocks", Model { size: 400, ..model }, 1),
        ];
        for (name, small, pool) in cases {
            let large = Model {
                count: small.count * 8,
                slots: small.slots * pool,
                ..small
            };
            assert_linear(name, small, large);
        }
        // A block that grows with the model.
        let whole = Model { size: 800, ..model };
        assert_linear(
            "one block",
            whole,
            Model {
                count: 6400,
                size: 6400,
                ..whole
            },
        );
    }
}
