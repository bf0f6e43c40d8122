//! The thread that looks at what disk and device have done, and keeps both busy.

use crate::cuda::core::Core;
use crossbeam_queue::SegQueue;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};
use weightstream_memory::cuda::PinnedPool;
use weightstream_source::{Completion, raise_urgency};

/// Between two looks at the device while it works. A copy takes longer, and several are always queued.
const LOOK: Duration = Duration::from_micros(40);

/// What callers, pager and source share.
pub struct Shared {
    core: Mutex<Core>,
    /// Something that waiting callers may wait for has changed.
    pub news: Condvar,
    pub completions: SegQueue<Completion>,
    pub closing: AtomicBool,
    pager: OnceLock<Thread>,
}

impl Shared {
    pub fn new(core: Core) -> Self {
        Self {
            core: Mutex::new(core),
            news: Condvar::new(),
            completions: SegQueue::new(),
            closing: AtomicBool::new(false),
            pager: OnceLock::new(),
        }
    }

    pub fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the pager.
    pub fn ring(&self) {
        if let Some(pager) = self.pager.get() {
            pager.unpark();
        }
    }

    /// Waits for news; gives up after a while, for the caller to look again.
    pub fn wait<'c>(&self, core: MutexGuard<'c, Core>) -> MutexGuard<'c, Core> {
        let waited = self.news.wait_timeout(core, Duration::from_millis(20));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Serves until it is told to close, or the device fails.
pub fn run(shared: &Shared) {
    let _ = shared.pager.set(std::thread::current());
    raise_urgency();
    while !shared.closing.load(Ordering::Acquire) {
        let (busy, next) = {
            let mut core = shared.lock();
            if let Err(error) = step(shared, &mut core) {
                log::error!("streaming to the device ends: {error}");
                core.broken = Some(error);
                shared.news.notify_all();
                return;
            }
            (core.is_busy(), core.next_attempt())
        };
        match next {
            _ if busy => std::thread::park_timeout(LOOK),
            Some(due) => {
                std::thread::park_timeout(due.saturating_duration_since(Instant::now()));
            }
            None => std::thread::park(),
        }
    }
}

fn step(shared: &Shared, core: &mut Core) -> Result<(), weightstream_memory::cuda::CudaError> {
    core.poll()?;
    while let Some(completion) = shared.completions.pop() {
        core.read(completion);
    }
    core.resume()?;
    if core.changed {
        core.pump()?;
        shared.news.notify_all();
    }
    Ok(())
}

/// Pins host memory slab by slab, as it takes long, until there are `slots` or the system refuses.
pub fn pin(shared: &Shared, host: &Arc<PinnedPool>, slots: usize) {
    while host.slots() < slots && !shared.closing.load(Ordering::Acquire) {
        let grown = host.grow(slots);
        let mut core = shared.lock();
        core.changed = true;
        match grown {
            Ok(count) => core.tiers.host_grew(count),
            Err(error) if host.slots() > 0 => {
                log::warn!(
                    "host memory stays at {} bytes: {error}",
                    host.slots() * host.slot_bytes()
                );
                core.tiers.host_is_limited();
                return;
            }
            Err(error) => core.broken = Some(error),
        }
        let ended = core.broken.is_some();
        drop(core);
        shared.ring();
        if ended {
            shared.news.notify_all();
            return;
        }
    }
}
