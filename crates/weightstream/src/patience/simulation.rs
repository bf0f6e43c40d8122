//! Callers, a disk and the pager with its sleep, in simulated time: nobody waits longer than is promised, and nothing
//! stands still. Everything that can happen wakes who it would wake in truth, and nobody else.

#![allow(clippy::expect_used)]

use super::{Patience, SILENCE};
use proptest::prelude::*;
use std::collections::{BTreeSet, VecDeque};
use weightstream_engine::{Action, Chunks, Engine, Marker};

/// Nanoseconds to read a chunk.
const READ: u64 = 1_000_000;

/// What a caller does next.
#[derive(Debug, Clone, Copy)]
enum Step {
    Enter(u32),
    Leave(u32),
    Touch(u32),
    /// Computes, or sleeps, for so many nanoseconds.
    Pass(u64),
    /// There is one lock. A caller that ends gives it back.
    Lock,
    Unlock,
}

/// What wakes the pager: as the fault handler and the callers report it.
enum Event {
    Marker(u32, Marker),
    Touched(u32, u32),
    Missing(u32, u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Goes on at that time.
    Until(u64),
    /// Sleeps until the chunk is ready, which it has told.
    Awaits(u32),
    AwaitsLock,
    Ended,
}

struct Caller {
    program: Vec<Step>,
    next: usize,
    depth: u32,
    state: State,
    /// As this test sees it: when it was held first in its pass, and for how long altogether.
    held: Option<(u64, u64)>,
}

struct Machine {
    now: u64,
    engine: Engine,
    patience: Patience,
    events: VecDeque<Event>,
    /// When the pager wakes by itself.
    alarm: Option<u64>,
    disk: VecDeque<(u32, u64)>,
    disk_free: u64,
    ready: BTreeSet<u32>,
    published: BTreeSet<u32>,
    callers: Vec<Caller>,
    lock: Option<usize>,
    /// Whom others waited for after the last decision, as the engine tells it, and since when.
    rear: Option<((u32, u64), u64)>,
    /// Who was held after it, and when it was.
    held: BTreeSet<u32>,
    decided: u64,
}

impl Machine {
    fn new(chunks: u32, slots: usize) -> Self {
        let chunks = Chunks {
            count: chunks,
            used: (0..chunks).collect(),
            ..Chunks::default()
        };
        Self {
            now: 0,
            engine: Engine::new(chunks, slots, 2),
            patience: Patience::default(),
            events: VecDeque::new(),
            alarm: None,
            disk: VecDeque::new(),
            disk_free: 0,
            ready: BTreeSet::new(),
            published: BTreeSet::new(),
            callers: Vec::new(),
            lock: None,
            rear: None,
            held: BTreeSet::new(),
            decided: 0,
        }
    }

    /// Runs (program, when it begins) to their ends.
    fn run(&mut self, programs: Vec<(Vec<Step>, u64)>) {
        self.callers = programs
            .into_iter()
            .map(|(program, begin)| Caller {
                program,
                next: 0,
                depth: 0,
                state: State::Until(self.now + begin),
                held: None,
            })
            .collect();
        while self
            .callers
            .iter()
            .any(|caller| caller.state != State::Ended)
        {
            let caller =
                self.callers
                    .iter()
                    .enumerate()
                    .filter_map(|(number, caller)| match caller.state {
                        State::Until(time) => Some((time, number)),
                        _ => None,
                    });
            let caller = caller.min();
            let soonest = [
                caller.map(|(time, _)| time),
                self.disk.front().map(|&(_, time)| time),
                self.alarm,
            ];
            let soonest = soonest.into_iter().flatten().min();
            self.now =
                soonest.expect("nothing is under way, and callers wait: they would do so for ever");
            if self.disk.front().is_some_and(|&(_, time)| time == self.now) {
                self.read();
            } else if self.alarm == Some(self.now) {
                self.page();
            } else if let Some((_, number)) = caller {
                self.step(number);
            }
            if !self.events.is_empty() {
                self.page();
            }
        }
        // The pager finds out what the last ones did.
        self.page();
    }

    /// A read has ended: whoever waits goes on, and the pager hears of it.
    fn read(&mut self) {
        let Some((chunk, _)) = self.disk.pop_front() else {
            return;
        };
        self.ready.insert(chunk);
        for caller in &mut self.callers {
            if caller.state == State::Awaits(chunk) {
                caller.state = State::Until(self.now);
            }
        }
        self.engine.loaded(chunk);
        self.page();
    }

    fn step(&mut self, number: usize) {
        let thread = number as u32;
        let caller = &mut self.callers[number];
        let Some(&step) = caller.program.get(caller.next) else {
            caller.state = State::Ended;
            return self.unlock(number);
        };
        match step {
            Step::Enter(block) => {
                caller.depth += 1;
                self.events
                    .push_back(Event::Marker(thread, Marker::enter(block)));
            }
            Step::Leave(block) => {
                caller.depth = caller.depth.saturating_sub(1);
                if caller.depth == 0 {
                    caller.held = None;
                }
                self.events
                    .push_back(Event::Marker(thread, Marker::leave(block)));
            }
            Step::Pass(time) => caller.state = State::Until(self.now + time),
            Step::Touch(chunk) if self.published.contains(&chunk) => {}
            Step::Touch(chunk) if self.ready.remove(&chunk) => {
                self.published.insert(chunk);
                self.events.push_back(Event::Touched(thread, chunk));
            }
            Step::Touch(chunk) => {
                caller.state = State::Awaits(chunk);
                return self.events.push_back(Event::Missing(thread, chunk));
            }
            Step::Lock if self.lock.is_some_and(|owner| owner != number) => {
                caller.state = State::AwaitsLock;
                return;
            }
            Step::Lock => self.lock = Some(number),
            Step::Unlock => self.unlock(number),
        }
        self.callers[number].next += 1;
    }

    fn unlock(&mut self, number: usize) {
        if self.lock == Some(number) {
            self.lock = None;
            for caller in &mut self.callers {
                if caller.state == State::AwaitsLock {
                    caller.state = State::Until(self.now);
                }
            }
        }
    }

    /// One turn of the pager.
    fn page(&mut self) {
        self.check();
        while let Some(event) = self.events.pop_front() {
            match event {
                Event::Marker(thread, marker) => {
                    self.engine.passed(thread, marker);
                    if self.callers[thread as usize].depth == 0 {
                        self.patience.passed(thread);
                    }
                }
                Event::Touched(thread, chunk) => self.engine.touched(thread, chunk),
                Event::Missing(thread, chunk) => {
                    self.engine.missing(thread, chunk, chunk..chunk + 1)
                }
            }
        }
        let mut actions = Vec::new();
        let again = self
            .patience
            .decide(&mut self.engine, &mut actions, self.now);
        self.alarm = again.map(|again| self.now + again.as_nanos() as u64);
        assert_ne!(self.alarm, Some(self.now), "the pager does not sleep");
        for action in actions {
            match action {
                Action::Read { chunk, .. } => {
                    self.disk_free = self.disk_free.max(self.now) + READ;
                    self.disk.push_back((chunk, self.disk_free));
                }
                Action::Withdraw { chunk, .. } => {
                    self.ready.remove(&chunk);
                    self.published.remove(&chunk);
                }
                Action::Release { .. } => {}
            }
        }
        self.held = self.engine.held().iter().copied().collect();
        self.decided = self.now;
        let seen = self.engine.holding();
        if self.rear.map(|(rear, _)| rear) != seen {
            self.rear = seen.map(|seen| (seen, self.now));
        }
    }

    /// What is promised of the time since the last decision.
    fn check(&mut self) {
        if let Some((rear, since)) = self.rear {
            assert!(
                self.now <= since + SILENCE,
                "{rear:?} is silent, and waited for"
            );
        }
        let passed = self.now - self.decided;
        for &thread in &self.held {
            let held = &mut self.callers[thread as usize].held;
            let (first, total) = held.unwrap_or((self.decided, 0));
            let (total, since) = (total + passed, self.now - first);
            assert!(
                total <= SILENCE + since / 2,
                "{thread} was held for {total} of {since}"
            );
            *held = Some((first, total));
        }
    }
}

/// `blocks` blocks of `size` chunks each, inside a root block.
fn pass(blocks: u32, size: u32, compute: u64) -> Vec<Step> {
    let mut steps = vec![Step::Enter(1000)];
    for block in 0..blocks {
        steps.push(Step::Enter(block));
        steps
            .extend((0..size).flat_map(|at| [Step::Touch(block * size + at), Step::Pass(compute)]));
        steps.push(Step::Leave(block));
    }
    steps.push(Step::Leave(1000));
    steps
}

/// What happens to a caller somewhere in its program.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    /// It sleeps.
    Sleeps(u64),
    /// It takes the lock for so many steps.
    Locks(usize),
    /// It ends.
    Ends,
}

fn troubled(mut program: Vec<Step>, troubles: Vec<(prop::sample::Index, Trouble)>) -> Vec<Step> {
    for (place, trouble) in troubles {
        let place = place.index(program.len());
        match trouble {
            Trouble::Sleeps(time) => program.insert(place, Step::Pass(time)),
            Trouble::Locks(steps) => {
                program.insert((place + steps).min(program.len()), Step::Unlock);
                program.insert(place, Step::Lock);
            }
            Trouble::Ends => program.truncate(place + 1),
        }
    }
    program
}

/// A machine that knows the model: 12 blocks of 10 chunks.
fn machine(slots: usize) -> Machine {
    let mut machine = Machine::new(120, slots);
    for _ in 0..3 {
        machine.run(vec![(pass(12, 10, 0), 0)]);
    }
    machine
}

#[test]
fn one_ends_in_its_pass_and_others_go_on() {
    let mut machine = machine(40);
    let whole = pass(12, 10, 0);
    let begun = machine.now;
    machine.run(vec![
        (whole.clone(), 0),
        (whole[..60].to_vec(), 0),
        (whole[..40].to_vec(), 0),
        (whole, 0),
    ]);
    // Two silences, and the reading of two passes.
    assert!(
        machine.now - begun < 2 * SILENCE + 240 * READ,
        "{}",
        machine.now - begun
    );
}

#[test]
fn who_is_ahead_holds_what_the_rear_needs() {
    let mut machine = machine(40);
    let mut ahead = pass(12, 10, 0);
    ahead.insert(20, Step::Lock);
    let mut rear = pass(12, 10, 0);
    rear.splice(20..20, [Step::Lock, Step::Unlock]);
    machine.run(vec![(ahead, 0), (rear, 10 * READ)]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    /// The check of every turn of the pager, for callers that sleep, lock, end, compute, and begin at odd times.
    #[test]
    fn nobody_waits_longer_than_promised(
        slots in 24usize..80,
        callers in prop::collection::vec(
            (
                0u64..300 * READ,
                prop_oneof![Just(0), 0..3 * READ],
                1usize..4,
                prop::collection::vec(
                    (
                        any::<prop::sample::Index>(),
                        prop_oneof![
                            4 => (0..3 * SILENCE).prop_map(Trouble::Sleeps),
                            3 => (1usize..100).prop_map(Trouble::Locks),
                            1 => Just(Trouble::Ends),
                        ],
                    ),
                    0..4,
                ),
            ),
            2..6,
        ),
    ) {
        let mut machine = machine(slots);
        let programs = callers.into_iter().map(|(begin, compute, passes, troubles)| {
            (troubled(pass(12, 10, compute).repeat(passes), troubles), begin)
        });
        machine.run(programs.collect());
    }
}
