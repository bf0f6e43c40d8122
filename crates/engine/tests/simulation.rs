//! The engine against a simulated machine: clock, disk and threads are numbers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use proptest::prelude::*;
use std::collections::{BTreeSet, HashMap, VecDeque};
use weightstream_engine::{Action, Chunk, Chunks, Engine, Marker, Residence, least_slots};

/// What a program does next.
#[derive(Debug, Clone, Copy)]
enum Step {
    Enter(u32),
    Leave(u32),
    Touch(Chunk),
    /// Of these chunks, so many from here on.
    Announce(Chunk, u32),
}

/// A disk that serves one chunk per `READ` ticks, and threads that compute `compute` ticks per chunk.
const READ: u64 = 10;

struct Machine {
    engine: Engine,
    now: u64,
    disk: VecDeque<(Chunk, u64)>,
    disk_free_at: u64,
    reads: u64,
    visible: BTreeSet<Chunk>,
    ready: BTreeSet<Chunk>,
    slots: HashMap<u32, Chunk>,
    fail: BTreeSet<Chunk>,
}

impl Machine {
    fn new(count: u32, slots: usize, sparse: Vec<Chunk>) -> Self {
        let chunks = Chunks {
            count,
            used: (0..count).collect(),
            sparse,
            rows: vec![],
        };
        Self {
            engine: Engine::new(chunks, slots, 2),
            now: 0,
            disk: VecDeque::new(),
            disk_free_at: 0,
            reads: 0,
            visible: BTreeSet::new(),
            ready: BTreeSet::new(),
            slots: HashMap::new(),
            fail: BTreeSet::new(),
        }
    }

    fn pump(&mut self) {
        let mut actions = Vec::new();
        self.engine.pump(&mut actions);
        for action in actions {
            match action {
                Action::Read { chunk, slot } => {
                    assert_eq!(
                        self.slots.insert(slot, chunk),
                        None,
                        "slot {slot} given away twice"
                    );
                    self.disk_free_at = self.disk_free_at.max(self.now) + READ;
                    self.disk.push_back((chunk, self.disk_free_at));
                    self.reads += 1;
                }
                Action::Withdraw { chunk, slot } => {
                    assert_eq!(self.slots.remove(&slot), Some(chunk));
                    assert!(
                        !self.disk.iter().any(|&(other, _)| other == chunk),
                        "withdrawn while being read"
                    );
                    self.visible.remove(&chunk);
                    self.ready.remove(&chunk);
                }
                Action::Release { slot } => assert!(!self.slots.contains_key(&slot)),
            }
        }
    }

    /// Lets time pass until `until`, ending the reads that end by then.
    fn advance(&mut self, until: u64) {
        while let Some(&(chunk, done)) = self.disk.front().filter(|&&(_, done)| done <= until) {
            self.disk.pop_front();
            self.now = self.now.max(done);
            if self.fail.contains(&chunk) {
                if self.engine.failed(chunk).is_some() {
                    self.engine.loaded(chunk);
                    self.ready.insert(chunk);
                } else {
                    self.slots.retain(|_, other| *other != chunk);
                }
            } else {
                self.engine.loaded(chunk);
                self.ready.insert(chunk);
            }
            self.pump();
        }
        self.now = self.now.max(until);
    }

    /// One thread does one step; returns false where it has to wait.
    fn step(&mut self, caller: u32, step: Step, waiting: &mut bool) -> bool {
        match step {
            Step::Enter(block) => self.engine.passed(caller, Marker::enter(block)),
            Step::Leave(block) => self.engine.passed(caller, Marker::leave(block)),
            Step::Announce(first, count) => {
                self.engine
                    .announce(&(first..first + count).collect::<Vec<_>>());
            }
            Step::Touch(chunk) => {
                if self.visible.contains(&chunk) {
                    *waiting = false;
                    return true;
                }
                if self.ready.remove(&chunk) {
                    self.visible.insert(chunk);
                    self.engine.touched(caller, chunk);
                } else {
                    if !*waiting || self.engine.residence(chunk) == Residence::Absent {
                        *waiting = true;
                        self.engine.missing(caller, chunk, chunk..chunk + 1);
                        self.pump();
                    }
                    return false;
                }
            }
        }
        *waiting = false;
        self.pump();
        true
    }

    /// Runs programs side by side until all have ended; returns the time it took.
    fn run(&mut self, programs: &[&[Step]], compute: u64) -> u64 {
        let callers: Vec<_> = programs.iter().map(|&steps| (steps, 0, compute)).collect();
        self.run_each(&callers)
    }

    /// The same for (program, ticks before it begins, ticks that it computes per chunk).
    fn run_each(&mut self, callers: &[(&[Step], u64, u64)]) -> u64 {
        let begin = self.now;
        let programs: Vec<&[Step]> = callers.iter().map(|caller| caller.0).collect();
        let mut threads: Vec<(usize, u64, bool)> = callers
            .iter()
            .map(|&(_, delay, _)| (0, self.now + delay, false))
            .collect();
        for _ in 0..50_000_000u64 {
            let runnable = threads
                .iter()
                .enumerate()
                .filter(|(index, thread)| thread.0 < programs[*index].len())
                .min_by_key(|(_, thread)| thread.1)
                .map(|(index, thread)| (index, thread.1));
            let Some((index, at)) = runnable else {
                return self.now - begin;
            };
            self.advance(at);
            let step = programs[index][threads[index].0];
            let mut waiting = threads[index].2;
            if self.step(index as u32, step, &mut waiting) {
                threads[index].0 += 1;
                threads[index].1 = self.now
                    + if matches!(step, Step::Touch(_)) {
                        callers[index].2
                    } else {
                        0
                    };
            } else {
                let next = self.disk.front().map(|&(_, done)| done);
                let others = threads.iter().enumerate().any(|(other, thread)| {
                    other != index && thread.0 < programs[other].len() && !thread.2
                });
                if next.is_none()
                    && !others
                    && let Some((rear, _)) = self.engine.holding()
                {
                    // Callers wait for one that has ended in the middle of a block: the pager's patience is over.
                    self.engine.leave_behind(rear);
                    self.pump();
                    continue;
                }
                assert!(
                    next.is_some() || others,
                    "deadlock: thread {index} waits at {step:?}, nothing is under way"
                );
                threads[index].1 = next.unwrap_or(self.now + 1).max(self.now);
            }
            threads[index].2 = waiting;
            assert!(
                self.engine.slots_used() <= self.engine.limit(),
                "over budget"
            );
            assert!(self.slots.len() <= self.engine.limit(), "over budget");
        }
        panic!("livelock");
    }
}

/// `blocks` blocks of `size` chunks each, inside a root block.
fn pass(blocks: u32, size: u32) -> Vec<Step> {
    let mut steps = vec![Step::Enter(1000)];
    for block in 0..blocks {
        steps.push(Step::Enter(block));
        steps.extend((0..size).map(|index| Step::Touch(block * size + index)));
        steps.push(Step::Leave(block));
    }
    steps.push(Step::Leave(1000));
    steps
}

#[test]
fn warm_passes_read_model_minus_budget_and_keep_the_disk_busy() {
    let (blocks, size, slots) = (28, 29, 238);
    let total = blocks * size;
    let program = pass(blocks, size);
    let mut machine = Machine::new(total, slots, vec![]);
    machine.run(&[&program], 0);
    machine.run(&[&program], 0);
    machine.run(&[&program], 0);
    for _ in 0..5 {
        let before = machine.reads;
        let ticks = machine.run(&[&program], 0);
        let reads = machine.reads - before;
        let least = u64::from(total) - slots as u64;
        assert!(reads * 100 <= least * 103, "{reads} reads, least {least}");
        assert!(
            ticks * 100 <= reads * READ * 102,
            "{ticks} ticks for {reads} reads of {READ}"
        );
    }
}

#[test]
fn a_weight_that_is_swept_again_and_again_is_read_once_a_pass() {
    // Matrix products of long inputs walk over their whole weight many times; here it is a third of the pool.
    let (blocks, size, slots) = (10, 33, 96);
    let mut program = vec![Step::Enter(1000)];
    for block in 0..blocks {
        program.push(Step::Enter(block));
        for _ in 0..20 {
            program.extend((0..size).map(|index| Step::Touch(block * size + index)));
        }
        program.push(Step::Leave(block));
    }
    program.push(Step::Leave(1000));
    let total = u64::from(blocks * size);
    let mut machine = Machine::new(blocks * size, slots, vec![]);
    for _ in 0..2 {
        machine.run(&[&program], 1);
    }
    for _ in 0..20 {
        let before = machine.reads;
        machine.run(&[&program], 1);
        let reads = machine.reads - before;
        assert!(reads <= total * 5 / 4, "{reads} reads of {total} chunks");
    }
}

#[test]
fn where_computing_is_the_limit_reading_hides() {
    let program = pass(28, 29);
    let mut machine = Machine::new(28 * 29, 238, vec![]);
    for _ in 0..3 {
        machine.run(&[&program], READ);
    }
    let ticks = machine.run(&[&program], READ);
    let floor = 28 * 29 * READ;
    assert!(ticks * 100 <= floor * 103, "{ticks} ticks, floor {floor}");
}

#[test]
fn a_model_that_fits_is_read_once() {
    let program = pass(10, 10);
    let mut machine = Machine::new(100, 100, vec![]);
    for _ in 0..4 {
        machine.run(&[&program], 1);
    }
    assert_eq!(machine.reads, 100);
}

#[test]
fn a_loop_inside_a_pass_is_followed() {
    // An encoder once, then a decoder eight times: the decoder's loop must settle, whatever came before.
    let mut program = vec![];
    for block in 0..5 {
        program.extend([Step::Enter(block)]);
        program.extend((0..10).map(|index| Step::Touch(block * 10 + index)));
        program.extend([Step::Leave(block)]);
    }
    let mut decoder = vec![Step::Enter(100)];
    for block in 5..15 {
        decoder.push(Step::Enter(block));
        decoder.extend((0..10).map(|index| Step::Touch(block * 10 + index)));
        decoder.push(Step::Leave(block));
    }
    decoder.push(Step::Leave(100));
    let mut machine = Machine::new(150, 50, vec![]);
    machine.run(&[&program], 0);
    for _ in 0..4 {
        machine.run(&[&decoder], 0);
    }
    let before = machine.reads;
    for _ in 0..4 {
        machine.run(&[&decoder], 0);
    }
    // 100 chunks of the decoder, 50 slots less the window of 16.
    assert!(
        machine.reads - before <= 4 * 67,
        "{} reads",
        machine.reads - before
    );
}

#[test]
fn without_any_marker_the_order_is_learned_all_the_same() {
    let program: Vec<Step> = (0..300).map(Step::Touch).collect();
    let mut machine = Machine::new(300, 100, vec![]);
    for _ in 0..4 {
        machine.run(&[&program], 0);
    }
    let before = machine.reads;
    let ticks = machine.run(&[&program], 0);
    let reads = machine.reads - before;
    assert!(reads <= 220, "{reads} reads");
    assert!(
        ticks * 100 <= reads * READ * 110,
        "{ticks} ticks for {reads} reads"
    );
}

#[test]
fn of_experts_only_the_routed_ones_are_read() {
    // 8 blocks: 4 dense chunks, then 2 of 16 experts (one chunk each), different ones in every pass.
    let (blocks, dense, experts) = (8u32, 4u32, 16u32);
    let size = dense + experts;
    let sparse = (0..blocks * size)
        .filter(|chunk| chunk % size >= dense)
        .collect();
    let mut machine = Machine::new(blocks * size, 60, sparse);
    let mut random = 1u32;
    let mut routed_and_absent = 0;
    for round in 0..30 {
        let mut program = vec![Step::Enter(1000)];
        let mut routed = vec![];
        for block in 0..blocks {
            program.push(Step::Enter(block));
            program.extend((0..dense).map(|index| Step::Touch(block * size + index)));
            for _ in 0..2 {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let chunk = block * size + dense + (random >> 16) % experts;
                routed.push(chunk);
                program.push(Step::Touch(chunk));
            }
            program.push(Step::Leave(block));
        }
        program.push(Step::Leave(1000));
        let before = machine.reads;
        let absent = routed.iter().collect::<BTreeSet<_>>().len();
        machine.run(&[&program], 0);
        if round >= 5 {
            routed_and_absent += absent as u64;
            // Dense chunks (32) stay; nothing but routed experts may be read.
            assert!(
                machine.reads - before <= absent as u64 + 1,
                "{} reads, {absent} routed",
                machine.reads - before
            );
        }
    }
    assert!(routed_and_absent > 0);
}

/// Passes of 6 blocks: a dense chunk, then experts of 3 chunks each, of which every other pass takes number 0 (if
/// there is a `favourite`), and each another one than the pass before did.
fn mixture(round: u32, announced: bool, favourite: bool) -> Vec<Step> {
    let (experts, size) = (12, 1 + 12 * 3);
    let mut program = vec![Step::Enter(1000)];
    for block in 0..6 {
        let other = 1 + (round * 5 + block) % (experts - 1);
        program.extend([Step::Enter(block), Step::Touch(block * size)]);
        let routed = [
            (favourite && round.is_multiple_of(2)).then_some(0),
            Some(other),
        ]
        .into_iter()
        .flatten();
        let first = |expert| block * size + 1 + expert * 3;
        if announced {
            program.extend(
                routed
                    .clone()
                    .map(|expert| Step::Announce(first(expert), 3)),
            );
        }
        program
            .extend(routed.flat_map(|expert| (first(expert)..first(expert) + 3).map(Step::Touch)));
        program.push(Step::Leave(block));
    }
    program.push(Step::Leave(1000));
    program
}

fn mixture_machine(slots: usize) -> Machine {
    let sparse = (0..6 * 37).filter(|chunk| chunk % 37 > 0).collect();
    Machine::new(6 * 37, slots, sparse)
}

#[test]
fn announced_experts_come_while_the_first_one_computes() {
    let time = |announced| {
        let mut machine = mixture_machine(40);
        (0..20)
            .map(|round| machine.run(&[&mixture(round, announced, false)], READ))
            .sum::<u64>()
    };
    let (alone, announced) = (time(false), time(true));
    assert!(
        announced * 4 < alone * 3,
        "{announced} ticks, {alone} without"
    );
}

#[test]
fn an_expert_that_is_announced_often_stays() {
    let mut machine = mixture_machine(80);
    let mut reads = |rounds: std::ops::Range<u32>| {
        for round in rounds {
            machine.run(&[&mixture(round, true, true)], 1);
        }
        machine.reads
    };
    let before = reads(0..10);
    assert_eq!(reads(10..20) - before, 10 * 6 * 3, "only the other experts");
}

#[test]
fn threads_in_step_share_their_reads() {
    let program = pass(20, 20);
    let mut machine = Machine::new(400, 120, vec![]);
    for _ in 0..3 {
        machine.run(&[&program], 1);
    }
    let before = machine.reads;
    machine.run(&[&program], 1);
    let alone = machine.reads - before;
    let before = machine.reads;
    machine.run(&[&program, &program, &program, &program], 1);
    let shared = machine.reads - before;
    assert!(
        shared * 100 <= alone * 115,
        "{shared} reads by four, {alone} by one"
    );
}

#[test]
fn threads_that_go_backward_share_their_reads() {
    // Backward, a product sweeps its weight again and again, as its inner sum goes over the rows.
    let (blocks, size) = (24u32, 4u32);
    let mut program = pass(blocks, size);
    program.push(Step::Enter(2000));
    for block in (0..blocks).rev() {
        program.push(Step::Enter(2001 + block));
        for _ in 0..8 {
            program.extend((0..size).map(|index| Step::Touch(block * size + index)));
        }
        program.push(Step::Leave(2001 + block));
    }
    program.push(Step::Leave(2000));
    let (mut machine, reads) = alone(&program, blocks * size, least_slots(2), 2);
    let repeated = program.repeat(2);
    for threads in [2, 16] {
        let before = machine.reads;
        machine.run(&vec![&repeated[..]; threads], 1);
        let shared = machine.reads - before;
        assert!(
            shared * 100 <= reads * 115,
            "{shared} reads by {threads}, {reads} by one"
        );
    }
}

/// Reads of `passes` passes of one caller on a machine that knows the program.
fn alone(program: &[Step], chunks: u32, slots: usize, passes: u64) -> (Machine, u64) {
    let mut machine = Machine::new(chunks, slots, vec![]);
    for _ in 0..3 {
        machine.run(&[program], 1);
    }
    let before = machine.reads;
    for _ in 0..passes {
        machine.run(&[program], 1);
    }
    let reads = machine.reads - before;
    (machine, reads)
}

#[test]
fn a_caller_that_begins_during_anothers_pass_is_waited_for() {
    let program = pass(20, 40);
    let (mut machine, reads) = alone(&program, 800, 240, 1);
    let later = reads * READ * 2 / 5;
    let before = machine.reads;
    let ticks = machine.run_each(&[(&program, 0, 0), (&program, later, 0)]);
    let shared = machine.reads - before;
    // The second reads what the first had, alone; then both go on together. Without waiting it would be two passes.
    assert!(
        shared * 100 <= reads * 150,
        "{shared} reads by two, {reads} by one"
    );
    assert!(
        ticks * 100 <= reads * READ * 160,
        "{ticks} ticks for {shared} reads"
    );
}

#[test]
fn nobody_waits_for_a_caller_that_has_stopped_in_its_pass() {
    let program = pass(20, 40);
    let (mut machine, reads) = alone(&program, 800, 240, 1);
    let before = machine.reads;
    machine.run(&[&program, &program[..300]], 1);
    assert!(machine.reads - before <= reads * 130 / 100);
}

#[test]
fn a_smaller_budget_holds_at_once_and_a_larger_one_is_used() {
    let program = pass(20, 20);
    let mut machine = Machine::new(400, 200, vec![]);
    machine.run(&[&program], 1);
    machine.run(&[&program], 1);
    machine.engine.resize(40);
    let end = machine.now + 20 * READ;
    machine.pump();
    machine.advance(end);
    assert!(machine.engine.slots_used() <= 40);
    machine.run(&[&program], 1);
    machine.engine.resize(400);
    machine.run(&[&program], 1);
    let before = machine.reads;
    machine.run(&[&program], 1);
    assert_eq!(machine.reads, before);
}

#[test]
fn a_failing_chunk_is_not_read_in_a_loop_and_works_again_later() {
    let program = pass(10, 10);
    let mut machine = Machine::new(100, 40, vec![]);
    machine.run(&[&program], 1);
    machine.run(&[&program], 1);
    machine.fail.insert(37);
    let before = machine.reads;
    machine.run(&[&program], 1);
    assert!(
        machine.reads - before < 100,
        "{} reads",
        machine.reads - before
    );
    machine.fail.clear();
    machine.run(&[&program], 1);
    let before = machine.reads;
    machine.run(&[&program], 1);
    assert!(machine.reads - before <= 78);
}

fn any_program(chunks: u32) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        1 => (0u32..6).prop_map(Step::Enter),
        1 => (0u32..6).prop_map(Step::Leave),
        8 => (0..chunks).prop_map(Step::Touch),
        1 => (0..chunks, 1..chunks).prop_map(move |(first, count)| {
            Step::Announce(first, count.min(chunks - first))
        }),
    ];
    prop::collection::vec(step, 1..300)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whatever threads do, with whatever budget that is allowed: it ends, and the budget holds.
    #[test]
    fn never_over_budget_never_stuck(
        programs in prop::collection::vec(any_program(60), 1..5),
        extra in 0usize..40,
        compute in 0u64..30,
        rounds in 1usize..4,
        sparse in prop::collection::btree_set(0u32..60, 0..30),
        failing in prop::collection::btree_set(0u32..60, 0..4),
    ) {
        let mut machine = Machine::new(60, least_slots(2) + extra, sparse.into_iter().collect());
        machine.fail = failing;
        let programs: Vec<&[Step]> = programs.iter().map(Vec::as_slice).collect();
        for _ in 0..rounds {
            machine.run(&programs, compute);
        }
    }

    /// Several callers of the same pass, of different speeds, cost what one costs: within 15 %.
    #[test]
    fn callers_at_once_share_one_sweep(
        blocks in 8u32..20,
        size in 20u32..40,
        share in 20u64..80,
        callers in prop::collection::vec((0u64..2000, 0u64..6), 2..6),
    ) {
        let total = blocks * size;
        let slots = (u64::from(total) * share / 100) as usize;
        prop_assume!(slots >= 32);
        let passes = 5;
        let program = pass(blocks, size);
        let (mut machine, reads) = alone(&program, total, slots, passes);
        let repeated = program.repeat(passes as usize);
        let callers: Vec<_> = callers.iter().map(|&(delay, compute)| (&repeated[..], delay, compute)).collect();
        let before = machine.reads;
        machine.run_each(&callers);
        let shared = machine.reads - before;
        // Who begins some reads later has to catch up, or ends as much later.
        let latest = callers.iter().map(|caller| caller.1).max().unwrap_or(0) / READ;
        prop_assert!(shared * 100 <= reads * 115 + (30 + latest) * 100, "{shared} reads by {}, {reads} by one", callers.len());
    }

    /// A cyclic trace: within 3 % (and the window) of the best possible, for any size and budget.
    #[test]
    fn reads_close_to_the_optimum(blocks in 4u32..30, size in 2u32..30, share in 10u64..90, compute in 0u64..20) {
        let total = u64::from(blocks * size);
        let slots = (total * share / 100) as usize;
        prop_assume!(slots >= least_slots(2));
        let program = pass(blocks, size);
        let mut machine = Machine::new(blocks * size, slots, vec![]);
        for _ in 0..3 {
            machine.run(&[&program], compute);
        }
        let before = machine.reads;
        for _ in 0..3 {
            machine.run(&[&program], compute);
        }
        let optimum = 3 * (total - slots as u64);
        // Reads in flight, chunks ready, latest touches: a smaller share of a larger pool.
        let window = 3 * ((slots as u64 / 8).clamp(2, 6) + (slots as u64 / 16).clamp(1, 3) + 4 + 2);
        prop_assert!(machine.reads - before <= optimum * 103 / 100 + window, "{} reads, optimum {optimum}", machine.reads - before);
    }
}
