//! A budget that follows the pressure on memory.

use crate::error::StreamError;
use crate::shared_budget::Budget;
use crate::stream::Stream;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use weightstream_governor::{Governor, Limits, PressureSource};

/// How often the pressure is looked at: a program takes some tens of MiB in this time.
const LOOK: Duration = Duration::from_millis(25);

/// Keeps a stream's or a budget's memory within what the system can spare, for as long as it lives.
pub struct Governed {
    over: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

/// What is governed, while it is there: its memory, and how to change that.
type Target = Box<dyn Fn(Option<u64>) -> Option<u64> + Send>;

impl Governed {
    /// Governs a stream.
    ///
    /// # Errors
    /// The thread can't be started.
    pub fn stream(
        stream: &Arc<Stream>,
        limits: Limits,
        source: Box<dyn PressureSource>,
    ) -> Result<Self, StreamError> {
        let stream = Arc::downgrade(stream);
        let target = move |memory: Option<u64>| {
            let stream = stream.upgrade()?;
            if let Some(memory) = memory {
                stream.resize(memory.max(stream.least())).ok()?;
            }
            (!stream.is_closed()).then(|| stream.memory())
        };
        Self::start(Box::new(target), limits, source)
    }

    /// Governs a budget.
    ///
    /// # Errors
    /// The thread can't be started.
    pub fn budget(
        budget: &Budget,
        limits: Limits,
        source: Box<dyn PressureSource>,
    ) -> Result<Self, StreamError> {
        let budget = budget.weak();
        let target = move |memory: Option<u64>| {
            let budget = budget()?;
            if let Some(memory) = memory {
                budget.resize(memory.max(budget.least())).ok()?;
            }
            Some(budget.memory())
        };
        Self::start(Box::new(target), limits, source)
    }

    fn start(
        target: Target,
        limits: Limits,
        mut source: Box<dyn PressureSource>,
    ) -> Result<Self, StreamError> {
        let over = Arc::new((Mutex::new(false), Condvar::new()));
        let ending = Arc::clone(&over);
        let work = move || {
            let (began, mut governor) = (Instant::now(), Governor::new(limits));
            while let Some(memory) = target(None) {
                if let Some(pressure) = source.pressure() {
                    let wanted = governor.decide(began.elapsed(), memory, &pressure);
                    if wanted != memory && target(Some(wanted)).is_none() {
                        return;
                    }
                }
                let (over, changed) = &*ending;
                let over = over.lock().unwrap_or_else(PoisonError::into_inner);
                let waited = changed.wait_timeout_while(over, LOOK, |over| !*over);
                if *waited.unwrap_or_else(PoisonError::into_inner).0 {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("weightstream-governor".into())
            .spawn(work)
            .map_err(StreamError::Thread)?;
        Ok(Self {
            over,
            thread: Some(thread),
        })
    }

    /// Leaves the memory as it is from now on. Doing it twice is fine.
    pub fn stop(&mut self) {
        let (over, changed) = &*self.over;
        *over.lock().unwrap_or_else(PoisonError::into_inner) = true;
        changed.notify_all();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the governor's thread panicked");
        }
    }
}

impl Drop for Governed {
    fn drop(&mut self) {
        self.stop();
    }
}
