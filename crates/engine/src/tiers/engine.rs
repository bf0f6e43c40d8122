//! The state machine: requests in, reads and copies out.

use crate::bits::ChunkSet;
use crate::plan::Plan;
use crate::tiers::order::Order;
use crate::tiers::plan::TierPlan;
use crate::{Caller, Chunk, Slot};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// What the engine must know of a model.
#[derive(Debug, Clone, Default)]
pub struct Blocks {
    /// How many chunks there are.
    pub count: u32,
    /// The chunks of block 1, 2, ...; a chunk may belong to several.
    pub blocks: Vec<Vec<Chunk>>,
    /// Chunks that are used outside of blocks: on the device before any block begins, and never taken away.
    pub always: Vec<Chunk>,
}

/// How many reads and copies are under way at most.
#[derive(Debug, Clone, Copy)]
pub struct Depths {
    /// From disk.
    pub reads: usize,
    /// To the device.
    pub copies: usize,
}

/// A budget of too few slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooSmall {
    /// How many would do.
    pub least: usize,
}

/// What the pager is to do, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TierAction {
    /// Read the chunk into a host slot; answer with [`Tiers::read`].
    Read {
        /// The chunk.
        chunk: Chunk,
        /// The host slot.
        slot: Slot,
    },
    /// Take the chunk away from its address; the slot is free.
    Withdraw {
        /// The chunk.
        chunk: Chunk,
        /// The device slot.
        slot: Slot,
    },
    /// Publish the device slot at the chunk's address and copy the chunk there; answer with [`Tiers::copied`].
    Copy {
        /// The chunk.
        chunk: Chunk,
        /// The host slot that holds it.
        from: Slot,
        /// The device slot.
        to: Slot,
    },
    /// Give the memory of this device slot back.
    Release {
        /// The device slot.
        slot: Slot,
    },
}

/// Counts since the engine was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TierCounters {
    /// Requests that had to wait for a chunk.
    pub waited: u64,
    /// Chunks taken off the device.
    pub withdrawn: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum OnHost {
    #[default]
    Absent,
    Reading(Slot),
    Ready(Slot),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum OnDevice {
    #[default]
    Absent,
    Copying(Slot),
    Present(Slot),
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    host: OnHost,
    device: OnDevice,
    /// Requests that hold it.
    holders: u32,
    /// Work of the device that uses it and may not be done.
    uses: u32,
}

#[derive(Debug)]
struct Request {
    ticket: u64,
    caller: Caller,
    chunks: Arc<[Chunk]>,
    admitted: bool,
}

#[derive(Debug, Default)]
struct Cursor {
    block: u32,
    inside: bool,
    moved: u64,
}

/// Callers remembered at most.
const CALLERS: usize = 64;

/// The policy for one model on one device.
#[derive(Debug)]
pub struct Tiers {
    blocks: Vec<Arc<[Chunk]>>,
    always: ChunkSet,
    states: Vec<State>,
    limit: usize,
    /// Device slots with memory and without a chunk.
    free: Vec<Slot>,
    /// Device slots without memory.
    gone: Vec<Slot>,
    next_slot: Slot,
    host_limit: usize,
    host_free: Vec<Slot>,
    host_slots: usize,
    plan: TierPlan,
    host_plan: Plan,
    /// All that the device doesn't keep stays on the host.
    host_holds_all: bool,
    order: Order,
    cursors: HashMap<Caller, Cursor>,
    clock: u64,
    requests: VecDeque<Request>,
    /// Requests that were served and not left, with who holds them.
    held: HashMap<u64, (Caller, Arc<[Chunk]>)>,
    next_ticket: u64,
    /// Chunks whose last read failed: read again when somebody asks for them.
    failing: ChunkSet,
    depths: Depths,
    reading: usize,
    copying: usize,
    counters: TierCounters,
}

impl Tiers {
    /// An engine for `device_slots`, all of which have memory, and at most `host_slots`, of which there are none yet
    /// (see [`host_grew`](Self::host_grew)).
    ///
    /// # Errors
    /// Too few device slots.
    pub fn new(
        blocks: Blocks,
        device_slots: usize,
        host_slots: usize,
        depths: Depths,
    ) -> Result<Self, TooSmall> {
        let count = blocks.count as usize;
        let mut always = ChunkSet::new(count);
        for &chunk in &blocks.always {
            always.insert(chunk);
        }
        let mut tiers = Self {
            order: Order::new(blocks.blocks.len()),
            blocks: blocks.blocks.into_iter().map(Arc::from).collect(),
            always,
            states: vec![State::default(); count],
            limit: device_slots,
            free: (0..device_slots as Slot).rev().collect(),
            gone: Vec::new(),
            next_slot: device_slots as Slot,
            host_limit: host_slots,
            host_free: Vec::new(),
            host_slots: 0,
            plan: TierPlan::default(),
            host_plan: Plan::default(),
            host_holds_all: false,
            cursors: HashMap::new(),
            clock: 0,
            requests: VecDeque::new(),
            held: HashMap::new(),
            next_ticket: 0,
            failing: ChunkSet::new(count),
            depths,
            reading: 0,
            copying: 0,
            counters: TierCounters::default(),
        };
        tiers.replan(device_slots)?;
        Ok(tiers)
    }

    /// What was counted so far.
    pub fn counters(&self) -> TierCounters {
        self.counters
    }

    /// Chunks that stay on the device for good.
    pub fn kept(&self) -> usize {
        self.plan.count()
    }

    /// Whether nothing will be read from disk a second time.
    pub fn host_holds_all(&self) -> bool {
        self.host_holds_all
    }

    /// Device slots that hold a chunk.
    pub fn device_used(&self) -> usize {
        self.next_slot as usize - self.gone.len() - self.free.len()
    }

    /// Host slots that hold a chunk.
    pub fn host_used(&self) -> usize {
        self.host_slots - self.host_free.len()
    }

    /// Whether the chunk's copy has been asked for and not ended.
    pub fn is_copying(&self, chunk: Chunk) -> bool {
        matches!(self.state(chunk).device, OnDevice::Copying(_))
    }

    /// There are `slots` host slots now.
    pub fn host_grew(&mut self, slots: usize) {
        let slots = slots.min(self.host_limit);
        for slot in self.host_slots..slots {
            self.host_free.insert(0, slot as Slot);
        }
        self.host_slots = self.host_slots.max(slots);
    }

    /// Host memory will not grow beyond what there is.
    pub fn host_is_limited(&mut self) {
        self.host_limit = self.host_slots;
        self.plan_host();
    }

    /// `caller` is about to use a block. The ticket is served when all its chunks are on their way to the device.
    pub fn enter(&mut self, caller: Caller, block: u32) -> u64 {
        self.clock += 1;
        if self.cursors.len() >= CALLERS && !self.cursors.contains_key(&caller) {
            let oldest = self.cursors.iter().min_by_key(|(_, cursor)| cursor.moved);
            if let Some((&oldest, _)) = oldest {
                self.cursors.remove(&oldest);
            }
        }
        let cursor = self.cursors.entry(caller).or_default();
        if cursor.moved > 0 {
            self.order.follow(cursor.block, block);
        }
        *cursor = Cursor {
            block,
            inside: true,
            moved: self.clock,
        };
        let chunks = self.chunks_of(block);
        self.ask(caller, chunks)
    }

    /// The block's chunks.
    pub fn chunks_of(&self, block: u32) -> Arc<[Chunk]> {
        (block as usize)
            .checked_sub(1)
            .and_then(|index| self.blocks.get(index))
            .map_or_else(|| Arc::from([]), Arc::clone)
    }

    /// `caller` is about to use these chunks, as no part of a pass.
    pub fn ask(&mut self, caller: Caller, chunks: Arc<[Chunk]>) -> u64 {
        self.next_ticket += 1;
        let ticket = self.next_ticket;
        for &chunk in chunks.iter() {
            self.failing.remove(chunk);
        }
        self.requests.push_back(Request {
            ticket,
            caller,
            chunks,
            admitted: false,
        });
        self.admit();
        if self.requests.iter().any(|request| request.ticket == ticket) {
            self.counters.waited += 1;
        }
        ticket
    }

    /// Whether a ticket's chunks are all published. From then on they stay until [`leave`](Self::leave).
    pub fn is_served(&self, ticket: u64) -> bool {
        self.held.contains_key(&ticket)
    }

    /// Why a waiting ticket can never be served: it doesn't fit beside what waiting callers hold themselves.
    pub fn is_hopeless(&self, ticket: u64) -> Option<TooSmall> {
        let request = self.requests.front()?;
        if request.ticket != ticket || request.admitted {
            return None;
        }
        let waits = |caller| self.requests.iter().any(|request| request.caller == caller);
        if self.held.values().any(|&(caller, _)| !waits(caller)) {
            return None;
        }
        let least = self.needed_beside_held(&request.chunks);
        (least > self.limit).then_some(TooSmall { least })
    }

    /// Whether any ticket was served and not left.
    pub fn is_held(&self) -> bool {
        !self.held.is_empty()
    }

    /// A waiting ticket is given up.
    pub fn cancel(&mut self, ticket: u64) {
        if let Some(position) = self
            .requests
            .iter()
            .position(|request| request.ticket == ticket)
            && let Some(request) = self.requests.remove(position)
            && request.admitted
        {
            self.hold(&request.chunks, false);
        }
    }

    /// The holder has launched all its work. Where that work may not be done, say [`done`](Self::done) when it is.
    pub fn leave(&mut self, ticket: u64, in_use: bool) -> Option<Arc<[Chunk]>> {
        self.clock += 1;
        let (caller, chunks) = self.held.remove(&ticket)?;
        if let Some(cursor) = self.cursors.get_mut(&caller) {
            cursor.inside = false;
        }
        self.hold(&chunks, false);
        if in_use {
            for &chunk in chunks.iter() {
                self.change(chunk, |state| state.uses += 1);
            }
        }
        Some(chunks)
    }

    /// The device is done with what was left in use.
    pub fn done(&mut self, chunks: &[Chunk]) {
        for &chunk in chunks {
            self.change(chunk, |state| state.uses = state.uses.saturating_sub(1));
        }
    }

    /// From now on these stay on the device.
    ///
    /// # Errors
    /// They don't fit beside the largest block; nothing changes.
    pub fn keep(&mut self, chunks: &[Chunk]) -> Result<(), TooSmall> {
        let before = self.always.clone();
        for &chunk in chunks {
            self.always.insert(chunk);
        }
        self.replan(self.limit)
            .inspect_err(|_| self.always = before)
    }

    /// The device slots that need memory before the budget may grow to `slots`.
    pub fn slots_to_hold(&self, slots: usize) -> Vec<Slot> {
        let missing = slots.saturating_sub(self.next_slot as usize - self.gone.len());
        let fresh = self.next_slot..;
        self.gone
            .iter()
            .copied()
            .chain(fresh)
            .take(missing)
            .collect()
    }

    /// The budget is now `slots`; those of [`slots_to_hold`](Self::slots_to_hold) have memory.
    ///
    /// # Errors
    /// Too few; nothing changes.
    pub fn resize(&mut self, slots: usize) -> Result<(), TooSmall> {
        self.replan(slots)?;
        for slot in self.slots_to_hold(slots) {
            self.gone.retain(|&other| other != slot);
            self.next_slot = self.next_slot.max(slot + 1);
            self.free.push(slot);
        }
        self.limit = slots;
        Ok(())
    }

    /// Whether the budget holds: nothing waits to be given back.
    pub fn fits(&self) -> bool {
        self.next_slot as usize - self.gone.len() <= self.limit
    }

    /// A read has ended. Of a chunk that could not be read nothing is kept, and requests for it are returned.
    pub fn read(&mut self, chunk: Chunk, good: bool) -> Vec<u64> {
        let OnHost::Reading(slot) = self.state(chunk).host else {
            return Vec::new();
        };
        self.reading -= 1;
        if good {
            self.change(chunk, |state| state.host = OnHost::Ready(slot));
            return Vec::new();
        }
        self.change(chunk, |state| state.host = OnHost::Absent);
        self.host_free.push(slot);
        self.failing.insert(chunk);
        let wants =
            |request: &&Request| request.chunks.contains(&chunk) || self.always.contains(chunk);
        self.requests
            .iter()
            .filter(wants)
            .map(|request| request.ticket)
            .collect()
    }

    /// A copy has ended.
    pub fn copied(&mut self, chunk: Chunk) {
        if let OnDevice::Copying(slot) = self.state(chunk).device {
            self.copying -= 1;
            self.change(chunk, |state| state.device = OnDevice::Present(slot));
        }
    }

    /// Decides what is to be done now.
    pub fn pump(&mut self, actions: &mut Vec<TierAction>) {
        self.admit();
        self.shrink(actions);
        let order = self.upcoming();
        let mut next_use = vec![usize::MAX; self.states.len()];
        for (index, &chunk) in order.iter().enumerate() {
            if let Some(place) = next_use.get_mut(chunk as usize) {
                *place = index;
            }
        }
        self.copy_ahead(&order, &next_use, actions);
        self.read_ahead(&order, &next_use, actions);
        self.admit();
    }

    fn state(&self, chunk: Chunk) -> State {
        self.states.get(chunk as usize).copied().unwrap_or_default()
    }

    fn change(&mut self, chunk: Chunk, change: impl FnOnce(&mut State)) {
        if let Some(state) = self.states.get_mut(chunk as usize) {
            change(state);
        }
    }

    fn hold(&mut self, chunks: &[Chunk], hold: bool) {
        for &chunk in chunks {
            self.change(chunk, |state| {
                state.holders = if hold {
                    state.holders + 1
                } else {
                    state.holders.saturating_sub(1)
                };
            });
        }
    }

    /// Slots that a request needs, beside what others hold.
    fn needed_beside_held(&self, chunks: &[Chunk]) -> usize {
        let mut wanted = self.always.clone();
        for &chunk in chunks {
            wanted.insert(chunk);
        }
        (0..self.states.len() as Chunk)
            .filter(|&chunk| wanted.contains(chunk) || self.state(chunk).holders > 0)
            .count()
    }

    /// Serves requests whose chunks are all there. The first of the others, and only it, may take what it needs: two
    /// that each hold a part of the slots would wait for each other.
    fn admit(&mut self) {
        let always_there = (0..self.states.len() as Chunk)
            .filter(|&chunk| self.always.contains(chunk))
            .all(|chunk| self.state(chunk).device != OnDevice::Absent);
        if always_there {
            let mut index = 0;
            while let Some(request) = self.requests.get(index) {
                let there = |&chunk: &Chunk| self.state(chunk).device != OnDevice::Absent;
                if !request.chunks.iter().all(there) {
                    index += 1;
                    continue;
                }
                if let Some(request) = self.requests.remove(index) {
                    if !request.admitted {
                        self.hold(&request.chunks, true);
                    }
                    self.held
                        .insert(request.ticket, (request.caller, request.chunks));
                }
            }
        }
        if let Some(first) = self.requests.front()
            && !first.admitted
            && self.needed_beside_held(&first.chunks) <= self.limit
        {
            let chunks = Arc::clone(&first.chunks);
            self.hold(&chunks, true);
            if let Some(first) = self.requests.front_mut() {
                first.admitted = true;
            }
        }
    }

    /// Chunks in the order of their next use, each once.
    fn upcoming(&self) -> Vec<Chunk> {
        let mut order = Vec::new();
        let mut seen = ChunkSet::new(self.states.len());
        let mut add = |chunks: &[Chunk]| {
            for &chunk in chunks {
                if seen.insert(chunk) {
                    order.push(chunk);
                }
            }
        };
        let always: Vec<Chunk> = (0..self.states.len() as Chunk)
            .filter(|&chunk| self.always.contains(chunk))
            .collect();
        add(&always);
        for request in &self.requests {
            add(&request.chunks);
        }
        // Callers in turn, one block each: what they need soon comes before what any of them needs late.
        let mut walks: Vec<_> = self
            .active()
            .into_iter()
            .map(|cursor| {
                let after = self.order.after(cursor.block);
                let (before, behind) = if cursor.inside {
                    (Some(cursor.block), None)
                } else {
                    (None, Some(cursor.block))
                };
                before.into_iter().chain(after).chain(behind)
            })
            .collect();
        if walks.is_empty() {
            for block in self.order.after(0) {
                add(&self.chunks_of(block));
            }
        }
        loop {
            let mut ended = true;
            for walk in &mut walks {
                if let Some(block) = walk.next() {
                    ended = false;
                    add(&self.chunks_of(block));
                }
            }
            if ended {
                return order;
            }
        }
    }

    /// Cursors of those who wait or are inside a block, else the one that moved last; the latest first.
    fn active(&self) -> Vec<&Cursor> {
        let latest = self.cursors.values().map(|c| c.moved).max().unwrap_or(0);
        let mut active: Vec<&Cursor> = self
            .cursors
            .values()
            .filter(|cursor| cursor.inside || cursor.moved == latest)
            .collect();
        active.sort_by_key(|cursor| std::cmp::Reverse(cursor.moved));
        active
    }

    fn copy_ahead(&mut self, order: &[Chunk], next_use: &[usize], actions: &mut Vec<TierAction>) {
        for (index, &chunk) in order.iter().enumerate() {
            let state = self.state(chunk);
            if state.device != OnDevice::Absent {
                continue;
            }
            // In order: what comes later would take the room of what is still being read.
            let OnHost::Ready(from) = state.host else {
                return;
            };
            if self.copying >= self.depths.copies {
                return;
            }
            let Some(to) = self.device_slot(chunk, index, next_use, actions) else {
                return;
            };
            self.copying += 1;
            self.change(chunk, |state| state.device = OnDevice::Copying(to));
            actions.push(TierAction::Copy { chunk, from, to });
        }
    }

    /// A device slot for a chunk whose use is the `index`th from now.
    fn device_slot(
        &mut self,
        chunk: Chunk,
        index: usize,
        next_use: &[usize],
        actions: &mut Vec<TierAction>,
    ) -> Option<Slot> {
        if self.fits()
            && let Some(slot) = self.free.pop()
        {
            return Some(slot);
        }
        let urgent = self.state(chunk).holders > 0 || self.always.contains(chunk);
        let victim = self
            .furthest(index, next_use, |engine, other| !engine.plan.keeps(other))
            .or_else(|| {
                urgent
                    .then(|| self.furthest(index, next_use, |_, _| true))
                    .flatten()
            })?;
        self.withdraw(victim, actions)
    }

    /// The chunk on the device, free to leave and of those that `may`, whose next use is furthest beyond `index`.
    fn furthest(
        &self,
        index: usize,
        next_use: &[usize],
        may: impl Fn(&Self, Chunk) -> bool,
    ) -> Option<Chunk> {
        let use_of = |chunk: Chunk| next_use.get(chunk as usize).copied().unwrap_or(usize::MAX);
        (0..self.states.len() as Chunk)
            .filter(|&chunk| self.is_idle(chunk) && use_of(chunk) > index && may(self, chunk))
            .max_by_key(|&chunk| use_of(chunk))
    }

    /// Whether the chunk is on the device and neither needed for good, nor held, nor in use.
    fn is_idle(&self, chunk: Chunk) -> bool {
        let state = self.state(chunk);
        matches!(state.device, OnDevice::Present(_))
            && state.holders == 0
            && state.uses == 0
            && !self.always.contains(chunk)
    }

    fn withdraw(&mut self, chunk: Chunk, actions: &mut Vec<TierAction>) -> Option<Slot> {
        let OnDevice::Present(slot) = self.state(chunk).device else {
            return None;
        };
        self.change(chunk, |state| state.device = OnDevice::Absent);
        self.counters.withdrawn += 1;
        actions.push(TierAction::Withdraw { chunk, slot });
        Some(slot)
    }

    /// After a smaller budget: chunks leave, and memory is given back.
    fn shrink(&mut self, actions: &mut Vec<TierAction>) {
        while !self.fits() {
            let slot = match self.free.pop() {
                Some(slot) => slot,
                None => {
                    let never = vec![usize::MAX; self.states.len()];
                    let victim = self
                        .furthest(0, &never, |engine, other| !engine.plan.keeps(other))
                        .or_else(|| self.furthest(0, &never, |_, _| true));
                    match victim.and_then(|victim| self.withdraw(victim, actions)) {
                        Some(slot) => slot,
                        None => return,
                    }
                }
            };
            self.gone.push(slot);
            actions.push(TierAction::Release { slot });
        }
    }

    fn read_ahead(&mut self, order: &[Chunk], next_use: &[usize], actions: &mut Vec<TierAction>) {
        for (index, &chunk) in order.iter().enumerate() {
            if self.reading >= self.depths.reads {
                return;
            }
            let state = self.state(chunk);
            if state.host != OnHost::Absent || self.failing.contains(chunk) {
                continue;
            }
            // What is on the device is not needed here before it has left, unless it is to stay here.
            let stays = self.host_plan.keeps(chunk);
            if state.device != OnDevice::Absent && (self.plan.keeps(chunk) || !stays) {
                continue;
            }
            let Some(slot) = self.host_slot(index, next_use) else {
                return;
            };
            self.reading += 1;
            self.change(chunk, |state| state.host = OnHost::Reading(slot));
            actions.push(TierAction::Read { chunk, slot });
        }
    }

    /// A host slot for a chunk whose use is the `index`th from now.
    fn host_slot(&mut self, index: usize, next_use: &[usize]) -> Option<Slot> {
        if let Some(slot) = self.host_free.pop() {
            return Some(slot);
        }
        // What lies on the device is needed here only after its next use there.
        let need_of = |chunk: Chunk| {
            if self.state(chunk).device == OnDevice::Absent {
                next_use.get(chunk as usize).copied().unwrap_or(usize::MAX)
            } else {
                usize::MAX
            }
        };
        let victim = (0..self.states.len() as Chunk)
            .filter(|&chunk| {
                let state = self.state(chunk);
                matches!(state.host, OnHost::Ready(_))
                    && !matches!(state.device, OnDevice::Copying(_))
                    && !self.host_plan.keeps(chunk)
                    && need_of(chunk) > index
            })
            .max_by_key(|&chunk| need_of(chunk))?;
        let OnHost::Ready(slot) = self.state(victim).host else {
            return None;
        };
        self.change(victim, |state| state.host = OnHost::Absent);
        Some(slot)
    }

    fn replan(&mut self, limit: usize) -> Result<(), TooSmall> {
        let blocks: Vec<Vec<Chunk>> = self.blocks.iter().map(|block| block.to_vec()).collect();
        self.plan = TierPlan::new(&blocks, &self.always, self.states.len(), limit)?;
        self.plan_host();
        Ok(())
    }

    /// What stays on the host: all that the device doesn't keep, or else an even share beside what is being read.
    fn plan_host(&mut self) {
        let mut seen = ChunkSet::new(self.states.len());
        let mut streamed = Vec::new();
        for &chunk in self.blocks.iter().flat_map(|block| block.iter()) {
            if !self.plan.keeps(chunk) && seen.insert(chunk) {
                streamed.push(chunk);
            }
        }
        // What the device keeps passes through a slot too, once.
        self.host_holds_all = streamed.len() < self.host_limit;
        let room = if self.host_holds_all {
            streamed.len()
        } else {
            let window = self.depths.reads + self.depths.copies + 1;
            self.host_limit
                - window
                    .min(self.host_limit.div_ceil(8).max(3))
                    .min(self.host_limit)
        };
        self.host_plan = Plan::scatter(&streamed, room, self.states.len(), &ChunkSet::default());
    }
}
