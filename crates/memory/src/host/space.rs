//! One model's addresses and the pool behind them.

use super::mapping::page_bytes;
use super::names::Names;
use super::pages::{Backend, MovePages, Pages, runs};
use super::state::{ABSENCES, Cell, State};
use crate::MemoryError;
use crate::doorbell::Doorbell;
use crate::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use crate::sync::yield_now;
use crossbeam_queue::ArrayQueue;
use std::ops::Range;
use std::time::Duration;

/// What a touch of a weight told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A chunk that was ready has been published by its first touch.
    Touched {
        /// The chunk.
        chunk: u32,
        /// The touching thread, as the kernel numbers it.
        thread: u32,
    },
    /// A thread waits for a chunk that is not in the pool.
    Missing {
        /// The byte that was touched, counted from the first address.
        offset: u64,
        /// The touching thread, as the kernel numbers it.
        thread: u32,
    },
    /// A thread waits to write to a chunk that is visible: see [`permit_writes`](AddressSpace::permit_writes).
    Writing {
        /// The byte that is to be written, counted from the first address.
        offset: u64,
        /// The writing thread, as the kernel numbers it.
        thread: u32,
    },
    /// The kernel has no mapping left for a chunk that is ready. The thread tries again until the pager has given some
    /// back, or gives up.
    Refused {
        /// The chunk.
        chunk: u32,
        /// The touching thread, as the kernel numbers it.
        thread: u32,
    },
    /// A thread used a weight of a closed space, and went on with a stand-in.
    Lost {
        /// The thread, as the kernel numbers it.
        thread: u32,
    },
    /// A thread left a note for the pager, in order with the touches around it.
    Note {
        /// Whatever the two agreed on.
        value: u32,
        /// The thread that left it, as the kernel numbers it.
        thread: u32,
    },
}

/// More touches than this between two looks of the pager make the touching threads yield.
const EVENTS: usize = if cfg!(test) { 2 } else { 4096 };

/// Faults of one space that find their chunk in place, without a chunk having been published since the last of them,
/// that pass for threads which came a moment late. Beyond it one thread is faulting again and again, by writing
/// where the machine doesn't tell writes from reads.
const LATE: u32 = if cfg!(test) { 16 } else { 1 << 16 };

/// How often the kernel may refuse a touch its mapping, and the time between: others in the process may give some back.
const REFUSALS: u32 = if cfg!(test) { 0 } else { 200 };
const REFUSED_PAUSE: Duration = Duration::from_millis(10);

/// Fixed addresses for `chunks` chunks, and up to as many slots to fill them from.
///
/// One thread, the pager, owns the slots: it calls [`withdraw`](Self::withdraw) and [`release`](Self::release), and
/// says who may fill a slot and then call [`mark_ready`](Self::mark_ready). Any thread may touch addresses and
/// [`publish`](Self::publish).
pub struct AddressSpace<P = Pages> {
    pages: P,
    cells: Vec<Cell>,
    slots: u32,
    chunk_bytes: usize,
    events: ArrayQueue<Event>,
    doorbell: Doorbell,
    absences: AtomicU32,
    late: AtomicU32,
    closed: AtomicBool,
    lost: AtomicBool,
    owner: u32,
    names: Names,
    alarm: Option<fn()>,
}

impl AddressSpace {
    /// Reserves addresses for `chunks` chunks and slots for `slots`; memory is used as slots are written.
    /// `backend` = None takes the best that the kernel offers.
    pub fn reserve(
        chunks: u32,
        slots: u32,
        chunk_bytes: usize,
        backend: Option<Backend>,
    ) -> Result<Self, MemoryError> {
        if chunk_bytes == 0 || !chunk_bytes.is_multiple_of(page_bytes()) {
            return Err(MemoryError::ChunkSize {
                chunk_bytes,
                page_bytes: page_bytes(),
            });
        }
        let backend = backend.unwrap_or_else(Pages::best_backend);
        let pages = Pages::reserve(backend, chunks as usize, slots as usize, chunk_bytes)?;
        Ok(Self::over(pages, chunks, slots, chunk_bytes))
    }

    /// The first address.
    pub fn base(&self) -> usize {
        self.pages.base()
    }

    /// Bytes of address space.
    pub fn length(&self) -> usize {
        self.cells.len() * self.chunk_bytes
    }

    /// Has slots take memory as they are written to. Nothing happens to those that do already.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn open(&self, slots: Range<u32>) -> Result<(), MemoryError> {
        self.pages.open(slots)
    }

    /// Where the bytes of an [`open`](Self::open) slot are to be written; `chunk_bytes` of them may be, until
    /// [`mark_ready`](Self::mark_ready).
    pub fn slot(&self, slot: u32) -> *mut u8 {
        self.pages.slot(slot)
    }

    /// Closes a free slot: its memory goes back to the system.
    pub fn release(&self, slot: u32) {
        if slot < self.slots {
            self.pages.release(slot);
        }
    }

    /// Gives the memory of all slots back, for good.
    pub fn release_all(&self) {
        self.pages.release_all();
    }
}

impl<P: MovePages> AddressSpace<P> {
    pub(super) fn over(pages: P, chunks: u32, slots: u32, chunk_bytes: usize) -> Self {
        Self {
            pages,
            cells: (0..chunks).map(|_| Cell::default()).collect(),
            slots,
            chunk_bytes,
            events: ArrayQueue::new(EVENTS),
            doorbell: Doorbell::default(),
            // 0 is the absence that every chunk begins with.
            absences: AtomicU32::new(1),
            late: AtomicU32::new(0),
            closed: AtomicBool::new(false),
            lost: AtomicBool::new(false),
            owner: std::process::id(),
            names: Names::default(),
            alarm: None,
        }
    }

    /// Names what lies at its addresses, for last words: (first byte, counted from the first address; name), by address.
    #[must_use]
    pub fn with_names(mut self, names: impl IntoIterator<Item = (u64, String)>) -> Self {
        self.names = Names::new(names);
        self
    }

    /// Has `alarm` called, inside the signal handler, when a thread goes on with a stand-in: it may use atomics and
    /// system calls only.
    #[must_use]
    pub fn with_alarm(mut self, alarm: Option<fn()>) -> Self {
        self.alarm = alarm;
        self
    }

    #[cfg(test)]
    pub(super) fn pages(&self) -> &P {
        &self.pages
    }

    fn cell(&self, chunk: u32) -> Option<&Cell> {
        self.cells.get(chunk as usize)
    }

    /// Says that `slot` holds all bytes of the absent `chunk`. The next touch publishes it. Ignored where the chunk
    /// is not absent.
    pub fn mark_ready(&self, chunk: u32, slot: u32) {
        let Some(cell) = self.cell(chunk).filter(|_| slot < self.slots) else {
            return;
        };
        // Again only where `close` came between.
        while let seen @ State::Absent(_) = cell.get() {
            if cell.change(seen, State::Ready(slot)) {
                return;
            }
        }
    }

    /// Publishes a ready chunk; false where there was nothing to publish (absent, or another thread was faster).
    pub fn publish(&self, chunk: u32) -> Result<bool, MemoryError> {
        let Some(cell) = self.cell(chunk) else {
            return Ok(false);
        };
        let State::Ready(slot) = cell.get() else {
            return Ok(false);
        };
        if !cell.swap(State::Ready(slot), State::Moving) {
            return Ok(false);
        }
        let published = self.pages.publish(chunk, slot);
        self.late.store(0, Ordering::Relaxed);
        cell.set(if published.is_ok() {
            State::Published(slot)
        } else {
            State::Ready(slot)
        });
        published.map(|()| true)
    }

    /// Makes published chunks absent, in ascending order, where the kernel has no mapping left: together they give
    /// more back than one by one, and need none to spare. Those that are not published stay as they are.
    ///
    /// # Errors
    /// The kernel refused: some of the chunks are as they were.
    pub fn withdraw_together(&self, chunks: &[u32]) -> Result<(), MemoryError> {
        let mut claimed = Vec::new();
        for &chunk in chunks {
            if let Some(cell) = self.cell(chunk)
                && let seen @ State::Published(slot) = cell.get()
                && cell.swap(seen, State::Moving)
            {
                claimed.push((chunk, slot));
            }
        }
        let mut rest = &claimed[..];
        let mut refused = Ok(());
        for run in runs(claimed.iter().map(|&(chunk, _)| chunk)) {
            let (these, others) = rest.split_at(run.len());
            rest = others;
            let withdrawn = self.pages.withdraw_run(these);
            for &(chunk, slot) in these {
                if let Some(cell) = self.cell(chunk) {
                    cell.set(match withdrawn {
                        Ok(()) => self.absent(),
                        Err(_) => State::Published(slot),
                    });
                }
            }
            refused = refused.and(withdrawn);
        }
        refused
    }

    /// After [`Event::Refused`], where there is nothing to withdraw: gives the mappings that are kept for that to whoever
    /// publishes.
    pub fn spend_spare(&self) {
        self.pages.spend_spare();
    }

    /// Makes a chunk absent; its slot, if it had one, is free afterwards.
    ///
    /// # Errors
    /// The kernel refused: the chunk is as it was, and its slot is not free.
    pub fn withdraw(&self, chunk: u32) -> Result<Option<u32>, MemoryError> {
        let Some(cell) = self.cell(chunk) else {
            return Ok(None);
        };
        loop {
            let seen = cell.get();
            match seen {
                State::Absent(_) | State::Substituted => return Ok(None),
                State::Moving => cell.wait(seen),
                State::Ready(slot) => {
                    if cell.change(seen, self.absent()) {
                        return Ok(Some(slot));
                    }
                }
                State::Published(slot) | State::Asked(slot) | State::Written(slot) => {
                    if cell.swap(seen, State::Moving) {
                        let withdrawn = self.pages.withdraw(chunk, slot);
                        cell.set(if withdrawn.is_ok() {
                            self.absent()
                        } else {
                            seen
                        });
                        return withdrawn.map(|()| Some(slot));
                    }
                }
            }
        }
    }

    /// As [`withdraw`](Self::withdraw), of a chunk whose read is known to have ended well, for the one who withdraws
    /// them all; gives its slot. The thread that read it may not have come to [`mark_ready`](Self::mark_ready) yet:
    /// were its slot given away before that, another chunk's bytes would be shown in its place.
    ///
    /// # Errors
    /// As for [`withdraw`](Self::withdraw).
    pub fn reclaim(&self, chunk: u32) -> Result<u32, MemoryError> {
        loop {
            if let Some(slot) = self.withdraw(chunk)? {
                return Ok(slot);
            }
            yield_now();
        }
    }

    /// Lets a chunk that is visible be written to until it is withdrawn, and those go on who wait to do so. Nothing
    /// happens to one that is not.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn permit_writes(&self, chunk: u32) -> Result<(), MemoryError> {
        let Some(cell) = self.cell(chunk) else {
            return Ok(());
        };
        loop {
            let seen = cell.get();
            match seen {
                State::Published(slot) | State::Asked(slot) => {
                    if cell.swap(seen, State::Moving) {
                        let permitted = self.pages.permit_writes(chunk);
                        cell.set(match permitted {
                            Ok(()) => State::Written(slot),
                            Err(_) => seen,
                        });
                        return permitted;
                    }
                }
                State::Moving => cell.wait(seen),
                State::Absent(_) | State::Ready(_) | State::Written(_) | State::Substituted => {
                    return Ok(());
                }
            }
        }
    }

    fn absent(&self) -> State {
        State::Absent(self.absences.fetch_add(1, Ordering::Relaxed) % ABSENCES)
    }

    /// Whether the chunk can be read without a fault.
    pub fn is_published(&self, chunk: u32) -> bool {
        self.cell(chunk)
            .is_some_and(|cell| cell.get().visible().is_some())
    }

    /// Whether a chunk is in memory, visible or not; it may have left by the time the answer is read.
    pub fn is_resident(&self, chunk: u32) -> bool {
        self.cell(chunk)
            .is_some_and(|cell| !matches!(cell.get(), State::Absent(_) | State::Substituted))
    }

    /// What touches told since the last call, oldest first.
    pub fn take_event(&self) -> Option<Event> {
        self.events.pop()
    }

    /// Leaves a note for the pager.
    pub fn note(&self, value: u32) {
        self.report(Event::Note {
            value,
            thread: current_thread(),
        });
    }

    /// How often the bell rang; read it before looking at the events, then pass it to [`wait`](Self::wait).
    pub fn rings(&self) -> u32 {
        self.doorbell.rings()
    }

    /// Sleeps until the bell has rung since `seen`.
    pub fn wait(&self, seen: u32, timeout: Option<Duration>) {
        self.doorbell.wait(seen, timeout);
    }

    /// Wakes the thread that sleeps in [`wait`](Self::wait).
    pub fn ring(&self) {
        self.doorbell.ring();
    }

    /// From now on a touch of an absent weight finds a stand-in, NaN in every floating-point format, and is told as
    /// [`Event::Lost`]; sleepers wake to meet it.
    pub fn close(&self) {
        self.pages.prepare_substitutes();
        self.closed.store(true, Ordering::SeqCst);
        for cell in &self.cells {
            // Where something came between, that has woken the sleepers.
            match cell.get() {
                seen @ State::Absent(_) => cell.change(seen, self.absent()),
                seen @ State::Asked(slot) => cell.change(seen, State::Published(slot)),
                _ => false,
            };
        }
    }

    /// Serves a fault at `address`, in the faulting thread, inside the signal handler: atomics and system calls
    /// only. After Ok the instruction is to run again; it may fault again.
    pub(super) fn serve_fault(&self, address: usize, write: bool) -> Result<Served, Incurable> {
        // A child of fork has the numbers but neither the pages nor the pager.
        if std::process::id() != self.owner {
            return Err(Incurable::Forked);
        }
        let Some(offset) = address.checked_sub(self.pages.base()) else {
            return Err(Incurable::Foreign);
        };
        let chunk = (offset / self.chunk_bytes) as u32;
        let offset = offset as u64;
        let Some(cell) = self.cell(chunk) else {
            return Err(Incurable::Foreign);
        };
        let thread = current_thread();
        let mut reported = None;
        let mut refused = 0;
        loop {
            let seen = cell.get();
            match seen {
                State::Published(_) | State::Asked(_) if !write => {
                    return match self.is_stuck() {
                        true => Err(Incurable::Written),
                        false => Ok(Served::Cured),
                    };
                }
                // There is nobody to ask, and nothing to protect.
                State::Published(_) if self.is_closed() => {
                    self.permit_writes(chunk).map_err(|_| Incurable::Mapping)?;
                }
                State::Published(slot) => {
                    if cell.swap(seen, State::Asked(slot)) {
                        self.report(Event::Writing { offset, thread });
                    }
                }
                State::Written(_) | State::Substituted => return Ok(Served::Cured),
                State::Moving | State::Asked(_) => cell.wait(seen),
                State::Ready(_) => match self.publish(chunk) {
                    Ok(true) => {
                        self.report(Event::Touched { chunk, thread });
                        return Ok(Served::Cured);
                    }
                    Ok(false) => {}
                    Err(_) if refused == REFUSALS => return Err(Incurable::Mapping),
                    Err(_) => {
                        refused += 1;
                        self.report(Event::Refused { chunk, thread });
                        cell.pause(seen, REFUSED_PAUSE);
                    }
                },
                State::Absent(_) if self.is_closed() => {
                    if cell.swap(seen, State::Moving) {
                        return self.substitute(cell, chunk, thread);
                    }
                }
                State::Absent(_) => {
                    if reported != Some(seen) {
                        self.report(Event::Missing { offset, thread });
                        reported = Some(seen);
                    }
                    cell.wait(seen);
                }
            }
        }
    }

    /// Shows a stand-in for an absent chunk whose move the caller has begun.
    fn substitute(&self, cell: &Cell, chunk: u32, thread: u32) -> Result<Served, Incurable> {
        if self.pages.substitute(chunk).is_err() {
            cell.set(self.absent());
            return Err(Incurable::Closed);
        }
        self.report(Event::Lost { thread });
        if let Some(alarm) = self.alarm {
            alarm();
        }
        cell.set(State::Substituted);
        Ok(match self.lost.swap(true, Ordering::Relaxed) {
            true => Served::Cured,
            false => Served::Lost,
        })
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// What lies at an address, as far as it has a name.
    pub(super) fn name_at(&self, address: usize) -> &[u8] {
        let offset = address.saturating_sub(self.pages.base());
        self.names.at(offset as u64)
    }

    fn is_stuck(&self) -> bool {
        self.late.fetch_add(1, Ordering::Relaxed) >= LATE
    }

    fn report(&self, event: Event) {
        while self.events.push(event).is_err() {
            // Nobody takes events any more.
            if self.is_closed() {
                return;
            }
            self.doorbell.ring();
            yield_now();
        }
        self.doorbell.ring();
    }
}

/// How a fault was cured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// The instruction does what it would, when it runs again.
    Cured,
    /// It finds the first stand-in of a closed space.
    Lost,
}

/// Why a fault at a weight's address can't be cured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incurable {
    Foreign,
    Written,
    Closed,
    Forked,
    Mapping,
}

/// The calling thread, as the kernel numbers it.
pub fn current_thread() -> u32 {
    // SAFETY: neither has preconditions.
    unsafe {
        #[cfg(not(target_vendor = "apple"))]
        return libc::gettid() as u32;
        #[cfg(target_vendor = "apple")]
        return libc::pthread_mach_thread_np(libc::pthread_self());
    }
}
