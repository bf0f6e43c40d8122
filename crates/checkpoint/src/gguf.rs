//! The header of a GGUF file (versions 2 and 3): metadata, a table of tensors, then their data.
//!
//! Its tensors are quantised in blocks, or floating-point numbers. They can be had as float32, bfloat16 or float16: a
//! content for each, in this order. What they are named in a model is transformers' affair.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use serde_json::{Value, json};
use weightstream_codec::quantised::Quantised;
use weightstream_source::open_regular;

use crate::index::Header;
use crate::{CheckpointError, Content, Dtype, Extent, Form, StoredFile, Tensor};

/// How a GGUF file begins.
pub const MAGIC: &[u8] = b"GGUF";

/// What tensors can be had as; the first is that of [`Tensor::dtype`].
const DTYPES: [Dtype; 3] = [Dtype::F32, Dtype::BF16, Dtype::F16];

/// Decoded tensors begin at multiples of this in their content, so that chunks hold whole blocks.
const ALIGNMENT: u64 = 4096;

/// As tensors are aligned that PyTorch allocates: kernels sum in another order where an address is aligned otherwise.
const ALLOCATED: u64 = 64;

/// ggml's own limit.
const MAX_DIMENSIONS: u32 = 4;

/// Arrays longer than this (vocabularies) are kept as their length.
const MAX_ARRAY: u64 = 256;

/// No name or value that matters is longer; a text that is makes no model.
const MAX_TEXT: u64 = 16 << 20;

/// What one stored element, or block of them, is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Float(Dtype),
    Blocks(Quantised),
}

impl Kind {
    /// By ggml's number.
    fn of(number: u32) -> Option<Self> {
        Some(match number {
            0 => Kind::Float(Dtype::F32),
            1 => Kind::Float(Dtype::F16),
            30 => Kind::Float(Dtype::BF16),
            2 => Kind::Blocks(Quantised::Q4_0),
            3 => Kind::Blocks(Quantised::Q4_1),
            6 => Kind::Blocks(Quantised::Q5_0),
            7 => Kind::Blocks(Quantised::Q5_1),
            8 => Kind::Blocks(Quantised::Q8_0),
            10 => Kind::Blocks(Quantised::Q2_K),
            11 => Kind::Blocks(Quantised::Q3_K),
            12 => Kind::Blocks(Quantised::Q4_K),
            13 => Kind::Blocks(Quantised::Q5_K),
            14 => Kind::Blocks(Quantised::Q6_K),
            _ => return None,
        })
    }

    /// Elements and bytes of a block.
    fn block(self) -> (u64, u64) {
        match self {
            Kind::Float(dtype) => (1, dtype.bits() / 8),
            Kind::Blocks(kind) => (kind.values() as u64, kind.bytes() as u64),
        }
    }

    fn form(self, to: Dtype) -> Form {
        match self {
            Kind::Float(from) if from == to => Form::Plain,
            Kind::Float(from) => Form::Cast { from, to },
            Kind::Blocks(kind) => Form::Quantised { kind, to },
        }
    }
}

/// A row of the table of tensors.
struct Row {
    name: String,
    shape: Vec<u64>,
    kind: Kind,
    elements: u64,
    /// From the start of the file, in bytes.
    offset: u64,
    stored: u64,
}

/// Reads the header of the file at `path`; its contents are numbered from `first` on. Values of the metadata are JSON,
/// long arrays only their `{"length": n}`.
pub fn read(path: &Path, first: u32) -> Result<Header, CheckpointError> {
    let (file, file_length) = open_regular(path)?;
    let mut input = Input {
        reader: BufReader::with_capacity(1 << 16, file),
        position: 0,
        length: file_length,
    };
    let (metadata, rows) = input
        .header()
        .map_err(|(tensor, reason)| CheckpointError::Gguf {
            file: path.to_owned(),
            tensor,
            reason,
        })?;
    let stored_file = StoredFile {
        path: path.to_owned(),
        length: file_length,
    };
    let mut contents = Vec::with_capacity(DTYPES.len());
    let mut tensors = Vec::with_capacity(rows.len());
    for (number, dtype) in DTYPES.into_iter().enumerate() {
        let extents = extents(&rows, dtype);
        if number == 0 {
            tensors.extend(rows.iter().zip(&extents).map(|(row, extent)| Tensor {
                name: row.name.clone(),
                dtype,
                shape: row.shape.clone(),
                file: first,
                offset: extent.start,
                length: extent.length,
            }));
        }
        let content = Content::new(vec![stored_file.clone()], extents);
        let content = content.map_err(|source| CheckpointError::Content {
            file: path.to_owned(),
            source,
        })?;
        contents.push(content.with_dtype(dtype));
    }
    Ok(Header {
        tensors,
        metadata,
        contents,
    })
}

/// Where the tensors lie in the content that has them as `dtype`.
fn extents(rows: &[Row], dtype: Dtype) -> Vec<Extent> {
    let mut end = 0_u64;
    let place = |row: &Row| {
        let form = row.kind.form(dtype);
        let free = end.next_multiple_of(ALIGNMENT);
        // At the file's own place in a page a plain tensor can be read directly.
        let plain = form == Form::Plain && row.offset.is_multiple_of(ALLOCATED);
        let start = if plain {
            free + row.offset % ALIGNMENT
        } else {
            free
        };
        let length = row.elements * (dtype.bits() / 8);
        end = start + length;
        Extent {
            start,
            length,
            file: 0,
            offset: row.offset,
            stored: row.stored,
            form,
        }
    };
    rows.iter().map(place).collect()
}

/// A header that can't be used: which tensor, and why.
type Refusal = (Option<String>, String);

fn refusal(reason: impl Into<String>) -> Refusal {
    (None, reason.into())
}

struct Input {
    reader: BufReader<File>,
    position: u64,
    length: u64,
}

impl Input {
    fn header(&mut self) -> Result<(BTreeMap<String, String>, Vec<Row>), Refusal> {
        self.take::<4>()?;
        let version = self.u32()?;
        if !matches!(version, 2 | 3) {
            return Err(refusal(format!(
                "expected GGUF version 2 or 3, little-endian, got {version:#x}"
            )));
        }
        let (tensors, entries) = (self.u64()?, self.u64()?);
        // The least that a row and an entry take.
        self.refuse_more("tensors", tensors, 24)?;
        self.refuse_more("entries of metadata", entries, 13)?;
        let mut metadata = BTreeMap::new();
        for _ in 0..entries {
            let (key, kind) = (self.text()?, self.u32()?);
            let value = self.value(kind)?;
            if metadata.insert(key.clone(), value.to_string()).is_some() {
                return Err(refusal(format!("expected one value of {key:?}, got two")));
            }
        }
        let mut rows = Vec::new();
        for _ in 0..tensors {
            rows.push(self.row()?);
        }
        let alignment = metadata
            .get("general.alignment")
            .map_or(Ok(32), |value| value.parse::<u64>());
        let alignment = alignment
            .ok()
            .filter(|alignment| alignment.is_power_of_two() && *alignment <= 1 << 30)
            .ok_or_else(|| refusal("expected an alignment that is a power of two, got another"))?;
        let data = self.position.next_multiple_of(alignment);
        for row in &mut rows {
            let offset = row.offset.checked_add(data);
            let end = offset.and_then(|offset| offset.checked_add(row.stored));
            let (Some(offset), Some(_)) = (offset, end.filter(|&end| end <= self.length)) else {
                let reason = format!(
                    "expected {} bytes at {} of the data, within the file's {}; the file is truncated",
                    row.stored, row.offset, self.length
                );
                return Err((Some(row.name.clone()), reason));
            };
            row.offset = offset;
        }
        rows.sort_by_key(|row| row.offset);
        Ok((metadata, rows))
    }

    fn row(&mut self) -> Result<Row, Refusal> {
        let name = self.text()?;
        let failed = |reason: String| (Some(name.clone()), reason);
        let dimensions = self.u32()?;
        if dimensions > MAX_DIMENSIONS {
            return Err(failed(format!(
                "expected at most {MAX_DIMENSIONS} dimensions, got {dimensions}"
            )));
        }
        // The first is that of neighbours.
        let mut shape = (0..dimensions)
            .map(|_| self.u64())
            .collect::<Result<Vec<_>, _>>()?;
        let row = shape.first().copied().unwrap_or(1);
        shape.reverse();
        let number = self.u32()?;
        let kind = Kind::of(number).ok_or_else(|| {
            failed(format!(
                "expected F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 or Q2_K to Q6_K, got ggml's type {number}"
            ))
        })?;
        let (values, bytes) = kind.block();
        let elements = shape
            .iter()
            .try_fold(1_u64, |product, &size| product.checked_mul(size));
        let elements = elements
            .filter(|&elements| elements < 1 << 56 && row.is_multiple_of(values))
            .ok_or_else(|| {
                failed(format!(
                    "expected rows of whole blocks of {values}, got {shape:?}"
                ))
            })?;
        Ok(Row {
            kind,
            elements,
            offset: self.u64()?,
            stored: elements / values * bytes,
            name,
            shape,
        })
    }

    fn value(&mut self, kind: u32) -> Result<Value, Refusal> {
        if kind != 9 {
            return self.scalar(kind);
        }
        let (kind, count) = (self.u32()?, self.u64()?);
        self.refuse_more("values of an array", count, if kind == 8 { 8 } else { 1 })?;
        let mut values = Vec::new();
        for _ in 0..count {
            if count <= MAX_ARRAY {
                values.push(self.scalar(kind)?);
            } else if kind == 8 {
                let length = self.u64()?;
                self.skip(length)?;
            } else {
                self.scalar(kind)?;
            }
        }
        Ok(if count <= MAX_ARRAY {
            Value::Array(values)
        } else {
            json!({ "length": count })
        })
    }

    fn scalar(&mut self, kind: u32) -> Result<Value, Refusal> {
        Ok(match kind {
            0 => json!(u8::from_le_bytes(self.take()?)),
            1 => json!(i8::from_le_bytes(self.take()?)),
            2 => json!(u16::from_le_bytes(self.take()?)),
            3 => json!(i16::from_le_bytes(self.take()?)),
            4 => json!(self.u32()?),
            5 => json!(i32::from_le_bytes(self.take()?)),
            6 => json!(f64::from(f32::from_le_bytes(self.take()?))),
            7 => json!(self.take::<1>()? != [0]),
            8 => json!(self.text()?),
            10 => json!(self.u64()?),
            11 => json!(i64::from_le_bytes(self.take()?)),
            12 => json!(f64::from_le_bytes(self.take()?)),
            _ => {
                return Err(refusal(format!(
                    "expected a type of metadata from 0 to 12, got {kind}"
                )));
            }
        })
    }

    fn text(&mut self) -> Result<String, Refusal> {
        let length = self.u64()?;
        if length > MAX_TEXT || length > self.length - self.position {
            return Err(refusal(format!(
                "expected a text within the header, got one of {length} bytes"
            )));
        }
        let mut bytes = vec![0; length as usize];
        self.fill(&mut bytes)?;
        String::from_utf8(bytes)
            .map_err(|_| refusal("expected UTF-8 in the header, got something else"))
    }

    fn u32(&mut self) -> Result<u32, Refusal> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Refusal> {
        self.take().map(u64::from_le_bytes)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Refusal> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Refusal> {
        self.reader
            .read_exact(bytes)
            .map_err(|error| refusal(format!("can't read the header: {error}")))?;
        self.position += bytes.len() as u64;
        Ok(())
    }

    fn skip(&mut self, length: u64) -> Result<(), Refusal> {
        if length > self.length - self.position {
            return Err(refusal(format!(
                "expected a text within the header, got one of {length} bytes"
            )));
        }
        // Below the file's length, so it fits.
        let skipped = self.reader.seek_relative(length as i64);
        skipped.map_err(|error| refusal(format!("can't read the header: {error}")))?;
        self.position += length;
        Ok(())
    }

    /// Refuses a count that the rest of the file has no room for.
    fn refuse_more(&self, what: &str, count: u64, least: u64) -> Result<(), Refusal> {
        let room = self.length.saturating_sub(self.position) / least;
        if count > room {
            return Err(refusal(format!(
                "expected at most {room} {what} in what is left of the file, got {count}"
            )));
        }
        Ok(())
    }
}
