//! One chunk: put together from where its weights come from, and coded.

use weightstream::{Dtype, Part, Reader};
use weightstream_checkpoint::packed::{
    Code, Element, FRAME_ALIGNMENT, FrameRow, STORED_ALIGNMENT, checksum,
};

use crate::PackError;
use crate::arrangement::Arrangement;
use crate::convert::convert;
use crate::pack::Coding;

/// A chunk as it is stored.
#[derive(Debug, Default)]
pub struct CodedChunk {
    pub stored: Vec<u8>,
    pub frames: Vec<FrameRow>,
}

/// Fills `raw` with the weights of chunk `chunk`; zeros where no tensor lies.
pub fn gather(
    arrangement: &Arrangement,
    chunk: u64,
    reader: &mut Reader,
    raw: &mut Vec<u8>,
) -> Result<(), PackError> {
    let range = arrangement.chunk(chunk);
    raw.clear();
    raw.resize((range.end - range.start) as usize, 0);
    let mut converted = Vec::new();
    for placed in arrangement.placed_in(range.clone()) {
        let start = placed.addresses.start.max(range.start);
        let end = placed.addresses.end.min(range.end);
        let to = (start - range.start) as usize..(end - range.start) as usize;
        let Some(to) = raw.get_mut(to) else { continue };
        let skip = start - placed.addresses.start;
        let part = |offset, length: usize| Part {
            file: placed.part.file,
            offset,
            length: length as u64,
        };
        if placed.stored == placed.dtype {
            reader.read(&[part(placed.part.offset + skip, to.len())], to)?;
        } else {
            // Elements may straddle two chunks only where they are not aligned to their size; converted ones are.
            let (size, stored) = (bytes(placed.dtype), bytes(placed.stored));
            let elements = (end - start) / size;
            converted.resize((elements * stored) as usize, 0);
            let offset = placed.part.offset + skip / size * stored;
            reader.read(&[part(offset, converted.len())], &mut converted)?;
            convert(placed.stored, placed.dtype, &converted, to);
        }
    }
    Ok(())
}

fn bytes(dtype: Dtype) -> u64 {
    dtype.bits() / 8
}

/// Codes the weights `raw` of chunk `chunk`.
pub fn code(
    arrangement: &Arrangement,
    chunk: u64,
    raw: &[u8],
    coding: Coding,
) -> Result<CodedChunk, PackError> {
    let base = arrangement.chunk(chunk).start;
    let mut coded = CodedChunk {
        stored: Vec::with_capacity(raw.len() + STORED_ALIGNMENT as usize),
        frames: Vec::new(),
    };
    let frames = arrangement.frames(chunk);
    let last = frames.len().saturating_sub(1);
    for (number, (addresses, element)) in frames.into_iter().enumerate() {
        let place = (addresses.start - base) as usize..(addresses.end - base) as usize;
        let raw = &raw[place];
        let start = coded.stored.len();
        let code = append(raw, element, coding, &mut coded.stored);
        if code == Code::Exponent {
            prove(raw, &coded.stored[start..])?;
        }
        let coded_length = coded.stored.len() - start;
        let alignment = if number == last {
            STORED_ALIGNMENT
        } else {
            FRAME_ALIGNMENT
        };
        let end = coded.stored.len().next_multiple_of(alignment as usize);
        coded.stored.resize(end, 0);
        coded.frames.push(FrameRow {
            length: raw.len() as u32,
            stored_length: (end - start) as u32,
            coded_length: coded_length as u32,
            code,
            element,
            checksum: checksum(&coded.stored[start..]),
        });
    }
    Ok(coded)
}

/// Appends `raw` in the shorter of two forms.
fn append(raw: &[u8], element: Element, coding: Coding, stored: &mut Vec<u8>) -> Code {
    let start = stored.len();
    if coding == Coding::Auto && element != Element::Bytes {
        weightstream_codec::encode(element, raw, stored);
        // One that is hardly shorter isn't worth decoding.
        if stored.len() - start <= raw.len() - raw.len() / 100 {
            return Code::Exponent;
        }
        stored.truncate(start);
    }
    stored.extend_from_slice(raw);
    Code::Raw
}

/// Decodes what was just coded: weights are never lost to a defect of the codec or a bit that memory turned.
fn prove(raw: &[u8], coded: &[u8]) -> Result<(), PackError> {
    let mut decoded = vec![0; raw.len()];
    let decodes = weightstream_codec::decode(coded, &mut decoded);
    if decodes.is_err() || decoded != raw {
        return Err(PackError::Coding);
    }
    Ok(())
}
