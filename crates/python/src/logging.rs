//! What the parts log, handed to Python's `logging` (the logger "weightstream").
//!
//! The pager and the reading threads log, and must never wait for Python's lock: a thread that holds it may be waiting
//! for them. So what they say is kept until a caller comes by who has the lock anyway.

use log::{Level, LevelFilter, Log, Metadata, Record};
use pyo3::prelude::*;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// More than this in one go is noise; the latest are kept.
const KEPT: usize = 64;

static KEPT_BACK: Letters = Letters {
    waiting: AtomicBool::new(false),
    letters: Mutex::new(VecDeque::new()),
};

struct Letters {
    waiting: AtomicBool,
    letters: Mutex<VecDeque<(Level, String)>>,
}

impl Log for Letters {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("weightstream") && metadata.level() <= Level::Warn
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let mut letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
            if letters.len() == KEPT {
                letters.pop_front();
            }
            letters.push_back((record.level(), record.args().to_string()));
            self.waiting.store(true, Ordering::Release);
        }
    }

    fn flush(&self) {}
}

/// Takes what is logged from now on.
pub fn listen() {
    // Refused where another extension of this process, linked with this one, listens already.
    if log::set_logger(&KEPT_BACK).is_ok() {
        log::set_max_level(LevelFilter::Warn);
    }
}

/// Hands over what was kept.
pub fn deliver(python: Python<'_>) -> PyResult<()> {
    if !KEPT_BACK.waiting.swap(false, Ordering::Acquire) {
        return Ok(());
    }
    let letters = std::mem::take(
        &mut *KEPT_BACK
            .letters
            .lock()
            .unwrap_or_else(PoisonError::into_inner),
    );
    let logger = python
        .import("logging")?
        .call_method1("getLogger", ("weightstream",))?;
    for (level, words) in letters {
        let method = if level == Level::Error {
            "error"
        } else {
            "warning"
        };
        logger.call_method1(method, ("%s", words))?;
    }
    Ok(())
}
