//! The layout of a coded chunk, down to the byte. All numbers are little-endian.
//!
//! A **value** is one bf16, fp16 or fp32. A **block** is 512 values, a **tile** 64 blocks; the last tile of a chunk may
//! have fewer. Any block can be decoded on its own.
//!
//! | section | bytes | holds |
//! |---|---|---|
//! | header | 16 | `version: u8` (1), `scheme: u8`, two zero bytes, `escape_length: u32`, `raw_length: u64` |
//! | tiles | 32 each | see below |
//! | starts | 2 per block | `u16`: where the block's escapes start, in bytes from the first nibbles of its tile |
//! | padding | to 64 | zeros |
//! | blocks | 704, 896 or 1728 each | see below |
//! | escapes | `escape_length` | see below; ends with 64 zero bytes, so that a decoder can read whole vectors |
//! | tail | the rest | what does not fill a block, as it is |
//!
//! **Schemes**: 0 is raw: the header is followed by the bytes as they are. 1 is bf16, 2 fp16, 3 fp32.
//!
//! **Exponent byte**: a value's exponent as the coding sees it. For bf16 and fp32 the exponent; for fp16 the exponent
//! shifted left by 2, as it stands in the value's upper byte.
//!
//! **Tile**: the 7 exponent bytes that the codes 0 to 6 stand for, a zero, the 15 exponent bytes that the escapes 0 to 14
//! stand for, a zero, `escapes: u32` (where the tile's escapes start in their section), `distant: u16` (how many distant
//! escapes), two zero bytes.
//!
//! **Block**: what is kept of each value, then the code of each value. Values are addressed as 8 rows of 64, and each
//! plane holds one byte per column, so that vectors of 16, 32 and 64 bytes read it alike and a GPU's threads read
//! neighbouring bytes.
//!
//! | scheme | kept | codes |
//! |---|---|---|
//! | bf16 | 512 bytes, one a value: mantissa shifted left by 1, or sign | 192 bytes of fields |
//! | fp16 | 512 bytes, one a value: the lower byte; 192 bytes of fields: sign shifted left by 2, or the mantissa's upper 2 bits | 192 bytes of fields |
//! | fp32 | 512 `u16`, one a value: the lower half; then as bf16, of the upper half | 192 bytes of fields |
//!
//! **Fields**: 512 numbers of 3 bits in three planes A, B, C of 64 bytes. In each column A holds row 0 in bits 0 to 2
//! and row 1 in bits 3 to 5; B rows 2 and 3, C rows 4 and 5 likewise. Bits 6 and 7 of A, B and C, in this order, are
//! bits 0 and 1, 2 and 3, 4 and 5 of a byte that holds rows 6 and 7.
//!
//! **Escapes**: code 7 stands for the next escape of its block. Those of a block are nibbles in order of the values,
//! lower nibble first; a block's start is a whole byte. Escape 15 stands for exponent byte 0, which a distant escape
//! then replaces. The distant escapes of a tile stand before its nibbles, 4 bytes each: `position: u16` of the value in
//! the tile, `exponent: u8` (the exponent byte), a zero byte.

use crate::DecodeError;

/// Values of a block.
pub const BLOCK: usize = 512;
/// Blocks of a full tile.
pub const TILE: usize = 64;
/// Bytes of the header.
pub const HEADER: usize = 16;

pub(crate) const VERSION: u8 = 1;
/// Bytes of the description of a tile.
pub(crate) const TILE_ENTRY: usize = 32;
/// Bytes that tell where a block's escapes start.
pub(crate) const START_ENTRY: usize = 2;
/// Bytes of a distant escape.
pub(crate) const DISTANT: usize = 4;
/// Zeros at the end of the escapes.
pub(crate) const PADDING: usize = 64;
/// Blocks begin at a multiple of this, from the start of the chunk.
const ALIGNMENT: usize = 64;

/// Codes 0 to 6 stand for an exponent; this one for an escape.
pub(crate) const ESCAPE: u8 = 7;
/// Escapes 0 to 14 stand for an exponent; this one for a distant escape.
pub(crate) const FAR: u8 = 15;

/// Bytes of 512 fields of 3 bits.
pub(crate) const FIELDS: usize = BLOCK * 3 / 8;

/// How values are taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Bf16 = 1,
    F16 = 2,
    F32 = 3,
}

impl Format {
    /// Bytes of a value.
    pub const fn value(self) -> usize {
        match self {
            Format::Bf16 | Format::F16 => 2,
            Format::F32 => 4,
        }
    }

    /// Bytes of a block before coding.
    pub const fn raw_block(self) -> usize {
        self.value() * BLOCK
    }

    /// Bytes of a coded block, its escapes aside.
    pub const fn block(self) -> usize {
        self.kept() + FIELDS
    }

    /// Where a block's codes start: the bytes that are kept of its values.
    pub const fn kept(self) -> usize {
        match self {
            Format::Bf16 => BLOCK,
            Format::F16 => BLOCK + FIELDS,
            Format::F32 => 3 * BLOCK,
        }
    }
}

/// What a chunk's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// None for the raw scheme.
    pub format: Option<Format>,
    pub escape_length: u32,
    pub raw_length: u64,
}

impl Header {
    pub fn write(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[0] = VERSION;
        bytes[1] = self.format.map_or(0, |format| format as u8);
        bytes[4..8].copy_from_slice(&self.escape_length.to_le_bytes());
        bytes[8..].copy_from_slice(&self.raw_length.to_le_bytes());
        bytes
    }

    pub fn read(coded: &[u8]) -> Result<Self, DecodeError> {
        let Some((header, _)) = coded.split_first_chunk::<HEADER>() else {
            return Err(DecodeError::NoHeader {
                expected: HEADER,
                got: coded.len(),
            });
        };
        let [version, scheme, _, _, e0, e1, e2, e3, length @ ..] = *header;
        if version != VERSION {
            return Err(DecodeError::Version {
                expected: VERSION,
                got: version,
            });
        }
        let format = match scheme {
            0 => None,
            1 => Some(Format::Bf16),
            2 => Some(Format::F16),
            3 => Some(Format::F32),
            got => return Err(DecodeError::Scheme { got }),
        };
        Ok(Header {
            format,
            escape_length: u32::from_le_bytes([e0, e1, e2, e3]),
            raw_length: u64::from_le_bytes(length),
        })
    }
}

/// Where the sections of a coded chunk are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sections {
    /// How many blocks there are.
    pub blocks: usize,
    /// Where the starts of the blocks' escapes begin.
    pub starts: usize,
    /// Where the blocks begin.
    pub body: usize,
    /// Where the escapes begin.
    pub escapes: usize,
    /// Where the tail begins.
    pub tail: usize,
    /// Bytes of the coded chunk.
    pub length: usize,
}

impl Sections {
    /// The sections of a chunk of `raw_length` bytes. None if a number is too large for this machine.
    pub fn new(format: Format, raw_length: u64, escape_length: u32) -> Option<Self> {
        let raw_length = usize::try_from(raw_length).ok()?;
        let blocks = raw_length / format.raw_block();
        let starts = HEADER.checked_add(blocks.div_ceil(TILE).checked_mul(TILE_ENTRY)?)?;
        let body = starts
            .checked_add(blocks.checked_mul(START_ENTRY)?)?
            .checked_next_multiple_of(ALIGNMENT)?;
        let escapes = body.checked_add(blocks.checked_mul(format.block())?)?;
        let tail = escapes.checked_add(usize::try_from(escape_length).ok()?)?;
        let length = tail.checked_add(raw_length % format.raw_block())?;
        Some(Sections {
            blocks,
            starts,
            body,
            escapes,
            tail,
            length,
        })
    }
}
