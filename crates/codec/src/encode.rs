use crate::Element;
use crate::fields;
use crate::kernel::Kernel;
use crate::layout::{
    BLOCK, ESCAPE, FAR, FIELDS, Format, HEADER, Header, PADDING, START_ENTRY, Sections, TILE,
    TILE_ENTRY,
};

/// Codes `raw` and appends the coded chunk to `coded`.
///
/// The chunk describes itself: [`decode`](crate::decode) needs nothing else. It is at most [`layout::HEADER`] bytes
/// longer than `raw`: where coding saves less than 1/32, the bytes are kept as they are.
///
/// Encoding the same bytes gives the same chunk on every machine.
///
/// [`layout::HEADER`]: crate::layout::HEADER
pub fn encode(element: Element, raw: &[u8], coded: &mut Vec<u8>) {
    encode_with(Kernel::fastest(), element, raw, coded);
}

/// [`encode`] with the instructions of `kernel`; the chunk is the same.
pub fn encode_with(kernel: Kernel, element: Element, raw: &[u8], coded: &mut Vec<u8>) {
    let format = match element {
        Element::Bf16 => Some(Format::Bf16),
        Element::F16 => Some(Format::F16),
        Element::F32 => Some(Format::F32),
        Element::Bytes => None,
    };
    let start = coded.len();
    if let Some(format) = format
        && write(kernel, format, raw, coded).is_some()
    {
        return;
    }
    coded.truncate(start);
    let header = Header {
        format: None,
        escape_length: 0,
        raw_length: raw.len() as u64,
    };
    coded.extend_from_slice(&header.write());
    coded.extend_from_slice(raw);
}

/// Appends a coded chunk, or stops with None as soon as coding is seen not to pay.
fn write(kernel: Kernel, format: Format, raw: &[u8], coded: &mut Vec<u8>) -> Option<()> {
    let sections = Sections::new(format, raw.len() as u64, 0)?;
    let longest = raw.len() - raw.len() / 32;
    let tail = raw.len() % format.raw_block();
    if sections.length + PADDING > longest {
        return None;
    }
    let start = coded.len();
    coded.resize(start + sections.escapes, 0);
    let mut tile = Encoder::new();
    let tiles = raw[..raw.len() - tail].chunks(TILE * format.raw_block());
    for (number, values) in tiles.enumerate() {
        kernel.encode(&mut tile, format, values);

        let entry = start + HEADER + number * TILE_ENTRY;
        let escapes = u32::try_from(coded.len() - start - sections.escapes).ok()?;
        let distant = u16::try_from(tile.distant.len()).ok()?;
        coded[entry..entry + 7].copy_from_slice(&tile.exponents[..7]);
        coded[entry + 8..entry + 23].copy_from_slice(&tile.exponents[7..]);
        coded[entry + 24..entry + 28].copy_from_slice(&escapes.to_le_bytes());
        coded[entry + 28..entry + 30].copy_from_slice(&distant.to_le_bytes());

        let first = start + sections.starts + number * TILE * START_ENTRY;
        for (block, begins) in tile.starts.iter().enumerate() {
            let at = first + block * START_ENTRY;
            let begins = u16::try_from(*begins).ok()?;
            coded[at..at + START_ENTRY].copy_from_slice(&begins.to_le_bytes());
        }

        let body = start + sections.body + number * TILE * format.block();
        coded[body..body + tile.blocks.len()].copy_from_slice(&tile.blocks);
        for (position, exponent) in &tile.distant {
            let [low, high] = position.to_le_bytes();
            coded.extend_from_slice(&[low, high, *exponent, 0]);
        }
        coded.extend_from_slice(&tile.nibbles);
        if coded.len() - start + PADDING + tail > longest {
            return None;
        }
    }
    coded.resize(coded.len() + PADDING, 0);
    let escape_length = u32::try_from(coded.len() - start - sections.escapes).ok()?;
    coded.extend_from_slice(&raw[raw.len() - tail..]);
    let header = Header {
        format: Some(format),
        escape_length,
        raw_length: raw.len() as u64,
    };
    coded[start..start + HEADER].copy_from_slice(&header.write());
    Some(())
}

/// A coded tile; kept from tile to tile for its memory.
pub(crate) struct Encoder {
    /// The 7 exponent bytes that have codes, and the 15 that have escapes.
    exponents: [u8; 22],
    /// Coded blocks.
    blocks: Vec<u8>,
    /// Where each block's escapes start among the nibbles, in bytes.
    starts: Vec<usize>,
    nibbles: Vec<u8>,
    /// Position in the tile and exponent byte.
    distant: Vec<(u16, u8)>,
    /// The exponent byte of each value.
    split: Vec<[u8; BLOCK]>,
}

impl Encoder {
    fn new() -> Self {
        Encoder {
            exponents: [0; 22],
            blocks: Vec::new(),
            starts: Vec::new(),
            nibbles: Vec::new(),
            distant: Vec::new(),
            split: Vec::new(),
        }
    }

    /// Codes the values of a tile. Inlined into a function per kernel, for whose vectors it is then compiled.
    #[inline(always)]
    pub fn encode(&mut self, format: Format, values: &[u8]) {
        let count = values.len() / format.raw_block();
        self.blocks.resize(count * format.block(), 0);
        self.split.resize(count, [0; BLOCK]);
        let blocks = self.blocks.chunks_exact_mut(format.block());
        for ((raw, block), split) in values
            .chunks_exact(format.raw_block())
            .zip(blocks)
            .zip(&mut self.split)
        {
            take_apart(format, raw, block, split);
        }

        self.exponents = most_frequent(&self.split);
        let mut escapes = [FAR; 256];
        for (escape, exponent) in self.exponents[7..].iter().enumerate().rev() {
            escapes[usize::from(*exponent)] = escape as u8;
        }

        self.starts.clear();
        self.nibbles.clear();
        self.distant.clear();
        let blocks = self.blocks.chunks_exact_mut(format.block());
        for (number, (block, split)) in blocks.zip(&self.split).enumerate() {
            let mut codes = [0; BLOCK];
            look_up(&self.exponents, split, &mut codes);
            if let Some(fields) = block[format.kept()..].first_chunk_mut() {
                fields::pack(&codes, fields);
            }

            self.starts.push(self.nibbles.len());
            let mut places = [0_u16; BLOCK + 1];
            let mut found = 0;
            for (place, code) in codes.iter().enumerate() {
                places[found] = place as u16;
                found += usize::from(*code == ESCAPE);
            }
            let mut escape_at = |place: u16| {
                let exponent = split[usize::from(place)];
                let escape = escapes[usize::from(exponent)];
                if escape == FAR {
                    let position = number * BLOCK + usize::from(place);
                    self.distant.push((position as u16, exponent));
                }
                escape
            };
            for pair in places[..found].chunks(2) {
                let mut nibbles = escape_at(pair[0]);
                if let Some(place) = pair.get(1) {
                    nibbles |= escape_at(*place) << 4;
                }
                self.nibbles.push(nibbles);
            }
        }
    }
}

/// Writes what is kept of a block's values and returns their exponent bytes in `split`.
#[inline(always)]
fn take_apart(format: Format, raw: &[u8], block: &mut [u8], split: &mut [u8; BLOCK]) {
    let (kept, _) = block.split_at_mut(format.kept());
    match format {
        Format::Bf16 => {
            for ((value, kept), exponent) in raw.chunks_exact(2).zip(kept).zip(split) {
                let turned = u16::from_le_bytes([value[0], value[1]]).rotate_left(1);
                [*kept, *exponent] = turned.to_le_bytes();
            }
        }
        Format::F16 => {
            let (lower, fields) = kept.split_at_mut(BLOCK);
            let mut numbers = [0; BLOCK];
            let parts = lower.iter_mut().zip(split).zip(&mut numbers);
            for (value, ((lower, exponent), number)) in raw.chunks_exact(2).zip(parts) {
                *lower = value[0];
                *exponent = value[1] & 0x7C;
                *number = value[1] >> 7 << 2 | value[1] & 3;
            }
            if let Some(fields) = fields.first_chunk_mut::<FIELDS>() {
                fields::pack(&numbers, fields);
            }
        }
        Format::F32 => {
            let (lower, upper) = kept.split_at_mut(2 * BLOCK);
            let parts = lower.chunks_exact_mut(2).zip(upper).zip(split);
            for (value, ((lower, upper), exponent)) in raw.chunks_exact(4).zip(parts) {
                lower[0] = value[0];
                lower[1] = value[1];
                let turned = u16::from_le_bytes([value[2], value[3]]).rotate_left(1);
                [*upper, *exponent] = turned.to_le_bytes();
            }
        }
    }
}

/// The exponent bytes that occur most often, most frequent first; zeros where there are fewer.
#[inline(always)]
fn most_frequent(split: &[[u8; BLOCK]]) -> [u8; 22] {
    // Four counts of each, so that one addition need not wait for the last.
    let mut counts = [[0_u32; 256]; 4];
    for four in split.as_flattened().chunks_exact(4) {
        for (counts, exponent) in counts.iter_mut().zip(four) {
            counts[usize::from(*exponent)] += 1;
        }
    }
    let mut order: [(u32, u8); 256] = std::array::from_fn(|exponent| {
        let count: u32 = counts.iter().map(|counts| counts[exponent]).sum();
        (count, exponent as u8)
    });
    order.sort_unstable_by(|one, other| other.0.cmp(&one.0).then(one.1.cmp(&other.1)));
    std::array::from_fn(|rank| if order[rank].0 > 0 { order[rank].1 } else { 0 })
}

/// The code of each exponent byte.
#[inline(always)]
fn look_up(exponents: &[u8; 22], split: &[u8; BLOCK], codes: &mut [u8; BLOCK]) {
    codes.fill(ESCAPE);
    for code in (0..ESCAPE).rev() {
        let known = exponents[usize::from(code)];
        for (exponent, found) in split.iter().zip(codes.iter_mut()) {
            *found = if *exponent == known { code } else { *found };
        }
    }
}
