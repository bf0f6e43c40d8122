//! Moving pages between slots and addresses. Every function here is a few system calls and no more: they run
//! inside the fault handler too.

use super::mapping::{Mapping, forbid, last_error, protect};
use super::shared::SharedMemory;
use super::spare::Spare;
use crate::MemoryError;
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// How pages move between a slot and an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// `mremap(MREMAP_DONTUNMAP)` of anonymous (huge) pages; Linux 5.7 and later.
    Move,
    /// Memory mapped twice; for kernels without the above. Small pages, so more work per byte read.
    Share,
}

impl Backend {
    /// The best that this kernel offers.
    pub fn best() -> Self {
        Pages::best_backend()
    }
}

/// What the protocol needs of the pages. A call that fails has changed nothing.
pub trait MovePages {
    /// The first chunk's address.
    fn base(&self) -> usize;

    /// Makes the bytes of `slot` readable at `chunk`'s address, in one step.
    fn publish(&self, chunk: u32, slot: u32) -> Result<(), MemoryError>;

    /// Takes the bytes away from `chunk`'s address and back into `slot`. A touch meanwhile faults; it never reads zeros.
    fn withdraw(&self, chunk: u32, slot: u32) -> Result<(), MemoryError>;

    /// Lets the published `chunk` be written to.
    fn permit_writes(&self, chunk: u32) -> Result<(), MemoryError>;

    /// Has what [`substitute`](Self::substitute) shows; not for use inside a signal handler.
    fn prepare_substitutes(&self);

    /// Puts a stand-in at the address of an absent `chunk`: NaN in every floating-point format. Each chunk's may be
    /// written to by itself.
    fn substitute(&self, chunk: u32) -> Result<(), MemoryError>;
    /// As [`withdraw`](Self::withdraw), of a run of chunks that follow each other, each with its slot. Neighbours may
    /// share a mapping: that of a whole run ends without making more.
    fn withdraw_run(&self, run: &[(u32, u32)]) -> Result<(), MemoryError>;

    /// Gives the mappings that are kept for withdrawing to whoever publishes.
    fn spend_spare(&self);
}

/// In place of a weight that is not to be had.
const SUBSTITUTE: u8 = 0xFF;

/// The pool's slots and the model's addresses.
pub struct Pages {
    addresses: Mapping,
    slots: Mapping,
    chunk_bytes: usize,
    /// What the slots are made of, unless pages move.
    shared: Option<SharedMemory>,
    /// One chunk that stands in for others once the space is closed.
    substitute: OnceLock<SharedMemory>,
    substitute_filled: AtomicBool,
    /// Which slots can be used. The others can't be touched: `mlockall` would have memory for them at once.
    opened: Vec<AtomicBool>,
    spare: Spare,
}

impl Pages {
    pub fn reserve(
        backend: Backend,
        chunks: usize,
        slots: usize,
        chunk_bytes: usize,
    ) -> Result<Self, MemoryError> {
        let addresses = Mapping::reserve(chunks * chunk_bytes, libc::PROT_NONE)?;
        // One slot more, in which the stand-in is made.
        let pool_bytes = (slots + 1) * chunk_bytes;
        let pool = Mapping::reserve(pool_bytes + Spare::bytes(), libc::PROT_NONE)?;
        let spare = Spare::keep(pool.base() + pool_bytes);
        let shared = match backend {
            Backend::Move => None,
            Backend::Share => Some(SharedMemory::new(slots, chunk_bytes)?),
        };
        Ok(Self {
            addresses,
            slots: pool,
            chunk_bytes,
            shared,
            substitute: OnceLock::new(),
            substitute_filled: AtomicBool::new(false),
            opened: (0..slots).map(|_| AtomicBool::new(false)).collect(),
            spare,
        })
    }

    /// The best way that this kernel offers.
    pub fn best_backend() -> Backend {
        let probe = || -> Result<bool, MemoryError> {
            let pages = Self::reserve(Backend::Move, 1, 1, super::page_bytes())?;
            pages.open(0..1)?;
            // SAFETY: slot 0 is our own writable page.
            unsafe { pages.slot(0).write(1) };
            Ok(pages.publish(0, 0).is_ok())
        };
        if probe().unwrap_or(false) {
            Backend::Move
        } else {
            Backend::Share
        }
    }

    /// Has slots take memory as they are written to. Not for two threads at once.
    pub fn open(&self, slots: Range<u32>) -> Result<(), MemoryError> {
        for run in runs(slots.filter(|&slot| !self.is_open(slot))) {
            self.spare.lend(|| self.open_all(run.clone()))?;
        }
        Ok(())
    }

    fn open_all(&self, slots: Range<u32>) -> Result<(), MemoryError> {
        let writable = libc::PROT_READ | libc::PROT_WRITE;
        let (start, bytes) = (self.slot(slots.start), slots.len() * self.chunk_bytes);
        match &self.shared {
            Some(shared) => {
                for slot in slots.clone() {
                    // SAFETY: a slot's bytes lie in our reservation of slots.
                    unsafe { shared.map(slot, self.slot(slot) as usize, writable)? };
                }
            }
            None => protect(start as usize, bytes, writable)?,
        }
        #[cfg(not(target_vendor = "apple"))]
        // SAFETY: advice on slots of our own; a kernel that knows none of it may ignore it.
        unsafe {
            libc::madvise(start.cast(), bytes, libc::MADV_HUGEPAGE);
            // A child of fork would otherwise see moments of the parent's pool, and double its memory by writing.
            libc::madvise(start.cast(), bytes, libc::MADV_DONTFORK);
        }
        let opened = self.opened.get(slots.start as usize..slots.end as usize);
        for opened in opened.unwrap_or_default() {
            opened.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn is_open(&self, slot: u32) -> bool {
        // What is no slot needs no opening.
        (self.opened.get(slot as usize)).is_none_or(|opened| opened.load(Ordering::Relaxed))
    }

    /// Where slot `slot` can be written once it is open, while no chunk is published from it.
    pub fn slot(&self, slot: u32) -> *mut u8 {
        (self.slots.base() + slot as usize * self.chunk_bytes) as *mut u8
    }

    fn address(&self, chunk: u32) -> usize {
        self.addresses.base() + chunk as usize * self.chunk_bytes
    }

    /// Gives the memory of an unused slot back to the system.
    pub fn release(&self, slot: u32) {
        let Some(opened) = self.opened.get(slot as usize) else {
            return;
        };
        if !opened.load(Ordering::Relaxed) {
            return;
        }
        let at = self.slot(slot) as usize;
        let start = at as *mut libc::c_void;
        // SAFETY: the slot belongs to no chunk, its bytes are of no use to anyone.
        unsafe {
            // Locked memory stays otherwise.
            libc::munlock(start, self.chunk_bytes);
            match &self.shared {
                Some(shared) => shared.discard(slot, at),
                None => {
                    libc::madvise(start, self.chunk_bytes, libc::MADV_DONTNEED);
                }
            }
        }
        opened.store(forbid(at, self.chunk_bytes).is_err(), Ordering::Relaxed);
    }

    /// Gives the memory of all slots back; none may be in use.
    pub fn release_all(&self) {
        (0..self.slot_count()).for_each(|slot| self.release(slot));
    }

    fn slot_count(&self) -> u32 {
        self.opened.len() as u32
    }
}

impl MovePages for Pages {
    fn base(&self) -> usize {
        self.addresses.base()
    }

    fn publish(&self, chunk: u32, slot: u32) -> Result<(), MemoryError> {
        let (address, bytes) = (self.address(chunk), self.chunk_bytes);
        if let Some(shared) = &self.shared {
            // SAFETY: a chunk's bytes lie in our reservation of addresses.
            return unsafe { shared.map(slot, address, libc::PROT_READ) };
        }
        let slot = self.slot(slot) as usize;
        protect(slot, bytes, libc::PROT_READ)?;
        move_pages(slot, address, bytes).inspect_err(|_| {
            // Needs no new mapping, so what failed the move does not fail this.
            let _ = protect(slot, bytes, libc::PROT_READ | libc::PROT_WRITE);
        })
    }

    fn withdraw(&self, chunk: u32, slot: u32) -> Result<(), MemoryError> {
        self.spare.lend(|| self.hide(chunk, slot))
    }

    fn withdraw_run(&self, run: &[(u32, u32)]) -> Result<(), MemoryError> {
        let Some(&(first, _)) = run.first() else {
            return Ok(());
        };
        if self.shared.is_none() {
            // They are empty, so that it does not matter should the next step be refused.
            let mut slots: Vec<u32> = run.iter().map(|&(_, slot)| slot).collect();
            slots.sort_unstable();
            for slots in runs(slots.into_iter()) {
                let (start, bytes) = (self.slot(slots.start), slots.len() * self.chunk_bytes);
                let writable = libc::PROT_READ | libc::PROT_WRITE;
                self.spare
                    .lend(|| protect(start as usize, bytes, writable))?;
            }
        }
        let bytes = run.len() * self.chunk_bytes;
        self.spare.lend(|| forbid(self.address(first), bytes))
    }

    fn spend_spare(&self) {
        self.spare.give();
    }

    fn permit_writes(&self, chunk: u32) -> Result<(), MemoryError> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        protect(self.address(chunk), self.chunk_bytes, protection)
    }

    fn prepare_substitutes(&self) {
        if self.substitute.get().is_none()
            && let Ok(memory) = SharedMemory::new(1, self.chunk_bytes)
        {
            let _ = self.substitute.set(memory);
        }
    }

    fn substitute(&self, chunk: u32) -> Result<(), MemoryError> {
        let Some(memory) = self.substitute.get() else {
            return Err(last_error("substituting a chunk", self.chunk_bytes));
        };
        // SAFETY: both ranges are a whole chunk inside our reservations. The spare slot is nobody else's, and it does no
        // harm that two threads fill it at once.
        unsafe {
            if !self.substitute_filled.load(Ordering::Acquire) {
                let spare = self.slot(self.slot_count());
                memory.map(0, spare as usize, libc::PROT_READ | libc::PROT_WRITE)?;
                spare.write_bytes(SUBSTITUTE, self.chunk_bytes);
                self.substitute_filled.store(true, Ordering::Release);
            }
            memory.map_copy(0, self.address(chunk))
        }
    }
}

/// Numbers, in ascending order, as runs of those that follow each other.
pub fn runs(numbers: impl Iterator<Item = u32>) -> impl Iterator<Item = Range<u32>> {
    let mut numbers = numbers.peekable();
    std::iter::from_fn(move || {
        let first = numbers.next()?;
        let mut end = first + 1;
        while numbers.next_if_eq(&end).is_some() {
            end += 1;
        }
        Some(first..end)
    })
}

impl Pages {
    fn hide(&self, chunk: u32, slot: u32) -> Result<(), MemoryError> {
        let (address, bytes) = (self.address(chunk), self.chunk_bytes);
        if self.shared.is_some() {
            return forbid(address, bytes);
        }
        let slot = self.slot(slot) as usize;
        let writable = libc::PROT_READ | libc::PROT_WRITE;
        protect(address, bytes, libc::PROT_NONE)?;
        if move_pages(address, slot, bytes).is_ok() {
            // What a move leaves behind is a mapping of its own, of which a large model would come to have too many.
            let _ = forbid(address, bytes);
            return protect(slot, bytes, writable);
        }
        // A move needs mappings to spare. To drop the pages needs none.
        protect(slot, bytes, writable)
            .and_then(|()| forbid(address, bytes))
            .inspect_err(|_| {
                // As above.
                let _ = protect(address, bytes, libc::PROT_READ);
            })
    }
}

#[cfg(not(target_vendor = "apple"))]
fn move_pages(from: usize, to: usize, bytes: usize) -> Result<(), MemoryError> {
    // Linux: include/uapi/linux/mman.h. The C library of Android has neither these nor, before API 21, `mremap`.
    const MAY_MOVE: usize = 1;
    const FIXED: usize = 2;
    const DO_NOT_UNMAP: usize = 4;
    // SAFETY: both ranges are whole chunks inside our two reservations, which never overlap; the source keeps
    // its (now empty) mapping, so no one else can be given its addresses.
    let moved = unsafe {
        libc::syscall(
            libc::SYS_mremap,
            from,
            bytes,
            bytes,
            MAY_MOVE | FIXED | DO_NOT_UNMAP,
            to,
        )
    };
    if moved == -1 {
        return Err(last_error("moving a chunk's pages", bytes));
    }
    Ok(())
}

#[cfg(target_vendor = "apple")]
fn move_pages(_from: usize, _to: usize, bytes: usize) -> Result<(), MemoryError> {
    Err(MemoryError::Mapping {
        action: "moving a chunk's pages",
        bytes,
        cause: std::io::ErrorKind::Unsupported.into(),
    })
}
