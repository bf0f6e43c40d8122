//! An opened packed checkpoint: from its manifest alone.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use weightstream_source::{open_regular, read_small};

use super::error::PackedError;
use super::format::{Code, MANIFEST, Manifest};
use super::frame::Frame;
use crate::{CheckpointError, Content, ContentError, Extent, Form, StoredFile, Tensor, inside};

/// A manifest of this size describes more than 10^13 bytes of weights.
const MAX_MANIFEST: u64 = 1 << 30;

/// A packed checkpoint, by its manifest. Its files exist and have the lengths that the manifest says.
#[derive(Debug, Clone)]
pub struct Packed {
    path: PathBuf,
    manifest: Manifest,
    files: Vec<PathBuf>,
    /// The number of each chunk's first frame.
    first_frames: Vec<u64>,
    weights: u64,
    digest: String,
}

impl Packed {
    /// Whether `path` names a packed checkpoint: a manifest, or a folder that holds one.
    pub fn is_at(path: &Path) -> bool {
        if path.is_dir() {
            return path.join(MANIFEST).symlink_metadata().is_ok();
        }
        path.file_name().is_some_and(|name| name == MANIFEST)
    }

    /// Opens the manifest at `path`, or the one in the folder `path`. No weight is read.
    ///
    /// # Errors
    /// A manifest that is damaged or not understood; data files that are missing or have another length.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        if !Self::is_at(path) && (path.is_dir() || !path.exists()) {
            return Err(CheckpointError::nothing_like(
                "a packed checkpoint, as `weightstream pack` writes it",
                path,
            ));
        }
        let path = if path.is_dir() {
            inside(path, MANIFEST)?
        } else {
            path.to_owned()
        };
        let (manifest, digest) = Self::read_manifest(&path)?;
        let failed = |source| CheckpointError::Packed {
            manifest: path.clone(),
            source,
        };
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut files = Vec::with_capacity(manifest.files.len());
        for file in &manifest.files {
            let data = inside(folder, &file.name)?;
            let (_, got) = open_regular(&data)?;
            if got != file.length {
                return Err(failed(PackedError::FileLength {
                    file: data,
                    expected: file.length,
                    got,
                }));
            }
            files.push(data);
        }
        let mut next = 0;
        let first_frames = manifest
            .chunks
            .iter()
            .map(|chunk| {
                let first = next;
                next += u64::from(chunk.frames);
                first
            })
            .collect();
        Ok(Self {
            digest,
            weights: manifest.weights(),
            path,
            manifest,
            files,
            first_frames,
        })
    }

    /// Reads the manifest at `path`, whatever has become of its data files; gives it and its [digest](Self::digest).
    ///
    /// # Errors
    /// A manifest that is damaged or not understood.
    pub fn read_manifest(path: &Path) -> Result<(Manifest, String), CheckpointError> {
        let bytes = read_small(path, MAX_MANIFEST)?;
        let manifest = Manifest::from_bytes(&bytes).map_err(|source| CheckpointError::Packed {
            manifest: path.to_owned(),
            source,
        })?;
        let digest = bytes.iter().skip(bytes.len().saturating_sub(32));
        Ok((manifest, digest.map(|byte| format!("{byte:02x}")).collect()))
    }

    /// The manifest's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The files that hold the chunks; [`Frame::file`] is an index into them.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// The tensors; `file` is 0, `offset` the address among the weights.
    pub fn tensors(&self) -> &[Tensor] {
        &self.manifest.tensors
    }

    /// What the original files say of themselves.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.manifest.metadata
    }

    /// Bytes of weights: the length of the one file that this checkpoint stands for.
    pub fn weights(&self) -> u64 {
        self.weights
    }

    /// Bytes on disk, without the manifest.
    pub fn stored(&self) -> u64 {
        self.manifest.files.iter().map(|file| file.length).sum()
    }

    /// Decoded bytes of each chunk but the last: a power of two of at least 256 KiB.
    pub fn chunk_bytes(&self) -> u64 {
        self.manifest.chunk_bytes
    }

    /// How many chunks there are.
    pub fn chunks(&self) -> u64 {
        self.manifest.chunks.len() as u64
    }

    /// The BLAKE3 of the manifest, in hexadecimal: what this checkpoint is known by.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The frames of chunk number `chunk`, in the order of their addresses and of their offsets: one read of
    /// consecutive bytes brings them all. None for a chunk that does not exist.
    pub fn frames_of(&self, chunk: u64) -> impl Iterator<Item = Frame> + '_ {
        let number = usize::try_from(chunk).unwrap_or(usize::MAX);
        let row = self.manifest.chunks.get(number);
        let first = self.first_frames.get(number).copied().unwrap_or(0) as usize;
        let rows = row
            .and_then(|row| self.manifest.frames.get(first..first + row.frames as usize))
            .unwrap_or_default();
        let mut address = chunk.saturating_mul(self.manifest.chunk_bytes);
        let (file, mut offset) = row.map_or((0, 0), |row| (row.file, row.offset));
        rows.iter().map(move |row| {
            let frame = Frame {
                chunk,
                address,
                length: row.length,
                file,
                offset,
                stored_length: row.stored_length,
                coded_length: row.coded_length,
                code: row.code,
                element: row.element,
                checksum: row.checksum,
            };
            address += u64::from(row.length);
            offset += u64::from(row.stored_length);
            frame
        })
    }

    /// The frames that hold the weights at `addresses`, in order. Those at the ends may hold more.
    pub fn frames_in(&self, addresses: Range<u64>) -> impl Iterator<Item = Frame> + '_ {
        let chunk_bytes = self.manifest.chunk_bytes;
        let end = addresses.end.min(self.weights).max(addresses.start);
        let chunks = addresses.start / chunk_bytes..end.div_ceil(chunk_bytes);
        chunks
            .flat_map(|chunk| self.frames_of(chunk))
            .filter(move |frame| {
                frame.address < end && frame.address + u64::from(frame.length) > addresses.start
            })
    }

    /// What tensors read as: the address space of the weights, each frame an extent of it.
    ///
    /// # Errors
    /// None for a checkpoint that opened.
    pub fn content(&self) -> Result<Content, ContentError> {
        let files = self
            .files
            .iter()
            .zip(&self.manifest.files)
            .map(|(path, file)| StoredFile {
                path: path.clone(),
                length: file.length,
            });
        let extents = self.frames_in(0..self.weights).map(|frame| Extent {
            start: frame.address,
            length: frame.length.into(),
            file: frame.file,
            offset: frame.offset,
            stored: frame.stored_length.into(),
            form: match (frame.code, frame.checksum) {
                (Code::Raw, checksum) => Form::Checked { checksum },
                (Code::Exponent, checksum) => Form::Coded {
                    coded: frame.coded_length,
                    checksum,
                },
            },
        });
        Content::new(files.collect(), extents.collect())
    }

    /// The tensors that have a byte in `addresses`, in the order of the manifest.
    pub fn tensors_in(&self, addresses: Range<u64>) -> impl Iterator<Item = &Tensor> {
        self.manifest.tensors.iter().filter(move |tensor| {
            tensor.offset < addresses.end && tensor.offset + tensor.length > addresses.start
        })
    }
}
