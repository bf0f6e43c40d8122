//! Reads every stored byte and checks it.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use weightstream_checkpoint::packed::{Frame, Packed};
use weightstream_source::open_regular;

use crate::PackError;
use crate::pipeline::{Steps, run};
use crate::progress::{OnProgress, Phase, Progress};

/// Damages that are listed; more are counted.
const LISTED: usize = 1000;

/// A piece of a packed checkpoint that is not what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The first tensor that has a byte there.
    pub tensor: Option<String>,
    /// How many others have.
    pub others: usize,
    /// The chunk.
    pub chunk: u64,
    /// The file.
    pub file: PathBuf,
    /// Where the damaged piece begins in the file, in bytes.
    pub offset: u64,
    /// How long it is, in bytes.
    pub length: u64,
    /// What was expected and what was got.
    pub reason: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.tensor {
            Some(tensor) => write!(formatter, "tensor {tensor:?}")?,
            None => write!(formatter, "no tensor")?,
        }
        if self.others > 0 {
            write!(formatter, " and {} more", self.others)?;
        }
        let Damage {
            chunk,
            file,
            offset,
            length,
            reason,
            ..
        } = self;
        let file = file.display();
        write!(
            formatter,
            ", chunk {chunk}, {file}, {length} bytes at offset {offset}: {reason}"
        )
    }
}

/// Reads all chunks of `packed` with `jobs` threads that check; gives what is damaged, by address, and how many
/// pieces that is.
///
/// # Errors
/// None for damage, only where the work itself fails.
pub fn verify(
    packed: &Packed,
    jobs: usize,
    on_progress: OnProgress<'_>,
) -> Result<(u64, Vec<Damage>), PackError> {
    let files = open_all(packed.files())?;
    let (mut count, mut damages) = (0, Vec::new());
    let (mut done, mut stored) = (0, 0);
    let steps = Steps {
        // A chunk that can't be read is damaged, like one that reads wrongly.
        read: |chunk: u64, buffer: &mut Vec<u8>| {
            buffer.clear();
            if read_chunk(packed, &files, chunk, buffer).is_err() {
                buffer.clear();
            }
            Ok(())
        },
        code: |chunk: u64, bytes: &[u8]| Ok(check(packed, chunk, bytes)),
        write: |_, (length, bytes, found): (u64, u64, Vec<Damage>)| {
            count += found.len() as u64;
            damages.extend(found);
            damages.truncate(LISTED);
            (done, stored) = (done + length, stored + bytes);
            on_progress(Progress {
                phase: Phase::Verifying,
                done,
                total: packed.weights(),
                stored,
            });
            Ok(())
        },
    };
    run(0..packed.chunks(), jobs, steps)?;
    Ok((count, damages))
}

/// Opens files and drops what the page cache has of them: what counts is what is on the disk.
pub(crate) fn open_all(paths: &[PathBuf]) -> Result<Vec<File>, PackError> {
    let open = |path: &PathBuf| {
        let (file, length) = open_regular(path)?;
        weightstream_source::drop_from_page_cache(
            &file,
            0,
            usize::try_from(length).unwrap_or(usize::MAX),
        );
        Ok(file)
    };
    paths.iter().map(open).collect()
}

/// Reads the stored bytes of a chunk to the end of `buffer`.
pub(crate) fn read_chunk(
    packed: &Packed,
    files: &[File],
    chunk: u64,
    buffer: &mut Vec<u8>,
) -> std::io::Result<()> {
    let Some(first) = packed.frames_of(chunk).next() else {
        return Ok(());
    };
    let length: usize = packed
        .frames_of(chunk)
        .map(|frame| frame.stored_length as usize)
        .sum();
    let file = files
        .get(first.file as usize)
        .ok_or(std::io::ErrorKind::NotFound)?;
    let start = buffer.len();
    buffer.resize(start + length, 0);
    file.read_exact_at(&mut buffer[start..], first.offset)?;
    weightstream_source::drop_from_page_cache(file, first.offset, length);
    Ok(())
}

/// Bytes of weights and of storage, and what is wrong with them.
fn check(packed: &Packed, chunk: u64, bytes: &[u8]) -> (u64, u64, Vec<Damage>) {
    let mut damages = Vec::new();
    let (mut length, mut at) = (0, 0);
    let mut weights = Vec::new();
    for frame in packed.frames_of(chunk) {
        let end = at + frame.stored_length as usize;
        weights.resize(frame.length as usize, 0);
        let checked = match bytes.get(at..end) {
            Some(stored) => frame
                .decode(stored, &mut weights)
                .map_err(|error| error.to_string()),
            None => Err("expected bytes that can be read, got an error".to_owned()),
        };
        if let Err(reason) = checked {
            damages.push(damage(packed, &frame, reason));
        }
        length += u64::from(frame.length);
        at = end;
    }
    (length, at as u64, damages)
}

pub(crate) fn damage(packed: &Packed, frame: &Frame, reason: String) -> Damage {
    let mut tensors = packed.tensors_in(frame.address..frame.address + u64::from(frame.length));
    Damage {
        tensor: tensors.next().map(|tensor| tensor.name.clone()),
        others: tensors.count(),
        chunk: frame.chunk,
        file: packed
            .files()
            .get(frame.file as usize)
            .map_or(Path::new(""), PathBuf::as_path)
            .to_owned(),
        offset: frame.offset,
        length: frame.stored_length.into(),
        reason,
    }
}
