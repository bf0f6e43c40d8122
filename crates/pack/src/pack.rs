//! Packs a checkpoint.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use weightstream::{Checkpoint, Dtype, Reader};
use weightstream_checkpoint::packed::{
    CHUNK_BYTES, ChunkRow, DataFile, FrameRow, MANIFEST, Manifest, Packed, checksum, file_name,
};

use crate::PackError;
use crate::arrangement::Arrangement;
use crate::companions;
use crate::frames::{CodedChunk, code, gather};
use crate::journal::{Journal, Record};
use crate::lock::FolderLock;
use crate::order::Order;
use crate::pipeline::{Steps, run};
use crate::progress::{OnProgress, Phase, Progress};
use crate::verify::verify;

/// Whether weights are coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// Never: chunks are images of their weights.
    None,
    /// Where it makes them smaller.
    Auto,
}

/// How to pack.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether weights are coded.
    pub code: Coding,
    /// Threads that code.
    pub jobs: usize,
    /// Decoded bytes of a chunk: a power of two from 256 KiB to 64 MiB.
    pub chunk_bytes: u64,
    /// A file of chunks ends before it is longer than this.
    pub file_bytes: u64,
    /// What floating-point tensors are converted to; None leaves them as they are.
    pub dtype: Option<Dtype>,
    /// The order in which the tensors are used; None takes that of the original files.
    pub order: Option<Order>,
    /// Files that travel along besides those that lie with the weights: paths in the folder, and their content.
    pub files: Vec<(PathBuf, Vec<u8>)>,
    /// Whether another packed checkpoint may be replaced.
    pub overwrite: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            code: Coding::Auto,
            jobs: std::thread::available_parallelism().map_or(1, usize::from),
            chunk_bytes: CHUNK_BYTES,
            file_bytes: 32 << 30,
            dtype: None,
            order: None,
            files: Vec::new(),
            overwrite: false,
        }
    }
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// How many tensors there are.
    pub tensors: usize,
    /// Bytes of weights.
    pub weights: u64,
    /// Bytes that they take on disk.
    pub stored: u64,
    /// Bytes of weights that an earlier run had packed, and that were found right.
    pub resumed: u64,
    /// Whether it was complete already, so that nothing was written.
    pub complete: bool,
    /// The identity of the packed checkpoint.
    pub digest: String,
}

/// Where a manifest is written before it is complete.
const PARTIAL: &str = "manifest.weightstream.partial";

/// Packs the checkpoint at `source` into the folder `destination`.
///
/// The manifest is written last and only after all else was read back and found right, so whatever interrupts this,
/// the folder opens as a complete checkpoint or not at all. A second call goes on where the first was interrupted, if
/// the source's files are still the same; one for a complete checkpoint checks that, and writes what is damaged anew.
///
/// # Errors
/// What is wrong with the source, the destination, or what was written.
pub fn pack(
    source: &Path,
    destination: &Path,
    options: &Options,
    on_progress: OnProgress<'_>,
) -> Result<Report, PackError> {
    let checkpoint = Checkpoint::open(source)?;
    let arrangement = Arrangement::new(&checkpoint, options)?;
    std::fs::create_dir_all(destination).map_err(PackError::io(destination, "make the folder"))?;
    let _lock = FolderLock::take(destination)?;
    let (mut journal, mut recorded) = Journal::open(destination, &arrangement.fingerprint)?;
    match finished(destination, &arrangement, options, on_progress)? {
        Finished::Nothing => {}
        Finished::Right(packed) => {
            copy_companions(source, destination, options)?;
            journal.finish()?;
            return Ok(Report {
                complete: true,
                ..report(&packed, packed.weights())
            });
        }
        Finished::Damaged(records) => recorded = records,
        Finished::Replaced => recorded.clear(),
    }

    let mut writer = Writer::new(destination, options.file_bytes);
    let mut tell = Teller {
        on_progress,
        total: arrangement.weights,
        phase: Phase::Resuming,
        done: 0,
    };
    let mut reader = Reader::new(&arrangement.contents);
    let mut again = |chunk| {
        let mut raw = Vec::new();
        gather(&arrangement, chunk, &mut reader, &mut raw)?;
        code(&arrangement, chunk, &raw, options.code)
    };
    let resumed = resume(
        &arrangement,
        recorded,
        &mut writer,
        &mut journal,
        &mut tell,
        &mut again,
    )?;
    tell.phase = Phase::Packing;
    let first = writer.chunks.len() as u64;
    let steps = Steps {
        read: |chunk, raw: &mut Vec<u8>| gather(&arrangement, chunk, &mut reader, raw),
        code: |chunk, raw: &[u8]| code(&arrangement, chunk, raw, options.code),
        write: |chunk, coded: CodedChunk| {
            let row = writer.write(&coded)?;
            journal.note(&row, &coded.frames)?;
            tell.more(&arrangement, chunk, writer.stored());
            Ok(())
        },
    };
    run(first..arrangement.chunks(), options.jobs, steps)?;

    let manifest = writer.finish(&arrangement, &checkpoint)?;
    let partial = destination.join(PARTIAL);
    write_durably(&partial, &manifest.to_bytes())?;
    let packed = Packed::open(&partial)?;
    let (count, damages) = verify(&packed, options.jobs, on_progress)?;
    if let (true, Some(first)) = (count > 0, damages.into_iter().next()) {
        return Err(PackError::Written {
            path: destination.to_owned(),
            damage: Box::new(first),
        });
    }
    copy_companions(source, destination, options)?;
    let now = Arrangement::new(&Checkpoint::open(source)?, options)?;
    if now.fingerprint != arrangement.fingerprint {
        return Err(PackError::Changed {
            source_path: source.to_owned(),
        });
    }
    let path = destination.join(MANIFEST);
    std::fs::rename(&partial, &path).map_err(PackError::io(&path, "write the manifest"))?;
    sync_folder(destination)?;
    journal.finish()?;
    Ok(report(&packed, resumed))
}

fn report(packed: &Packed, resumed: u64) -> Report {
    Report {
        tensors: packed.tensors().len(),
        weights: packed.weights(),
        stored: packed.stored(),
        resumed,
        complete: false,
        digest: packed.digest().to_owned(),
    }
}

fn copy_companions(source: &Path, destination: &Path, options: &Options) -> Result<(), PackError> {
    companions::copy(source, destination, options.dtype, options.overwrite)?;
    for (file, content) in &options.files {
        companions::write(&destination.join(file), content, options.overwrite)?;
    }
    Ok(())
}

/// What there is of a finished packed checkpoint.
enum Finished {
    Nothing,
    /// The one that is wanted: all of it was read just now, and is right.
    Right(Box<Packed>),
    /// The one that is wanted, but for damage; it opens no more.
    Damaged(Vec<Record>),
    /// Another one, which opens no more.
    Replaced,
}

fn finished(
    folder: &Path,
    arrangement: &Arrangement,
    options: &Options,
    on_progress: OnProgress<'_>,
) -> Result<Finished, PackError> {
    let path = folder.join(MANIFEST);
    if path.symlink_metadata().is_err() {
        return Ok(Finished::Nothing);
    }
    let finished = if options.overwrite {
        Finished::Replaced
    } else {
        let manifest = Packed::read_manifest(&path).map(|(manifest, _)| manifest);
        let wanted = manifest
            .ok()
            .filter(|manifest| manifest.origin == Some(arrangement.fingerprint));
        let Some(manifest) = wanted else {
            return Err(PackError::Exists {
                folder: folder.to_owned(),
            });
        };
        // One whose files are lost or cut short doesn't open.
        if let Ok(packed) = Packed::open(&path)
            && verify(&packed, options.jobs, on_progress)?.0 == 0
        {
            return Ok(Finished::Right(Box::new(packed)));
        }
        Finished::Damaged(records(&manifest))
    };
    // First of all: from here on the folder opens no more.
    std::fs::remove_file(&path).map_err(PackError::io(&path, "remove"))?;
    sync_folder(folder)?;
    Ok(finished)
}

/// A manifest's chunks as a journal has them.
fn records(manifest: &Manifest) -> Vec<Record> {
    let mut frames = manifest.frames.iter().copied();
    let chunks = manifest.chunks.iter();
    chunks
        .map(|chunk| {
            (
                *chunk,
                frames.by_ref().take(chunk.frames as usize).collect(),
            )
        })
        .collect()
}

/// Takes over what an earlier run has written, as far as it proves to be right; what is damaged is packed `again`. Gives
/// the bytes of weights that were right.
fn resume(
    arrangement: &Arrangement,
    recorded: Vec<Record>,
    writer: &mut Writer,
    journal: &mut Journal,
    tell: &mut Teller<'_>,
    again: &mut impl FnMut(u64) -> Result<CodedChunk, PackError>,
) -> Result<u64, PackError> {
    let mut right = 0;
    for (chunk, (row, frames)) in (0..arrangement.chunks()).zip(recorded) {
        let expected = arrangement.frames(chunk);
        let alike = expected.len() == frames.len()
            && expected
                .iter()
                .zip(&frames)
                .all(|((range, element), frame)| {
                    range.end - range.start == u64::from(frame.length) && *element == frame.element
                });
        if !alike {
            break;
        }
        match writer.adopt(&row, &frames)? {
            Found::Right => {
                right += frames
                    .iter()
                    .map(|frame| u64::from(frame.length))
                    .sum::<u64>()
            }
            Found::Wrong => {
                let coded = again(chunk)?;
                if coded.frames != frames {
                    break;
                }
                writer.write(&coded)?;
            }
            Found::Elsewhere => break,
        }
        journal.note(&row, &frames)?;
        tell.more(arrangement, chunk, writer.stored());
    }
    writer.truncate()?;
    Ok(right)
}

/// What was found of a chunk where it should be.
enum Found {
    /// Its bytes.
    Right,
    /// Other bytes.
    Wrong,
    /// Not so many bytes, or it should be elsewhere.
    Elsewhere,
}

/// Keeps count for the progress bar.
struct Teller<'p> {
    on_progress: OnProgress<'p>,
    phase: Phase,
    done: u64,
    total: u64,
}

impl Teller<'_> {
    fn more(&mut self, arrangement: &Arrangement, chunk: u64, stored: u64) {
        let range = arrangement.chunk(chunk);
        self.done += range.end - range.start;
        (self.on_progress)(Progress {
            phase: self.phase,
            done: self.done,
            total: self.total,
            stored,
        });
    }
}

/// Appends chunks to their files.
struct Writer {
    folder: PathBuf,
    file_bytes: u64,
    /// The file that is being written, and its length.
    current: Option<(File, u64)>,
    files: Vec<DataFile>,
    chunks: Vec<ChunkRow>,
    frames: Vec<FrameRow>,
}

impl Writer {
    fn new(folder: &Path, file_bytes: u64) -> Self {
        Self {
            folder: folder.to_owned(),
            file_bytes,
            current: None,
            files: Vec::new(),
            chunks: Vec::new(),
            frames: Vec::new(),
        }
    }

    /// Bytes written so far.
    fn stored(&self) -> u64 {
        let current = self.current.as_ref().map_or(0, |&(_, length)| length);
        self.files.iter().map(|file| file.length).sum::<u64>() + current
    }

    fn write(&mut self, coded: &CodedChunk) -> Result<ChunkRow, PackError> {
        let row = self.place(coded.stored.len() as u64, &coded.frames)?;
        let path = self.folder.join(file_name(row.file as usize));
        if let Some((file, length)) = &mut self.current {
            file.write_all_at(&coded.stored, row.offset)
                .map_err(PackError::io(&path, "write"))?;
            *length += coded.stored.len() as u64;
        }
        self.chunks.push(row);
        self.frames.extend(&coded.frames);
        Ok(row)
    }

    /// Where the next chunk goes; a new file where it would make this one too long.
    fn place(&mut self, stored: u64, frames: &[FrameRow]) -> Result<ChunkRow, PackError> {
        let full = matches!(&self.current, Some((_, length)) if length + stored > self.file_bytes && *length > 0);
        if full {
            self.close()?;
        }
        let number = self.files.len();
        if self.current.is_none() {
            let path = self.folder.join(file_name(number));
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .map_err(PackError::io(&path, "write"))?;
            self.current = Some((file, 0));
        }
        Ok(ChunkRow {
            file: number as u32,
            frames: frames.len() as u32,
            offset: self.current.as_ref().map_or(0, |&(_, length)| length),
        })
    }

    /// Counts a chunk as written if its bytes are there and right.
    fn adopt(&mut self, row: &ChunkRow, frames: &[FrameRow]) -> Result<Found, PackError> {
        let lengths = frames.iter().map(|frame| u64::from(frame.stored_length));
        let stored: u64 = lengths.sum();
        let placed = self.place(stored, frames)?;
        let Some((file, length)) = &mut self.current else {
            return Ok(Found::Elsewhere);
        };
        let mut bytes = vec![0; stored as usize];
        if placed != *row || file.read_exact_at(&mut bytes, row.offset).is_err() {
            return Ok(Found::Elsewhere);
        }
        let mut rest = bytes.as_slice();
        for frame in frames {
            let Some((stored, behind)) = rest.split_at_checked(frame.stored_length as usize) else {
                return Ok(Found::Elsewhere);
            };
            if checksum(stored) != frame.checksum {
                return Ok(Found::Wrong);
            }
            rest = behind;
        }
        *length += stored;
        self.chunks.push(*row);
        self.frames.extend(frames);
        Ok(Found::Right)
    }

    /// Cuts off what was not adopted.
    fn truncate(&mut self) -> Result<(), PackError> {
        if let Some((file, length)) = &self.current {
            let path = self.folder.join(file_name(self.files.len()));
            file.set_len(*length)
                .map_err(PackError::io(&path, "truncate"))?;
        }
        let next = self.files.len() + usize::from(self.current.is_some());
        for number in next.. {
            let path = self.folder.join(file_name(number));
            if path.symlink_metadata().is_err() {
                break;
            }
            std::fs::remove_file(&path).map_err(PackError::io(&path, "remove"))?;
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), PackError> {
        if let Some((file, length)) = self.current.take() {
            let name = file_name(self.files.len());
            file.sync_all()
                .map_err(PackError::io(&self.folder.join(&name), "flush"))?;
            self.files.push(DataFile { name, length });
        }
        Ok(())
    }

    fn finish(
        mut self,
        arrangement: &Arrangement,
        checkpoint: &Checkpoint,
    ) -> Result<Manifest, PackError> {
        self.close()?;
        Ok(Manifest {
            files: self.files,
            tensors: arrangement.tensors.clone(),
            chunk_bytes: arrangement.chunk_bytes,
            chunks: self.chunks,
            frames: self.frames,
            metadata: checkpoint.metadata.clone(),
            origin: Some(arrangement.fingerprint),
        })
    }
}

pub(crate) fn write_durably(path: &Path, bytes: &[u8]) -> Result<(), PackError> {
    let write = || {
        let mut file = File::create(path)?;
        std::io::Write::write_all(&mut file, bytes)?;
        file.sync_all()
    };
    write().map_err(PackError::io(path, "write the manifest"))
}

/// Makes names durable.
#[expect(clippy::disallowed_methods, reason = "a folder is opened")]
fn sync_folder(folder: &Path) -> Result<(), PackError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(PackError::io(folder, "flush"))
}
