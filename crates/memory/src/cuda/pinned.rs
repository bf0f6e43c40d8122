//! Page-locked host memory in slots.

use crate::cuda::{CudaError, Driver, Pinned};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes that are pinned at a time: pinning takes 0.2 to 0.4 s per GB, and the first slots are wanted at once.
const SLAB: usize = 256 << 20;

/// Slots of page-locked memory. It grows slab by slab, from whichever thread calls [`grow`](Self::grow).
pub struct PinnedPool {
    driver: Arc<dyn Driver>,
    slot_bytes: usize,
    per_slab: usize,
    slabs: Mutex<Vec<Pinned>>,
}

impl PinnedPool {
    /// An empty pool for slots of `slot_bytes`.
    pub fn new(driver: Arc<dyn Driver>, slot_bytes: usize) -> Self {
        Self {
            driver,
            slot_bytes,
            per_slab: (SLAB / slot_bytes).max(1),
            slabs: Mutex::new(Vec::new()),
        }
    }

    /// Bytes of one slot.
    pub fn slot_bytes(&self) -> usize {
        self.slot_bytes
    }

    /// Slots there are.
    pub fn slots(&self) -> usize {
        let slabs = self.slabs.lock().unwrap_or_else(PoisonError::into_inner);
        slabs.iter().map(|slab| slab.bytes / self.slot_bytes).sum()
    }

    /// Pins a slab more, of at most as many slots as `limit` lacks. Takes long; returns how many there are then.
    ///
    /// # Errors
    /// The system refuses to pin that much.
    pub fn grow(&self, limit: usize) -> Result<usize, CudaError> {
        let missing = limit.saturating_sub(self.slots()).min(self.per_slab);
        if missing > 0 {
            let slab = self.driver.pin(missing * self.slot_bytes)?;
            self.slabs
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(slab);
        }
        Ok(self.slots())
    }

    /// Where slot `slot` begins; null where there is none. Only the last slab is smaller than the others.
    pub fn start(&self, slot: u32) -> *mut u8 {
        let slabs = self.slabs.lock().unwrap_or_else(PoisonError::into_inner);
        let (slab, index) = (slot as usize / self.per_slab, slot as usize % self.per_slab);
        match slabs.get(slab) {
            Some(slab) if (index + 1) * self.slot_bytes <= slab.bytes => {
                (slab.address + index * self.slot_bytes) as *mut u8
            }
            _ => std::ptr::null_mut(),
        }
    }

    /// Gives all memory back.
    ///
    /// # Safety
    /// No read into it and no copy from it is under way.
    pub unsafe fn clear(&self) {
        let mut slabs = self.slabs.lock().unwrap_or_else(PoisonError::into_inner);
        for slab in slabs.drain(..) {
            // SAFETY: by the contract of this function.
            if let Err(error) = unsafe { self.driver.unpin(slab) } {
                log::debug!("pinned memory is not given back: {error}");
            }
        }
    }
}
