use std::mem::MaybeUninit;

use crate::layout::{DISTANT, Format, HEADER, Header, START_ENTRY, Sections, TILE, TILE_ENTRY};
use crate::{DecodeError, Kernel, Stores};

/// The length of the chunk before it was coded, in bytes.
///
/// It is at most 1.5 times the length of `coded`, whatever the header says.
///
/// # Errors
/// Where [`decode`] of the same bytes would find the header wrong.
pub fn raw_length(coded: &[u8]) -> Result<usize, DecodeError> {
    Chunk::read(coded).map(|chunk| chunk.raw_length)
}

/// Decodes a chunk that [`encode`](crate::encode) has coded; `raw` must have the length that [`raw_length`] tells.
///
/// # Errors
/// Bytes that can't come from [`encode`](crate::encode), or `raw` of another length. What `raw` then holds is not
/// specified. That a chunk decodes doesn't mean that it is undamaged: use a checksum for that.
pub fn decode(coded: &[u8], raw: &mut [u8]) -> Result<(), DecodeError> {
    // SAFETY: only initialised bytes are ever written through it.
    let raw = unsafe { &mut *(std::ptr::from_mut(raw) as *mut [MaybeUninit<u8>]) };
    decode_into(coded, raw, Stores::Cached)
}

/// [`decode`] into memory that need not be initialised. After `Ok` all of it is.
///
/// # Errors
/// As [`decode`]; then all, some or none of `raw` is initialised.
pub fn decode_into(
    coded: &[u8],
    raw: &mut [MaybeUninit<u8>],
    stores: Stores,
) -> Result<(), DecodeError> {
    decode_with(Kernel::fastest(), coded, raw, stores)
}

/// [`decode_into`] with the instructions of `kernel`; the result is the same.
///
/// # Errors
/// As [`decode_into`].
pub fn decode_with(
    kernel: Kernel,
    coded: &[u8],
    raw: &mut [MaybeUninit<u8>],
    stores: Stores,
) -> Result<(), DecodeError> {
    let chunk = Chunk::read(coded)?;
    if raw.len() != chunk.raw_length {
        return Err(DecodeError::RawLength {
            expected: chunk.raw_length,
            got: raw.len(),
        });
    }
    let (values, tail) = raw.split_at_mut(raw.len() - chunk.tail.len());
    for (to, byte) in tail.iter_mut().zip(chunk.tail) {
        to.write(*byte);
    }
    let Some(format) = chunk.format else {
        return Ok(());
    };
    for (number, values) in values.chunks_mut(TILE * format.raw_block()).enumerate() {
        let outside = DecodeError::Escapes {
            tile: number,
            length: chunk.escapes.len(),
        };
        let tile = chunk.tile(format, number).ok_or(outside)?;
        kernel.decode(&tile, values, stores).ok_or(outside)?;
        // SAFETY: the kernel has initialised all values.
        tile.place_distant(unsafe { &mut *(values as *mut [MaybeUninit<u8>] as *mut [u8]) });
    }
    Ok(())
}

/// A coded chunk whose sections have the lengths that its header says.
struct Chunk<'a> {
    /// None for the raw scheme, of which everything is tail.
    format: Option<Format>,
    raw_length: usize,
    tiles: &'a [u8],
    starts: &'a [u8],
    blocks: &'a [u8],
    escapes: &'a [u8],
    tail: &'a [u8],
}

impl<'a> Chunk<'a> {
    fn read(coded: &'a [u8]) -> Result<Self, DecodeError> {
        let header = Header::read(coded)?;
        let wrong = |expected: u64| DecodeError::CodedLength {
            expected,
            got: coded.len() as u64,
        };
        let Some(format) = header.format else {
            let tail = &coded[HEADER..];
            if header.raw_length != tail.len() as u64 {
                return Err(wrong((HEADER as u64).saturating_add(header.raw_length)));
            }
            return Ok(Chunk {
                format: None,
                raw_length: tail.len(),
                tiles: &[],
                starts: &[],
                blocks: &[],
                escapes: &[],
                tail,
            });
        };
        let sections = Sections::new(format, header.raw_length, header.escape_length)
            .ok_or(wrong(u64::MAX))?;
        if sections.length != coded.len() {
            return Err(wrong(sections.length as u64));
        }
        Ok(Chunk {
            format: Some(format),
            raw_length: sections.blocks * format.raw_block() + (sections.length - sections.tail),
            tiles: &coded[HEADER..sections.starts],
            starts: &coded[sections.starts..sections.starts + sections.blocks * START_ENTRY],
            blocks: &coded[sections.body..sections.escapes],
            escapes: &coded[sections.escapes..sections.tail],
            tail: &coded[sections.tail..],
        })
    }

    /// None if the tile's escapes are not among those of the chunk.
    fn tile(&self, format: Format, number: usize) -> Option<Tile<'a>> {
        let entry: &[u8; TILE_ENTRY] = self
            .tiles
            .chunks_exact(TILE_ENTRY)
            .nth(number)?
            .first_chunk()?;
        let (exponents, rest) = entry.split_first_chunk::<8>()?;
        let (escape_exponents, rest) = rest.split_first_chunk::<16>()?;
        let (escapes, rest) = rest.split_first_chunk::<4>()?;
        let (distant, _) = rest.split_first_chunk::<2>()?;
        let escapes = self.escapes.get(u32::from_le_bytes(*escapes) as usize..)?;
        let distant = usize::from(u16::from_le_bytes(*distant)) * DISTANT;
        let (distant, escapes) = escapes.split_at_checked(distant)?;
        let mut exponents = *exponents;
        let mut escape_exponents = *escape_exponents;
        exponents[7] = unused(&exponents[..7]);
        escape_exponents[15] = 0;
        Some(Tile {
            format,
            exponents,
            escape_exponents,
            starts: self.starts.chunks(TILE * START_ENTRY).nth(number)?,
            blocks: self.blocks.chunks(TILE * format.block()).nth(number)?,
            escapes,
            distant,
        })
    }
}

/// The smallest byte that is not among them.
fn unused(exponents: &[u8]) -> u8 {
    (0..=u8::MAX)
        .find(|byte| !exponents.contains(byte))
        .unwrap_or(0)
}

/// A tile to decode.
pub(crate) struct Tile<'a> {
    pub format: Format,
    /// What the codes stand for. The last is not among the others, so that it marks escapes.
    pub exponents: [u8; 8],
    /// What the escapes stand for; the last is 0.
    pub escape_exponents: [u8; 16],
    starts: &'a [u8],
    pub blocks: &'a [u8],
    /// From the tile's first nibble on, to the end of the chunk's.
    escapes: &'a [u8],
    distant: &'a [u8],
}

impl<'a> Tile<'a> {
    /// The nibbles of a block that has `count` escapes, filled up to whole vectors of 64 nibbles.
    #[inline(always)]
    pub fn nibbles(&self, block: usize, count: usize) -> Option<&'a [u8]> {
        let start = self.starts.get(block * START_ENTRY..)?.first_chunk()?;
        let start = usize::from(u16::from_le_bytes(*start));
        self.escapes.get(start..start + count.div_ceil(64) * 32)
    }

    /// Gives the exponents of the distant escapes to their values.
    fn place_distant(&self, values: &mut [u8]) {
        for distant in self.distant.chunks_exact(DISTANT) {
            let position = usize::from(u16::from_le_bytes([distant[0], distant[1]]));
            let at = position * self.format.value();
            let Some(value) = values.get_mut(at..at + self.format.value()) else {
                continue;
            };
            let upper = &mut value[self.format.value() - 2..];
            if self.format == Format::F16 {
                upper[1] = upper[1] & !0x7C | distant[2];
            } else {
                let [kept, _] = u16::from_le_bytes([upper[0], upper[1]])
                    .rotate_left(1)
                    .to_le_bytes();
                let whole = u16::from_le_bytes([kept, distant[2]]).rotate_right(1);
                upper.copy_from_slice(&whole.to_le_bytes());
            }
        }
    }
}
