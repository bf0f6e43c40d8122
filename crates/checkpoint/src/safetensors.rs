//! The header of one safetensors file: 8 bytes of length, JSON, then the tensors without holes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use weightstream_source::open_regular;

use crate::index::{Header, sorted_by_name};
use crate::{CheckpointError, Content, Dtype, Tensor};

/// The format's own limit.
const MAX_HEADER: u64 = 100_000_000;

/// More than any framework knows; keeps a hostile shape from taking memory.
const MAX_DIMENSIONS: usize = 64;

/// Reads the header of the file at `path`; its tensors get `file` as their file.
pub(crate) fn read(path: &Path, file: u32) -> Result<Header, CheckpointError> {
    let (mut reader, file_length) = open_regular(path)?;
    if file_length < 8 {
        return Err(CheckpointError::TooShort {
            file: path.to_owned(),
            length: file_length,
        });
    }
    let mut length = [0; 8];
    read_exact(&mut reader, path, &mut length)?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER {
        return Err(CheckpointError::HeaderTooLarge {
            file: path.to_owned(),
            length,
            limit: MAX_HEADER,
        });
    }
    let data = 8 + length;
    if data > file_length {
        return Err(CheckpointError::HeaderBeyondFile {
            file: path.to_owned(),
            expected: data,
            got: file_length,
        });
    }
    let mut json = vec![0; length as usize];
    read_exact(&mut reader, path, &mut json)?;

    let mut rows = Rows {
        path,
        file,
        tensors: Vec::new(),
        metadata: BTreeMap::new(),
        tensor: None,
        failure: None,
    };
    parse_json(path, &json, &mut rows).map_err(|error| match error {
        CheckpointError::Json { file, source, .. } => {
            let tensor = rows.tensor.take();
            rows.failure.take().unwrap_or(CheckpointError::Json {
                file,
                tensor,
                source,
            })
        }
        error => error,
    })?;
    let Rows {
        mut tensors,
        metadata,
        ..
    } = rows;
    refuse_duplicates(path, &tensors)?;
    place(path, &mut tensors, data, file_length)?;
    Ok(Header {
        tensors,
        metadata,
        contents: vec![Content::plain(path.to_owned(), file_length)],
    })
}

/// Feeds a JSON object to `seed`.
pub(crate) fn parse_json<'de, S: DeserializeSeed<'de>>(
    path: &Path,
    json: &'de [u8],
    seed: S,
) -> Result<S::Value, CheckpointError> {
    let text = std::str::from_utf8(json).map_err(|error| CheckpointError::NotUtf8 {
        file: path.to_owned(),
        position: error.valid_up_to(),
    })?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    seed.deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|source| CheckpointError::Json {
            file: path.to_owned(),
            tensor: None,
            source,
        })
}

fn read_exact(reader: &mut File, path: &Path, buffer: &mut [u8]) -> Result<(), CheckpointError> {
    reader
        .read_exact(buffer)
        .map_err(|source: io::Error| CheckpointError::Io {
            file: path.to_owned(),
            action: "read the header",
            source,
        })
}

/// Gathers the header's rows as they are parsed. Offsets are relative to the data until `place`.
struct Rows<'p> {
    path: &'p Path,
    file: u32,
    tensors: Vec<Tensor>,
    metadata: BTreeMap<String, String>,
    /// The tensor at which parsing stopped.
    tensor: Option<String>,
    /// A typed error behind serde's.
    failure: Option<CheckpointError>,
}

#[derive(Deserialize)]
struct Row<'a> {
    #[serde(borrow)]
    dtype: Cow<'a, str>,
    shape: Shape,
    data_offsets: (u64, u64),
}

struct Shape(Vec<u64>);

impl<'de> DeserializeSeed<'de> for &mut Rows<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &mut Rows<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen_metadata = false;
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                if std::mem::replace(&mut seen_metadata, true) {
                    return Err(A::Error::duplicate_field("__metadata__"));
                }
                self.metadata = map.next_value::<Option<_>>()?.unwrap_or_default();
                continue;
            }
            match map.next_value::<Row<'de>>() {
                Ok(row) => match self.tensor(name, row) {
                    Ok(tensor) => self.tensors.push(tensor),
                    Err(failure) => {
                        self.failure = Some(failure);
                        return Err(A::Error::custom("unusable tensor"));
                    }
                },
                Err(error) => {
                    self.tensor = Some(name);
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

impl Rows<'_> {
    /// Checks what can be checked of one tensor alone.
    fn tensor(&self, name: String, row: Row<'_>) -> Result<Tensor, CheckpointError> {
        let file = self.path.to_owned();
        let shape = row.shape.0;
        let Some(dtype) = Dtype::from_name(&row.dtype) else {
            return Err(CheckpointError::UnknownDtype {
                file,
                tensor: name,
                dtype: row.dtype.into_owned(),
            });
        };
        let (begin, end) = row.data_offsets;
        let Some(length) = end.checked_sub(begin) else {
            return Err(CheckpointError::ReversedOffsets {
                file,
                tensor: name,
                begin,
                end,
            });
        };
        let Some(expected) = dtype.bytes(&shape) else {
            return Err(CheckpointError::ImpossibleShape {
                file,
                tensor: name,
                dtype,
                shape,
            });
        };
        if expected != length {
            return Err(CheckpointError::WrongLength {
                file,
                tensor: name,
                dtype,
                shape,
                expected,
                got: length,
            });
        }
        Ok(Tensor {
            name,
            dtype,
            shape,
            file: self.file,
            offset: begin,
            length,
        })
    }
}

fn refuse_duplicates(path: &Path, tensors: &[Tensor]) -> Result<(), CheckpointError> {
    for pair in sorted_by_name(tensors).windows(2) {
        let name = &tensors[pair[0]].name;
        if *name == tensors[pair[1]].name {
            return Err(CheckpointError::Duplicate {
                tensor: name.clone(),
                first: path.to_owned(),
                second: path.to_owned(),
            });
        }
    }
    Ok(())
}

/// Checks that the tensors fill the data from its start to the file's end, one after another,
/// and makes their offsets relative to the file.
fn place(
    path: &Path,
    tensors: &mut [Tensor],
    data: u64,
    file_length: u64,
) -> Result<(), CheckpointError> {
    tensors.sort_by_key(|tensor| (tensor.offset, tensor.length));
    let available = file_length - data;
    let mut end = 0;
    let mut beyond = None;
    for (position, tensor) in tensors.iter().enumerate() {
        if tensor.offset != end {
            return Err(CheckpointError::NotContiguous {
                file: path.to_owned(),
                tensor: tensor.name.clone(),
                previous: position
                    .checked_sub(1)
                    .map(|previous| tensors[previous].name.clone()),
                expected: end,
                got: tensor.offset,
            });
        }
        end = tensor.offset + tensor.length;
        if end > available {
            beyond.get_or_insert(position);
        }
    }
    let expected = data.saturating_add(end);
    if let Some(position) = beyond {
        return Err(CheckpointError::Truncated {
            file: path.to_owned(),
            tensor: tensors[position].name.clone(),
            expected,
            got: file_length,
        });
    }
    if expected != file_length {
        return Err(CheckpointError::TrailingBytes {
            file: path.to_owned(),
            expected,
            got: file_length,
        });
    }
    for tensor in tensors {
        tensor.offset += data;
    }
    Ok(())
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ShapeVisitor)
    }
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Shape;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "a shape of at most {MAX_DIMENSIONS} dimensions")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Shape, A::Error> {
        let mut shape = Vec::with_capacity(4);
        while let Some(size) = sequence.next_element()? {
            if shape.len() == MAX_DIMENSIONS {
                return Err(A::Error::invalid_length(MAX_DIMENSIONS + 1, &self));
            }
            shape.push(size);
        }
        Ok(Shape(shape))
    }
}
