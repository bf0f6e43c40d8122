//! Reading, coding and writing at once: one thread reads, several code, this one writes, in memory of a fixed size.

use std::collections::BTreeMap;
use std::ops::Range;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::PackError;

/// The three steps of the work on one item.
pub struct Steps<R, C, W> {
    /// Fills a buffer, which it gets as another item left it.
    pub read: R,
    /// Makes of the buffer what is written.
    pub code: C,
    /// Writes; gets the items in order.
    pub write: W,
}

/// An item under way: its number, its buffer, and what was made of it.
type Item<T> = (u64, Vec<u8>, T);

/// Does `items` with `jobs` threads that code. The first error ends it.
pub fn run<T: Send>(
    items: Range<u64>,
    jobs: usize,
    steps: Steps<
        impl FnMut(u64, &mut Vec<u8>) -> Result<(), PackError> + Send,
        impl Fn(u64, &[u8]) -> Result<T, PackError> + Sync,
        impl FnMut(u64, T) -> Result<(), PackError>,
    >,
) -> Result<(), PackError> {
    let Steps {
        mut read,
        code,
        mut write,
    } = steps;
    let jobs = jobs.max(1);
    // Whoever reads takes a buffer, whoever has written gives it back: so much is under way at most.
    let buffers = 2 * jobs + 2;
    let (give, take) = bounded::<Vec<u8>>(buffers);
    for _ in 0..buffers {
        let _ = give.send(Vec::new());
    }
    let (to_code, from_read) = bounded::<Result<Item<()>, PackError>>(buffers);
    let (to_write, from_code) = bounded::<Result<Item<T>, PackError>>(buffers);
    std::thread::scope(|scope| {
        let numbers = items.clone();
        scope.spawn(move || {
            for number in numbers {
                let Ok(mut buffer) = take.recv() else { return };
                let outcome = read(number, &mut buffer).map(|()| (number, buffer, ()));
                let failed = outcome.is_err();
                if to_code.send(outcome).is_err() || failed {
                    return;
                }
            }
        });
        for _ in 0..jobs {
            let (from_read, to_write, code) = (from_read.clone(), to_write.clone(), &code);
            scope.spawn(move || coder(&from_read, &to_write, code));
        }
        drop((from_read, to_write));
        // An early return drops the channels, at which every thread ends.
        let (give, from_code) = (give, from_code);
        let mut waiting = BTreeMap::new();
        let mut next = items.start;
        while next < items.end {
            let (number, buffer, coded) = from_code.recv().map_err(|_| PackError::Panicked)??;
            waiting.insert(number, (buffer, coded));
            while let Some((buffer, coded)) = waiting.remove(&next) {
                write(next, coded)?;
                let _ = give.try_send(buffer);
                next += 1;
            }
        }
        Ok(())
    })
}

fn coder<T>(
    from_read: &Receiver<Result<Item<()>, PackError>>,
    to_write: &Sender<Result<Item<T>, PackError>>,
    code: &(impl Fn(u64, &[u8]) -> Result<T, PackError> + Sync),
) {
    for read in from_read {
        let coded = read.and_then(|(number, buffer, ())| {
            let coded = code(number, &buffer)?;
            Ok((number, buffer, coded))
        });
        if to_write.send(coded).is_err() {
            return;
        }
    }
}
