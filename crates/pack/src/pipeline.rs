//! Reading, coding and writing at once: one thread reads, several code, this one writes, in memory of a fixed size.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crossbeam_channel::{Receiver, Sender, bounded};
use weightstream::{Content, Form};

use crate::PackError;

/// Reads tensors of a checkpoint, decoded and verified where they are stored in another form.
pub struct Reader<'c> {
    contents: &'c [Content],
    opened: HashMap<PathBuf, File>,
}

impl<'c> Reader<'c> {
    pub fn new(contents: &'c [Content]) -> Self {
        Self {
            contents,
            opened: HashMap::new(),
        }
    }

    /// Fills `to` from `offset` on in content `content`.
    pub fn read(&mut self, content: u32, offset: u64, to: &mut [u8]) -> Result<(), PackError> {
        let end = offset + to.len() as u64;
        let Some(content) = self.contents.get(content as usize) else {
            return Ok(());
        };
        for extent in content.extents(offset..end) {
            let (from, until) = (extent.start.max(offset), extent.end().min(end));
            let place = (from - offset) as usize..(until - offset) as usize;
            let Some(to) = to.get_mut(place) else {
                continue;
            };
            let Some(file) = content.files().get(extent.file as usize) else {
                continue;
            };
            let skip = from - extent.start;
            if extent.form == Form::Plain {
                self.pread(&file.path, extent.offset + skip, to)?;
                continue;
            }
            let mut stored = vec![0; extent.stored as usize];
            self.pread(&file.path, extent.offset, &mut stored)?;
            let mut decoded = vec![0; extent.length as usize];
            decode(extent.form, &stored, &mut decoded).map_err(|reason| PackError::Decode {
                tensor: file.path.display().to_string(),
                reason,
            })?;
            let skip = skip as usize;
            to.copy_from_slice(decoded.get(skip..skip + to.len()).unwrap_or_default());
        }
        Ok(())
    }

    fn pread(&mut self, path: &Path, offset: u64, to: &mut [u8]) -> Result<(), PackError> {
        if !self.opened.contains_key(path) {
            let file = File::open(path).map_err(PackError::io(path, "open"))?;
            self.opened.insert(path.to_owned(), file);
        }
        if let Some(file) = self.opened.get(path) {
            file.read_exact_at(to, offset)
                .map_err(PackError::io(path, "read"))?;
            weightstream_source::drop_from_page_cache(file, offset, to.len());
        }
        Ok(())
    }
}

fn decode(form: Form, stored: &[u8], to: &mut [u8]) -> Result<(), String> {
    let proven = |expected: u64| {
        let came = weightstream_checkpoint::packed::checksum(stored);
        if came == expected {
            return Ok(());
        }
        Err(format!(
            "expected checksum {expected:016x}, came {came:016x}"
        ))
    };
    match form {
        Form::Checked { checksum } => {
            proven(checksum)?;
            to.copy_from_slice(stored.get(..to.len()).ok_or("too few bytes")?);
            Ok(())
        }
        Form::Coded { coded, checksum } => {
            proven(checksum)?;
            let coded = stored.get(..coded as usize).ok_or("too few bytes")?;
            weightstream_codec::decode(coded, to).map_err(|error| error.to_string())
        }
        form => Err(format!("{form:?}")),
    }
}

/// The three steps of the work on one item.
pub struct Steps<R, C, W> {
    /// Fills a buffer, which it gets as another item left it.
    pub read: R,
    /// Makes of the buffer what is written.
    pub code: C,
    /// Writes; gets the items in order.
    pub write: W,
}

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
    let (to_code, from_read) = bounded::<Result<(u64, Vec<u8>), PackError>>(buffers);
    let (to_write, from_code) = bounded::<Result<(u64, Vec<u8>, T), PackError>>(buffers);
    std::thread::scope(|scope| {
        let numbers = items.clone();
        scope.spawn(move || {
            for number in numbers {
                let Ok(mut buffer) = take.recv() else { return };
                let outcome = read(number, &mut buffer).map(|()| (number, buffer));
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
    from_read: &Receiver<Result<(u64, Vec<u8>), PackError>>,
    to_write: &Sender<Result<(u64, Vec<u8>, T), PackError>>,
    code: &(impl Fn(u64, &[u8]) -> Result<T, PackError> + Sync),
) {
    for read in from_read {
        let coded = read.and_then(|(number, buffer)| {
            let coded = code(number, &buffer)?;
            Ok((number, buffer, coded))
        });
        if to_write.send(coded).is_err() {
            return;
        }
    }
}
