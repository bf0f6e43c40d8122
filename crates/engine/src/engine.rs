//! The state machine: events in, actions out.

use crate::action::Action;
use crate::bits::ChunkSet;
use crate::convoy::{Circle, Convoy};
use crate::cursor::Cursor;
use crate::marker::Marker;
use crate::plan::Plan;
use crate::pool::{Pool, Residence};
use crate::trace::{Evidence, Trace};
use crate::{Caller, Chunk, Slot};
use std::collections::{HashMap, VecDeque};
use std::ops::Range;

/// What the engine must know of a model's chunks.
#[derive(Debug, Clone, Default)]
pub struct Chunks {
    /// How many there are.
    pub count: u32,
    /// Those that hold weights at all, in address order.
    pub used: Vec<Chunk>,
    /// Those of which one pass may need only some: rows of embeddings, experts.
    pub sparse: Vec<Chunk>,
    /// Those among the sparse whose slices are smaller than a chunk (rows): touches of one after the other mean
    /// that the whole weight is being used.
    pub rows: Vec<Chunk>,
}

/// Counts since the engine was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Chunks whose read was started.
    pub reads: u64,
    /// Touches that found their chunk absent.
    pub misses: u64,
    /// Chunks that left the pool.
    pub withdrawn: u64,
    /// Chunks that left without having been touched: reads for nothing.
    pub wasted: u64,
    /// Passes begun.
    pub passes: u64,
}

/// Requests in flight. Four chunks of 2 MiB keep a disk at full speed; each one more is a slot that keeps nothing, so
/// that a pool of few slots has fewer.
pub(crate) const DEPTH: usize = 6;
/// Chunks ready before they are needed, beyond those in flight.
pub(crate) const AHEAD: usize = 3;
/// Chunks read ahead in a sweep over a weight that is otherwise used by rows.
const SWEEP: Chunk = 8;
/// So many times the chunks that may be ahead are looked at to find them. Where fewer of them stream, none is in a hurry.
const HORIZON: usize = 64;
/// A plan is made anew at most so many times in as many events as a pass has chunks: each time costs as much as they do.
const PLANS: u64 = 4;
/// Passes without a chunk that left too early before fewer of the latest touches are protected.
const CALM: u32 = 8;
/// Passes by one caller alone before the pool no longer holds what several need to stay together.
const COMPANY: u64 = 8;
/// Callers remembered at most.
const CALLERS: usize = 256;

/// The fewest slots that a model can run in on a machine with `threads` processors.
pub fn least_slots(threads: usize) -> usize {
    // Each thread may stand with one instruction in two chunks, and no touched chunk may leave before it was read.
    2 * threads.clamp(1, 16) + 8
}

/// Whether a touch of the chunk may have gone unseen since then.
fn was_visible(pool: &Pool, visible_until: &[u64], since: u64, chunk: Chunk) -> bool {
    matches!(
        pool.get(chunk),
        Residence::Touched { .. } | Residence::Pinned { .. }
    ) || visible_until
        .get(chunk as usize)
        .is_some_and(|&until| until >= since)
}

/// What a plan was made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Planned {
    /// What had been learned: the trace's version, and how many chunks return. Both change often at first.
    learned: (u64, usize),
    /// Slots, whether a pass is known, whether there are several callers, room on the shelf.
    given: (usize, bool, bool, u64),
    /// When, in events.
    at: u64,
}

/// The policy for one model.
#[derive(Debug)]
pub struct Engine {
    pub(crate) count: usize,
    pub(crate) used: Vec<Chunk>,
    pub(crate) sparse: ChunkSet,
    pub(crate) rows: ChunkSet,
    pub(crate) limit: usize,
    pub(crate) threads: usize,
    /// Chunks that are being decoded while as many as ever are being read.
    pub(crate) decoders: usize,
    /// Bytes of each chunk as it is stored.
    pub(crate) stored: Vec<u32>,
    /// Room for chunks as they are stored, in bytes, and which ones it is for.
    pub(crate) shelf_bytes: u64,
    pub(crate) shelf: Plan,
    pub(crate) pool: Pool,
    pub(crate) trace: Trace,
    pub(crate) plan: Plan,
    pub(crate) planned: Option<Planned>,
    /// How often it was planned anew.
    pub(crate) plans: u64,
    pub(crate) circle: Circle,
    /// Chunks of one pass, and their bytes as they are stored.
    pub(crate) cycle: usize,
    pub(crate) cycle_bytes: u64,
    pub(crate) convoy: Option<Convoy>,
    /// Up to which pass several callers are reckoned with.
    pub(crate) company_until: u64,
    /// Callers whose demands wait for the rear of the convoy.
    pub(crate) held: Vec<Caller>,
    pub(crate) cursors: HashMap<Caller, Cursor>,
    pub(crate) clock: u64,
    pub(crate) in_flight: usize,
    /// Chunks that threads wait for and that have no slot yet, and for which caller.
    pub(crate) demands: VecDeque<(Chunk, Caller)>,
    /// Chunks that will be used because their neighbours are.
    pub(crate) wishes: VecDeque<Chunk>,
    /// What blocks are guessed to use.
    pub(crate) guesses: HashMap<Marker, Vec<Chunk>>,
    /// Chunks that came as wishes since the last marker.
    pub(crate) wished: ChunkSet,
    pub(crate) wished_order: Vec<Chunk>,
    /// What the trace says to be used next: see `look_ahead`.
    pub(crate) soon: ChunkSet,
    /// Chunks whose last read failed: read again when a thread needs them, not ahead of need.
    pub(crate) failing: ChunkSet,
    /// Slots whose memory is still held though the budget shrank.
    pub(crate) stale_slots: Vec<Slot>,
    /// When each chunk was last visible without its touch being seen.
    pub(crate) visible_until: Vec<u64>,
    /// Most recent touches that stay, so that operators which come back to a chunk find it.
    pub(crate) guard: usize,
    /// Chunks that were needed again after they had left, in the same traversal: they are used twice a pass.
    pub(crate) returning: ChunkSet,
    pub(crate) returning_count: usize,
    /// Returns in this pass over a longer way than a guard is worth for one of them.
    pub(crate) far_returns: usize,
    /// Passes since a chunk last left too early.
    pub(crate) calm_passes: u32,
    /// Touched chunks passed over in the queue of `pool.recent` because the plan keeps them, or they are sparse.
    pub(crate) kept: VecDeque<(Chunk, u64)>,
    pub(crate) doubtful: VecDeque<(Chunk, u64)>,
    pub(crate) counters: Counters,
}

impl Engine {
    /// An engine for `chunks` with room for `slots` of them, on a machine with `threads` processors.
    pub fn new(chunks: Chunks, slots: usize, threads: usize) -> Self {
        let count = chunks.count as usize;
        let set = |members: &[Chunk]| {
            let mut set = ChunkSet::new(count);
            for &chunk in members {
                set.insert(chunk);
            }
            set
        };
        let mut engine = Self {
            count,
            sparse: set(&chunks.sparse),
            rows: set(&chunks.rows),
            used: chunks.used,
            limit: slots.max(1),
            threads: threads.max(1),
            decoders: 0,
            stored: Vec::new(),
            shelf_bytes: 0,
            shelf: Plan::default(),
            pool: Pool::new(count),
            trace: Trace::default(),
            plan: Plan::default(),
            planned: None,
            plans: 0,
            circle: Circle::default(),
            cycle: 0,
            cycle_bytes: 0,
            convoy: None,
            company_until: 0,
            held: Vec::new(),
            cursors: HashMap::new(),
            clock: 0,
            in_flight: 0,
            demands: VecDeque::new(),
            wishes: VecDeque::new(),
            guesses: HashMap::new(),
            wished: ChunkSet::new(count),
            wished_order: Vec::new(),
            soon: ChunkSet::new(count),
            failing: ChunkSet::new(count),
            stale_slots: Vec::new(),
            visible_until: vec![0; count],
            guard: 0,
            far_returns: 0,
            returning: ChunkSet::new(count),
            returning_count: 0,
            calm_passes: 0,
            kept: VecDeque::new(),
            doubtful: VecDeque::new(),
            counters: Counters::default(),
        };
        engine.replan();
        engine
    }

    /// Chunks are decoded after their read, `decoders` of them at once.
    #[must_use]
    pub fn with_decoders(mut self, decoders: usize) -> Self {
        self.decoders = decoders;
        self.replan();
        self
    }

    /// What was counted so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Slots in use.
    pub fn slots_used(&self) -> usize {
        self.pool.used()
    }

    /// Slots allowed.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Chunks that the plan keeps for good.
    pub fn kept(&self) -> usize {
        self.plan.count()
    }

    /// Where a chunk is.
    pub fn residence(&self, chunk: Chunk) -> Residence {
        self.pool.get(chunk)
    }

    /// A caller passed a marker.
    pub fn passed(&mut self, caller: Caller, marker: Marker) {
        self.clock += 1;
        if self.cursors.len() >= CALLERS && !self.cursors.contains_key(&caller) {
            let oldest = self
                .cursors
                .iter()
                .min_by_key(|(_, cursor)| cursor.moved)
                .map(|(&caller, _)| caller);
            if let Some(oldest) = oldest {
                self.cursors.remove(&oldest);
            }
        }
        let count = self.count;
        let cursor = self
            .cursors
            .entry(caller)
            .or_insert_with(|| Cursor::new(count));
        let (pool, visible_until) = (&self.pool, &self.visible_until);
        let since = cursor.moved;
        let consumed = &cursor.consumed;
        self.trace.finish(cursor.marker, |chunk| {
            if consumed.contains(chunk) {
                Evidence::Used
            } else if was_visible(pool, visible_until, since, chunk) {
                Evidence::Unknown
            } else {
                Evidence::Unused
            }
        });
        self.trace.follow(cursor.marker, marker);
        if marker.is_leave() {
            cursor.depth = cursor.depth.saturating_sub(1);
        } else {
            if cursor.depth == 0 {
                cursor.alone = false;
                self.counters.passes += 1;
                self.failing.clear();
                self.calm_passes += 1;
                self.far_returns = 0;
                if self.calm_passes > CALM {
                    self.guard = self.guard.saturating_sub(1);
                }
            }
            cursor.depth += 1;
        }
        cursor.pass(marker);
        cursor.moved = self.clock;
        cursor.stir(self.clock);
        if self.cursors.len() > 1
            && self
                .cursors
                .values()
                .filter(|other| other.depth > 0)
                .count()
                > 1
        {
            self.company_until = self.counters.passes + COMPANY;
        }
        self.wishes.clear();
        self.wished.clear();
        self.wished_order.clear();
        self.guess(marker);
        self.replan();
    }

    /// A ready chunk was touched by `caller`, or by a worker thread that never passed a marker.
    pub fn touched(&mut self, caller: Caller, chunk: Chunk) {
        self.clock += 1;
        if matches!(
            self.pool.get(chunk),
            Residence::Ready { .. } | Residence::Loading { .. }
        ) {
            self.pool.touch(chunk);
        }
        let caller = self.attribute(caller, chunk);
        let count = self.count;
        let cursor = self
            .cursors
            .entry(caller)
            .or_insert_with(|| Cursor::new(count));
        let sweep = self.rows.contains(chunk) && cursor.sweeps(chunk);
        let doubtful = self.sparse.contains(chunk) && !sweep;
        let index = self
            .trace
            .used(cursor.marker, chunk, cursor.furthest, doubtful);
        cursor.consume(&self.trace, chunk, index);
        self.reached(caller, chunk);
    }

    fn reached(&mut self, caller: Caller, chunk: Chunk) {
        if let Some(cursor) = self.cursors.get_mut(&caller) {
            let (pool, visible_until, since) = (&self.pool, &self.visible_until, cursor.moved);
            cursor.reach(&self.trace, chunk, |chunk| {
                was_visible(pool, visible_until, since, chunk)
            });
            cursor.stir(self.clock);
        }
    }

    /// `caller` waits for an absent chunk. `unit` is what is used together with it.
    pub fn missing(&mut self, caller: Caller, chunk: Chunk, unit: Range<Chunk>) {
        self.clock += 1;
        self.counters.misses += 1;
        let caller = self.attribute(caller, chunk);
        match self.pool.get(chunk) {
            Residence::Absent => {
                if !self.demands.contains(&(chunk, caller)) {
                    self.demands.push_back((chunk, caller));
                }
            }
            Residence::Loading { slot, .. } => self.pool.set(
                chunk,
                Residence::Loading {
                    slot,
                    awaited: true,
                },
            ),
            // It came while the news was on its way: the thread has gone on, or is about to.
            Residence::Ready { .. } | Residence::Touched { .. } | Residence::Pinned { .. } => {}
        }
        self.reached(caller, chunk);
        let again = self
            .cursors
            .get(&caller)
            .is_some_and(|cursor| cursor.consumed.contains(chunk));
        if again {
            self.came_back(chunk);
        }
        let Some(cursor) = self.cursors.get(&caller) else {
            return self.wish_unit(caller, chunk, unit);
        };
        if self
            .trace
            .segment(cursor.marker)
            .is_some_and(|segment| segment.expects(chunk))
        {
            return;
        }
        if self.rows.contains(chunk) && cursor.sweeps(chunk) {
            let rest = (chunk + 1..=chunk + SWEEP).take_while(|&next| self.rows.contains(next));
            self.wish(rest.collect::<Vec<_>>());
        }
        self.wish_unit(caller, chunk, unit);
    }

    /// A chunk is needed a second time in one traversal, but has left.
    fn came_back(&mut self, chunk: Chunk) {
        if self.returning.insert(chunk) {
            // Kept for good it saves two reads a pass, where another chunk saves one.
            self.returning_count += 1;
            return;
        }
        // There are too many to keep them all. Had that many more of the latest touches stayed, it would still be
        // here; each of them costs one read per pass, so only if the way back is short, or is gone more often in a
        // pass than it is long (an operator that sweeps a large weight again and again).
        let distance = self.pool.touches_since(chunk);
        if distance >= self.reach() {
            return;
        }
        if distance >= self.limit / 4 {
            self.far_returns += 1;
            if self.far_returns <= distance {
                return;
            }
        }
        self.guard = self.guard.max(distance + 1);
        self.far_returns = 0;
        self.calm_passes = 0;
    }

    /// A read ended well: the chunk may be shown.
    pub fn loaded(&mut self, chunk: Chunk) {
        self.clock += 1;
        if let Residence::Loading { slot, awaited } = self.pool.get(chunk) {
            self.in_flight -= 1;
            self.pool.set(chunk, Residence::Ready { slot, awaited });
        }
    }

    /// A read ended badly. Where nobody waits, the chunk is absent again and not read ahead before the next pass.
    /// Where a thread waits, its slot is returned: the pager must end that wait (with a substitute that can't be
    /// mistaken for the weight) and say [`loaded`](Self::loaded).
    pub fn failed(&mut self, chunk: Chunk) -> Option<Slot> {
        self.clock += 1;
        self.failing.insert(chunk);
        match self.pool.get(chunk) {
            Residence::Loading {
                slot,
                awaited: true,
            } => Some(slot),
            Residence::Loading { .. } => {
                self.in_flight -= 1;
                self.pool.unseat(chunk);
                None
            }
            _ => None,
        }
    }

    /// Drops a chunk whatever it is worth (its bytes can't be trusted). Nothing happens to one that is being read.
    pub fn forget(&mut self, chunk: Chunk, actions: &mut Vec<Action>) {
        if !matches!(
            self.pool.get(chunk),
            Residence::Absent | Residence::Loading { .. } | Residence::Pinned { .. }
        ) {
            self.withdraw(chunk, actions);
        }
    }

    /// Keeps a chunk for good whose bytes are no longer those that are stored. Its slot is no slot of the budget's any
    /// more: [`resize`](Self::resize) to one fewer. False where the chunk is not in the pool.
    pub fn pin(&mut self, chunk: Chunk) -> bool {
        self.clock += 1;
        self.pool.pin(chunk)
    }

    /// The budget is now `slots`.
    pub fn resize(&mut self, slots: usize) {
        if slots < self.limit {
            self.stale_slots = self.pool.vacated();
        }
        self.limit = slots.max(1);
        self.guard = self.guard.min(self.reach());
        self.replan();
    }

    /// Decides what is to be done now.
    pub fn pump(&mut self, actions: &mut Vec<Action>) {
        let depth = self.depth();
        self.convoy = self.gather();
        self.shrink(actions);
        self.serve_demands(actions);
        if self.in_flight >= depth {
            return;
        }
        let ahead = self.look_ahead();
        let soon = std::mem::take(&mut self.soon);
        while self.in_flight < depth {
            let Some(&chunk) = self.wishes.front() else {
                break;
            };
            if self.wants(chunk) && !self.read(chunk, false, Some(&soon), actions) {
                break;
            }
            self.wishes.pop_front();
        }
        for chunk in ahead {
            if self.in_flight >= depth
                || (self.wants(chunk) && !self.read(chunk, false, Some(&soon), actions))
            {
                break;
            }
        }
        self.soon = soon;
    }

    fn wants(&self, chunk: Chunk) -> bool {
        self.pool.get(chunk) == Residence::Absent && !self.failing.contains(chunk)
    }

    /// How many chunks load at once.
    pub fn depth(&self) -> usize {
        self.depth_in(self.limit, self.shelf_bytes > 0)
    }

    /// How many chunks load at once in so many slots. Where chunks stay in slots, each one more is one that doesn't.
    fn depth_in(&self, slots: usize, shelf: bool) -> usize {
        let most = slots / if shelf { 3 } else { 8 };
        (DEPTH + self.decoders).min(most.max(2))
    }

    pub(crate) fn guard(&self) -> usize {
        let least = (self.threads + 2).min(self.limit / 2);
        self.guard.clamp(least, self.reach().max(least))
    }

    /// The most touches that the guard may keep: the rest is for what is read ahead.
    pub(crate) fn reach(&self) -> usize {
        self.limit * 3 / 4
    }

    /// Slots that the plan leaves to streaming.
    pub(crate) fn window(&self) -> usize {
        self.window_in(self.limit, self.shelf_bytes > 0)
    }

    /// Slots that a plan for so many would leave to streaming, where chunks stay in slots.
    pub fn streaming_of(&self, slots: usize) -> usize {
        self.window_in(slots, false)
    }

    fn window_in(&self, slots: usize, shelf: bool) -> usize {
        let ahead = AHEAD.min((slots / 16).max(1));
        (self.depth_in(slots, shelf) + ahead + self.guard()).min(slots)
    }

    /// How many of `chunks` that a pass uses may stay in so many slots.
    pub(crate) fn room(&self, chunks: usize, slots: usize, shelf: bool) -> usize {
        if chunks <= slots {
            return chunks;
        }
        if shelf {
            // On the shelf each takes less.
            return 0;
        }
        slots.saturating_sub(self.window_in(slots, shelf) + self.spread())
    }

    /// The cycle of passes that goes on now.
    fn cycle(&self) -> Vec<(Marker, Vec<Chunk>)> {
        let active = self.active();
        let marker = active
            .first()
            .map_or(Marker::OUTSIDE, |(_, cursor)| cursor.marker);
        self.trace.cycle(marker)
    }

    /// The chunks of a cycle in order of use, each once, from the lowest numbered on: the same wherever it begins.
    fn tour(&self, cycle: &[(Marker, Vec<Chunk>)]) -> Vec<Chunk> {
        let mut seen = ChunkSet::new(self.count);
        let chunks = cycle.iter().flat_map(|(_, chunks)| chunks).copied();
        let mut tour: Vec<Chunk> = chunks.filter(|&chunk| seen.insert(chunk)).collect();
        if let Some((lowest, _)) = tour.iter().enumerate().min_by_key(|&(_, chunk)| chunk) {
            tour.rotate_left(lowest);
        }
        tour
    }

    /// Cursors inside a pass, latest first; where there are none, the one that moved last.
    fn active(&self) -> Vec<(Caller, &Cursor)> {
        let callers = || {
            self.cursors
                .iter()
                .map(|(&caller, cursor)| (caller, cursor))
        };
        let mut active: Vec<_> = callers().filter(|(_, cursor)| cursor.depth > 0).collect();
        if active.is_empty() {
            active.extend(callers().max_by_key(|(_, cursor)| cursor.moved));
        }
        active.sort_by_key(|(_, cursor)| std::cmp::Reverse(cursor.moved));
        active
    }

    /// The caller on whose behalf a thread touched a chunk.
    fn attribute(&self, thread: Caller, chunk: Chunk) -> Caller {
        if self.cursors.contains_key(&thread) {
            return thread;
        }
        let expects = |cursor: &Cursor| {
            !cursor.consumed.contains(chunk)
                && self
                    .trace
                    .segment(cursor.marker)
                    .is_some_and(|segment| segment.index_of(chunk).is_some())
        };
        self.cursors
            .iter()
            .filter(|(_, cursor)| cursor.depth > 0)
            .max_by_key(|(_, cursor)| (expects(cursor), cursor.moved))
            .or_else(|| self.cursors.iter().max_by_key(|(_, cursor)| cursor.moved))
            .map_or(thread, |(&caller, _)| caller)
    }

    pub(crate) fn replan(&mut self) {
        // Before a whole pass is known, nearby addresses are nearby in time: any even choice serves.
        let known = self.counters.passes > 1;
        let state = Planned {
            learned: (self.trace.version(), self.returning_count),
            given: (self.limit, known, self.in_company(), self.shelf_bytes),
            at: self.clock,
        };
        if let Some(planned) = self.planned
            && planned.given == state.given
            && (planned.learned == state.learned
                || (self.clock - planned.at) * PLANS < self.cycle as u64)
        {
            return;
        }
        self.planned = Some(state);
        let cycle = known.then(|| self.cycle());
        let tour = match &cycle {
            Some(cycle) => self.tour(cycle),
            None => self.used.clone(),
        };
        self.cycle = tour.len();
        let room = self.room(tour.len(), self.limit, self.shelf_bytes > 0);
        self.plan = Plan::scatter(&tour, room, self.count, &self.returning);
        self.plan_shelf(&tour);
        self.plans += 1;
        self.circle = match &cycle {
            Some(cycle) => Circle::new(cycle, &self.plan),
            None => Circle::of_addresses(&self.used, &self.plan),
        };
        // What was passed over under the old plan is judged anew.
        for queue in [&mut self.doubtful, &mut self.kept] {
            while let Some(entry) = queue.pop_back() {
                self.pool.recent.push_front(entry);
            }
        }
    }

    /// The next chunks in order of use: as many as there is room for, those that stay not counted. They are in
    /// `self.soon` then.
    pub(crate) fn look_ahead(&mut self) -> Vec<Chunk> {
        let mut soon = std::mem::take(&mut self.soon);
        soon.clear();
        let ahead = self.ahead(&mut soon);
        self.soon = soon;
        ahead
    }

    fn ahead(&self, seen: &mut ChunkSet) -> Vec<Chunk> {
        let window = match self.shelf_bytes {
            0 => self.window(),
            // What lies on the shelf comes at once: it would fill every slot, and leave none to a thread that waits.
            _ => self.window() - self.guard(),
        };
        let mut ahead = Vec::new();
        for (caller, cursor) in self.active() {
            let mut streaming = 0;
            cursor.upcoming(&self.trace, window * HORIZON, |chunk| {
                if self.is_ahead(caller, chunk) {
                    return false;
                }
                let resident = match self.pool.get(chunk) {
                    Residence::Touched { .. } => self.plan.keeps(chunk),
                    Residence::Pinned { .. } => true,
                    _ => false,
                };
                if !resident {
                    streaming += 1;
                    if seen.insert(chunk) {
                        ahead.push(chunk);
                    }
                }
                streaming < window
            });
        }
        ahead
    }

    fn serve_demands(&mut self, actions: &mut Vec<Action>) {
        self.held.clear();
        for _ in 0..self.demands.len() {
            let Some((chunk, caller)) = self.demands.pop_front() else {
                break;
            };
            if self.pool.get(chunk) != Residence::Absent {
                continue;
            }
            if self.is_ahead(caller, chunk) {
                self.demands.push_back((chunk, caller));
                self.held.push(caller);
                continue;
            }
            if !self.read(chunk, true, None, actions) {
                // Every slot is being read or was just touched: the next event changes that.
                self.demands.push_front((chunk, caller));
                break;
            }
        }
    }

    /// Starts a read if a slot can be had.
    fn read(
        &mut self,
        chunk: Chunk,
        awaited: bool,
        soon: Option<&ChunkSet>,
        actions: &mut Vec<Action>,
    ) -> bool {
        if self.pool.used() >= self.limit && !self.make_room(awaited, soon, actions) {
            return false;
        }
        let Some(slot) = self.pool.seat(chunk) else {
            return false;
        };
        self.pool.set(chunk, Residence::Loading { slot, awaited });
        self.in_flight += 1;
        self.counters.reads += 1;
        actions.push(Action::Read { chunk, slot });
        true
    }
}
