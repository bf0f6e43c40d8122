//! The manifest, byte by byte: `docs/format.md` in code. Writing and reading stand side by side.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use weightstream_codec::Element;

use super::cursor::Cursor;
use super::error::PackedError;
use crate::{Dtype, Tensor};

/// The manifest's name in the folder of a packed checkpoint.
pub const MANIFEST: &str = "manifest.weightstream";

/// Decoded bytes of one chunk, unless the packer is told otherwise: one chunk of the pool.
pub const CHUNK_BYTES: u64 = 2 << 20;

/// Decoded bytes of one frame at most: the smallest chunk of a pool.
pub const FRAME_BYTES: u64 = 256 << 10;

/// Frames begin at multiples of this, in the weights and in their chunk.
pub const FRAME_ALIGNMENT: u64 = 64;

/// Chunks are stored at multiples of this, for direct reads.
pub const STORED_ALIGNMENT: u64 = 4096;

/// Text that is transferred as such, or cut to seven bits, no longer begins like this.
pub(super) const MAGIC: [u8; 8] = *b"\x89WSP\r\n\x1a\n";
const VERSION: u32 = 1;
/// No feature has been needed yet.
const KNOWN_FEATURES: u64 = 0;
const HEADER: usize = 64;
const SECTION_ROW: usize = 32;
const DIGEST: usize = blake3::OUT_LEN;
const REQUIRED: u32 = 1;
/// More than this version knows by far, and few enough to read.
const MAX_SECTIONS: u32 = 64;
/// As for safetensors: more than any framework knows.
const MAX_DIMENSIONS: u8 = 64;
/// A decoded chunk that any pool can hold.
const MAX_CHUNK: u64 = 64 << 20;

/// The name of data file number `number`.
pub fn file_name(number: usize) -> String {
    format!("chunks-{:05}.weightstream", number + 1)
}

/// How a frame is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Code {
    /// As it is.
    Raw = 0,
    /// By `weightstream-codec`: exponents in fewer bits.
    Exponent = 1,
}

impl Code {
    fn of(number: u8) -> Option<Self> {
        [Code::Raw, Code::Exponent]
            .into_iter()
            .find(|&code| code as u8 == number)
    }

    /// In a word, for reports.
    pub fn name(self) -> &'static str {
        match self {
            Code::Raw => "raw",
            Code::Exponent => "exponent",
        }
    }
}

/// The number of each element in a row of the frames section.
const ELEMENTS: [Element; 4] = [Element::Bytes, Element::Bf16, Element::F16, Element::F32];

/// As what the codec sees the elements of a tensor.
pub fn element(dtype: Dtype) -> Element {
    match dtype {
        Dtype::BF16 => Element::Bf16,
        Dtype::F16 => Element::F16,
        Dtype::F32 => Element::F32,
        _ => Element::Bytes,
    }
}

/// A file that holds chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFile {
    /// Its name beside the manifest.
    pub name: String,
    /// Its length in bytes.
    pub length: u64,
}

/// Where a chunk is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkRow {
    /// Index into [`Manifest::files`].
    pub file: u32,
    /// How many frames it consists of.
    pub frames: u32,
    /// Bytes from the start of the file; a multiple of [`STORED_ALIGNMENT`].
    pub offset: u64,
}

/// How a frame is stored. Frames follow each other, in the weights as in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameRow {
    /// Bytes of weights.
    pub length: u32,
    /// Bytes in the file, with padding.
    pub stored_length: u32,
    /// Bytes in the file, without padding.
    pub coded_length: u32,
    /// How it is coded.
    pub code: Code,
    /// What its weights are.
    pub element: Element,
    /// XXH3-64 of the stored bytes.
    pub checksum: u64,
}

/// All that a packed checkpoint is, but for the bytes of its weights.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest {
    /// The files that hold chunks.
    pub files: Vec<DataFile>,
    /// The tensors: `file` is 0, `offset` the address among the weights. Tied ones share theirs.
    pub tensors: Vec<Tensor>,
    /// Decoded bytes of each chunk but the last.
    pub chunk_bytes: u64,
    /// The chunks, by address: chunk `n` begins at `n * chunk_bytes`.
    pub chunks: Vec<ChunkRow>,
    /// The frames of all chunks.
    pub frames: Vec<FrameRow>,
    /// What the original files say of themselves.
    pub metadata: BTreeMap<String, String>,
    /// What was packed, and how: lets a packer see that its work is done. Readers have no use for it.
    pub origin: Option<[u8; 32]>,
}

impl Manifest {
    /// Bytes of weights, from the first address to the last.
    pub fn weights(&self) -> u64 {
        self.frames
            .iter()
            .map(|frame| u64::from(frame.length))
            .sum()
    }

    /// The manifest as it is stored.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut sections = vec![
            (*b"files\0\0\0", REQUIRED, self.files_section()),
            (*b"tensors\0", REQUIRED, self.tensors_section()),
            (*b"chunks\0\0", REQUIRED, self.chunks_section()),
            (*b"frames\0\0", REQUIRED, self.frames_section()),
            (*b"metadata", REQUIRED, self.metadata_section()),
        ];
        if let Some(origin) = self.origin {
            sections.push((*b"origin\0\0", 0, origin.to_vec()));
        }
        let table = HEADER + sections.len() * SECTION_ROW;
        let contents: usize = sections.iter().map(|(.., content)| content.len()).sum();
        let length = table + contents + DIGEST;

        let mut bytes = Vec::with_capacity(length);
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend((sections.len() as u32).to_le_bytes());
        bytes.extend(0_u64.to_le_bytes()); // required features
        bytes.extend(0_u64.to_le_bytes()); // optional features
        bytes.extend((length as u64).to_le_bytes());
        bytes.resize(HEADER, 0);
        let mut offset = table;
        for (kind, flags, content) in &sections {
            bytes.extend(kind);
            bytes.extend((offset as u64).to_le_bytes());
            bytes.extend((content.len() as u64).to_le_bytes());
            bytes.extend(flags.to_le_bytes());
            bytes.extend(0_u32.to_le_bytes());
            offset += content.len();
        }
        for (.., content) in sections {
            bytes.extend(content);
        }
        let digest = blake3::hash(&bytes);
        bytes.extend(digest.as_bytes());
        bytes
    }

    /// Reads a manifest; whatever the bytes are, it ends and takes memory in proportion to them.
    ///
    /// # Errors
    /// Anything that is not as docs/format.md has it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PackedError> {
        let sections = sections(bytes)?;
        let find = |name: &'static str| {
            let kind = sections.iter().find(|(kind, _)| *kind == name);
            kind.map(|&(_, content)| Cursor::new(name, content))
                .ok_or(PackedError::MissingSection { section: name })
        };
        let (chunk_bytes, chunks) = read_chunks(find("chunks")?)?;
        let manifest = Manifest {
            files: read_files(find("files")?)?,
            tensors: read_tensors(find("tensors")?)?,
            chunk_bytes,
            chunks,
            frames: read_frames(find("frames")?)?,
            metadata: read_metadata(find("metadata")?)?,
            origin: read_origin(find("origin").ok()),
        };
        manifest.check_chunks()?;
        manifest.check_tensors()?;
        Ok(manifest)
    }

    fn files_section(&self) -> Vec<u8> {
        let mut bytes = (self.files.len() as u32).to_le_bytes().to_vec();
        for file in &self.files {
            bytes.extend(file.length.to_le_bytes());
            bytes.extend((file.name.len() as u16).to_le_bytes());
            bytes.extend(file.name.as_bytes());
        }
        bytes
    }

    fn tensors_section(&self) -> Vec<u8> {
        let mut bytes = (self.tensors.len() as u32).to_le_bytes().to_vec();
        for tensor in &self.tensors {
            let dtype = tensor.dtype.name();
            bytes.extend((tensor.name.len() as u32).to_le_bytes());
            bytes.extend(tensor.name.as_bytes());
            bytes.push(dtype.len() as u8);
            bytes.extend(dtype.as_bytes());
            bytes.push(tensor.shape.len() as u8);
            bytes.extend(tensor.shape.iter().flat_map(|size| size.to_le_bytes()));
            bytes.extend(tensor.offset.to_le_bytes());
        }
        bytes
    }

    fn chunks_section(&self) -> Vec<u8> {
        let mut bytes = self.chunk_bytes.to_le_bytes().to_vec();
        bytes.extend((self.chunks.len() as u64).to_le_bytes());
        for chunk in &self.chunks {
            bytes.extend(chunk.file.to_le_bytes());
            bytes.extend(chunk.frames.to_le_bytes());
            bytes.extend(chunk.offset.to_le_bytes());
        }
        bytes
    }

    fn frames_section(&self) -> Vec<u8> {
        let mut bytes = (self.frames.len() as u64).to_le_bytes().to_vec();
        for frame in &self.frames {
            frame.write(&mut bytes);
        }
        bytes
    }

    fn metadata_section(&self) -> Vec<u8> {
        let mut bytes = (self.metadata.len() as u32).to_le_bytes().to_vec();
        for (key, value) in &self.metadata {
            for text in [key, value] {
                bytes.extend((text.len() as u32).to_le_bytes());
                bytes.extend(text.as_bytes());
            }
        }
        bytes
    }

    /// Chunks tile the weights and fill their files from start to end; frames tile their chunk.
    fn check_chunks(&self) -> Result<(), PackedError> {
        let mut frames = self.frames.iter();
        let mut filled = vec![0_u64; self.files.len()];
        let last = self.chunks.len().saturating_sub(1);
        for (number, chunk) in self.chunks.iter().enumerate() {
            let wrong = |expected, got| PackedError::Chunk {
                chunk: number as u64,
                expected,
                got,
            };
            let Some(end) = filled.get_mut(chunk.file as usize) else {
                return Err(wrong("a file of the table", format!("file {}", chunk.file)));
            };
            if chunk.offset != *end {
                let got = format!("offset {} where {end} is free", chunk.offset);
                return Err(wrong("chunks one after another in their file", got));
            }
            let (mut address, mut stored) = (0_u64, 0_u64);
            for _ in 0..chunk.frames {
                let Some(frame) = frames.next() else {
                    return Err(wrong("as many frames as it says", "fewer".into()));
                };
                check_frame(frame, address).map_err(|(expected, got)| wrong(expected, got))?;
                address += u64::from(frame.length);
                stored += u64::from(frame.stored_length);
            }
            if address == 0 || address > self.chunk_bytes {
                return Err(wrong(
                    "weights that fit a chunk",
                    format!("{address} bytes"),
                ));
            }
            if number != last && address != self.chunk_bytes {
                return Err(wrong(
                    "a full chunk before the last",
                    format!("{address} bytes"),
                ));
            }
            if !stored.is_multiple_of(STORED_ALIGNMENT) {
                return Err(wrong(
                    "a stored length that is a multiple of 4096",
                    format!("{stored}"),
                ));
            }
            *end += stored;
        }
        if frames.next().is_some() {
            return Err(PackedError::Malformed {
                section: "frames",
                got: "frames that no chunk has".into(),
            });
        }
        for (file, filled) in self.files.iter().zip(filled) {
            if file.length != filled {
                return Err(PackedError::Malformed {
                    section: "files",
                    got: format!(
                        "{:?} of {} bytes, with chunks for {filled}",
                        file.name, file.length
                    ),
                });
            }
        }
        Ok(())
    }

    fn check_tensors(&self) -> Result<(), PackedError> {
        let weights = self.weights();
        for tensor in &self.tensors {
            let end = tensor.offset.checked_add(tensor.length);
            if end.is_none_or(|end| end > weights) {
                return Err(PackedError::OutsideWeights {
                    tensor: tensor.name.clone(),
                    weights,
                    address: tensor.offset,
                    length: tensor.length,
                });
            }
        }
        let mut names: Vec<&str> = self
            .tensors
            .iter()
            .map(|tensor| tensor.name.as_str())
            .collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(PackedError::Duplicate {
                tensor: pair[0].into(),
            }),
            None => Ok(()),
        }
    }
}

impl FrameRow {
    /// Bytes of one row of the frames section.
    pub const STORED: usize = 24;

    /// Appends the row as it is stored.
    pub fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.length.to_le_bytes());
        bytes.extend(self.stored_length.to_le_bytes());
        bytes.extend(self.coded_length.to_le_bytes());
        bytes.push(self.code as u8);
        let element = ELEMENTS.iter().position(|&element| element == self.element);
        bytes.push(element.unwrap_or(0) as u8);
        bytes.extend(0_u16.to_le_bytes());
        bytes.extend(self.checksum.to_le_bytes());
    }

    /// The row that [`write`](Self::write) has written, if these bytes are one.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        Self::read(&mut Cursor::new("frames", bytes)).ok()
    }

    fn read(cursor: &mut Cursor<'_>) -> Result<Self, PackedError> {
        let (length, stored_length, coded_length) = (cursor.u32()?, cursor.u32()?, cursor.u32()?);
        let (code, element) = (cursor.u8()?, cursor.u8()?);
        cursor.zeros(2)?;
        Ok(FrameRow {
            length,
            stored_length,
            coded_length,
            code: Code::of(code).ok_or_else(|| cursor.malformed(format!("code {code}")))?,
            element: *ELEMENTS
                .get(usize::from(element))
                .ok_or_else(|| cursor.malformed(format!("element {element}")))?,
            checksum: cursor.u64()?,
        })
    }
}

/// `address` is where the frame begins in its chunk.
fn check_frame(frame: &FrameRow, address: u64) -> Result<(), (&'static str, String)> {
    let length = u64::from(frame.length);
    if length == 0 || address % FRAME_BYTES + length > FRAME_BYTES {
        let got = format!("{length} bytes at {address}");
        return Err(("frames that don't cross a multiple of 256 KiB", got));
    }
    if !address.is_multiple_of(FRAME_ALIGNMENT) {
        return Err((
            "frames that begin at a multiple of 64",
            format!("{address}"),
        ));
    }
    if frame.coded_length > frame.stored_length
        || !u64::from(frame.stored_length).is_multiple_of(FRAME_ALIGNMENT)
    {
        let got = format!("{} of {} bytes", frame.coded_length, frame.stored_length);
        return Err((
            "a code within stored bytes, which are a multiple of 64",
            got,
        ));
    }
    // What no encoder writes would only make a reader take memory. A last frame's padding reaches to 4096.
    if u64::from(frame.stored_length) > 2 * FRAME_BYTES + STORED_ALIGNMENT {
        return Err((
            "a frame that coding made smaller",
            format!("{} bytes", frame.stored_length),
        ));
    }
    if frame.code == Code::Raw && frame.coded_length != frame.length {
        let got = format!("{} for {length}", frame.coded_length);
        return Err(("as many raw bytes as weights", got));
    }
    Ok(())
}

/// The sections by their kinds; header, table and digest are checked.
fn sections(bytes: &[u8]) -> Result<Vec<(&str, &[u8])>, PackedError> {
    let mut header = Cursor::new("header", bytes);
    if !bytes.starts_with(&MAGIC) {
        return Err(PackedError::Magic {
            expected: MAGIC,
            got: bytes.iter().take(8).copied().collect(),
        });
    }
    header.take(MAGIC.len())?;
    let version = header.u32()?;
    if version != VERSION {
        return Err(PackedError::Version {
            expected: VERSION,
            got: version,
        });
    }
    let count = header.u32()?;
    let required = header.u64()?;
    if required & !KNOWN_FEATURES != 0 {
        return Err(PackedError::Features {
            known: KNOWN_FEATURES,
            got: required,
        });
    }
    let _optional = header.u64()?;
    let length = header.u64()?;
    if length != bytes.len() as u64 {
        return Err(PackedError::Length {
            expected: length,
            got: bytes.len() as u64,
        });
    }
    header.zeros(HEADER - 40)?;
    let (content, digest) = bytes
        .split_last_chunk::<DIGEST>()
        .ok_or_else(|| header.malformed("no digest".into()))?;
    let got = blake3::hash(content);
    // Constant time, which costs nothing here.
    if got != blake3::Hash::from_bytes(*digest) {
        return Err(PackedError::Digest {
            expected: blake3::Hash::from_bytes(*digest).to_hex().to_string(),
            got: got.to_hex().to_string(),
        });
    }
    if count > MAX_SECTIONS {
        return Err(header.malformed(format!("{count} sections")));
    }
    let mut expected = HEADER as u64 + u64::from(count) * SECTION_ROW as u64;
    let mut sections: Vec<(&str, &[u8])> = Vec::new();
    for _ in 0..count {
        let kind = header.text(8)?.trim_end_matches('\0');
        let (offset, length, flags) = (header.u64()?, header.u64()?, header.u32()?);
        header.zeros(4)?;
        let end = offset.checked_add(length);
        let range = end.filter(|&end| offset == expected && end <= content.len() as u64);
        let Some(end) = range else {
            return Err(header.malformed(format!("section {kind:?} of {length} bytes at {offset}")));
        };
        expected = end;
        if !KINDS.contains(&kind) {
            if flags & REQUIRED != 0 {
                return Err(PackedError::Section { got: kind.into() });
            }
            continue;
        }
        if sections.iter().any(|&(other, _)| other == kind) {
            return Err(header.malformed(format!("section {kind:?} twice")));
        }
        let content = content
            .get(offset as usize..end as usize)
            .unwrap_or_default();
        sections.push((kind, content));
    }
    if expected != content.len() as u64 {
        return Err(header.malformed("bytes of no section".into()));
    }
    Ok(sections)
}

const KINDS: [&str; 6] = ["files", "tensors", "chunks", "frames", "metadata", "origin"];

fn read_files(mut cursor: Cursor<'_>) -> Result<Vec<DataFile>, PackedError> {
    let count = cursor.u32()?;
    let count = cursor.rows(count.into(), 10)?;
    let mut files: Vec<DataFile> = Vec::with_capacity(count);
    for _ in 0..count {
        let length = cursor.u64()?;
        let name_length = cursor.u16()?;
        let name = cursor.text(name_length.into())?;
        let mut components = Path::new(name).components();
        let plain = matches!(components.next(), Some(Component::Normal(first)) if first == name)
            && components.next().is_none()
            && !name.contains(['/', '\\', ':', '\0']);
        if !plain {
            return Err(PackedError::FileOutside { name: name.into() });
        }
        files.push(DataFile {
            name: name.into(),
            length,
        });
    }
    let mut names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(cursor.malformed(format!("file {:?} twice", pair[0])));
    }
    cursor.finish()?;
    Ok(files)
}

fn read_tensors(mut cursor: Cursor<'_>) -> Result<Vec<Tensor>, PackedError> {
    let count = cursor.u32()?;
    let count = cursor.rows(count.into(), 14)?;
    let mut tensors = Vec::with_capacity(count);
    for _ in 0..count {
        let name_length = cursor.u32()?;
        let name = cursor.text(name_length as usize)?.to_owned();
        let dtype_length = cursor.u8()?;
        let dtype = cursor.text(dtype_length.into())?;
        let Some(dtype) = Dtype::from_name(dtype) else {
            return Err(PackedError::UnknownDtype {
                tensor: name,
                dtype: dtype.into(),
            });
        };
        let rank = cursor.u8()?;
        if rank > MAX_DIMENSIONS {
            return Err(cursor.malformed(format!("tensor {name:?} of {rank} dimensions")));
        }
        let shape = (0..rank)
            .map(|_| cursor.u64())
            .collect::<Result<Vec<_>, _>>()?;
        let offset = cursor.u64()?;
        let Some(length) = dtype.bytes(&shape) else {
            return Err(PackedError::ImpossibleShape {
                tensor: name,
                dtype,
                shape,
            });
        };
        tensors.push(Tensor {
            name,
            dtype,
            shape,
            file: 0,
            offset,
            length,
        });
    }
    cursor.finish()?;
    Ok(tensors)
}

fn read_chunks(mut cursor: Cursor<'_>) -> Result<(u64, Vec<ChunkRow>), PackedError> {
    let chunk_bytes = cursor.u64()?;
    if !chunk_bytes.is_power_of_two() || !(FRAME_BYTES..=MAX_CHUNK).contains(&chunk_bytes) {
        return Err(cursor.malformed(format!("chunks of {chunk_bytes} bytes")));
    }
    let count = cursor.u64()?;
    let count = cursor.rows(count, 16)?;
    let chunks = (0..count)
        .map(|_| {
            Ok(ChunkRow {
                file: cursor.u32()?,
                frames: cursor.u32()?,
                offset: cursor.u64()?,
            })
        })
        .collect::<Result<_, PackedError>>()?;
    cursor.finish()?;
    Ok((chunk_bytes, chunks))
}

fn read_frames(mut cursor: Cursor<'_>) -> Result<Vec<FrameRow>, PackedError> {
    let count = cursor.u64()?;
    let count = cursor.rows(count, FrameRow::STORED)?;
    let frames = (0..count)
        .map(|_| FrameRow::read(&mut cursor))
        .collect::<Result<_, _>>()?;
    cursor.finish()?;
    Ok(frames)
}

fn read_metadata(mut cursor: Cursor<'_>) -> Result<BTreeMap<String, String>, PackedError> {
    let count = cursor.u32()?;
    let mut metadata = BTreeMap::new();
    for _ in 0..count {
        let mut text = || {
            let length = cursor.u32()?;
            cursor.text(length as usize)
        };
        let (key, value) = (text()?, text()?);
        if metadata.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(cursor.malformed(format!("key {key:?} twice")));
        }
    }
    cursor.finish()?;
    Ok(metadata)
}

/// None where there is none, or one of another version.
fn read_origin(cursor: Option<Cursor<'_>>) -> Option<[u8; 32]> {
    cursor?.take(32).ok()?.first_chunk().copied()
}
