//! What is coded comes back, by every kernel, and is small where it should be.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use std::mem::MaybeUninit;
use weightstream_codec::{
    DecodeError, Element, Kernel, Stores, decode, decode_with, encode, encode_with, raw_length,
};

/// Encodes and decodes with every kernel; returns the coded length.
fn round_trip(element: Element, raw: &[u8]) -> usize {
    let mut coded = Vec::new();
    encode_with(portable(), element, raw, &mut coded);
    assert_eq!(raw_length(&coded), Ok(raw.len()));
    for kernel in Kernel::available() {
        let mut again = vec![1, 2, 3];
        encode_with(kernel, element, raw, &mut again);
        assert!(again[3..] == coded, "{kernel} codes {element:?} otherwise");
        for stores in [Stores::Cached, Stores::Streaming] {
            let decoded = decoded(kernel, &coded, raw.len(), stores, 0);
            assert!(
                decoded.as_deref() == Ok(raw),
                "{kernel} decodes {element:?} otherwise"
            );
        }
    }
    coded.len()
}

/// Decodes to memory at `shift` bytes from an aligned address, and sees that nothing beside it is written.
fn decoded(
    kernel: Kernel,
    coded: &[u8],
    length: usize,
    stores: Stores,
    shift: usize,
) -> Result<Vec<u8>, DecodeError> {
    let mut memory = vec![MaybeUninit::new(0xA5); length + shift + 256];
    let start = memory.as_ptr().align_offset(64) + shift;
    let (before, rest) = memory.split_at_mut(start);
    let (raw, after) = rest.split_at_mut(length);
    let result = decode_with(kernel, coded, raw, stores);
    // SAFETY: all of the memory has been initialised above.
    let byte = |byte: &MaybeUninit<u8>| unsafe { byte.assume_init() };
    assert!(
        before
            .iter()
            .chain(after.iter())
            .all(|other| byte(other) == 0xA5)
    );
    result.map(|()| raw.iter().map(byte).collect())
}

fn portable() -> Kernel {
    *Kernel::available()
        .iter()
        .find(|kernel| kernel.name() == "portable")
        .unwrap()
}

/// xorshift64*: the same numbers everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Box and Muller's normal numbers.
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

/// The nearest bf16, ties to even.
fn bf16(value: f32) -> [u8; 2] {
    let bits = value.to_bits();
    ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).to_le_bytes()[..2]
        .try_into()
        .unwrap()
}

/// An fp16 near the value, for values whose exponent fp16 has.
fn f16(value: f32) -> [u8; 2] {
    let bits = value.to_bits();
    let exponent = (bits >> 23 & 0xFF) as i32 - 112;
    let sign = (bits >> 31) as u16;
    if exponent < 1 {
        return (sign << 15).to_le_bytes();
    }
    (sign << 15 | (exponent as u16) << 10 | (bits >> 13 & 0x3FF) as u16).to_le_bytes()
}

fn gaussian<const N: usize>(count: usize, deviation: f64, to: impl Fn(f32) -> [u8; N]) -> Vec<u8> {
    let mut random = Random(count as u64 | 1);
    (0..count)
        .flat_map(|_| to((random.normal() * deviation) as f32))
        .collect()
}

#[test]
fn every_16_bit_pattern() {
    // In order, so that most exponents are alone in their block, and shuffled, so that all meet everywhere.
    for step in [1_u32, 40503, 2731] {
        let all: Vec<u8> = (0..1_u32 << 16)
            .flat_map(|number| (number.wrapping_mul(step) as u16).to_le_bytes())
            .collect();
        // Among values that compress, so that no part is kept raw.
        let mut raw = gaussian(1 << 20, 0.02, bf16);
        raw.extend_from_slice(&all);
        assert!(round_trip(Element::Bf16, &raw) < raw.len());
        let mut raw = gaussian(1 << 20, 0.02, f16);
        raw.extend_from_slice(&all);
        assert!(round_trip(Element::F16, &raw) < raw.len());
    }
}

#[test]
fn random_fp32() {
    let mut random = Random(3);
    for round in 0..20 {
        let count = 100_000 + round;
        let mut raw = gaussian(count, 0.02, f32::to_le_bytes);
        for _ in 0..count / 50 {
            let at = random.next() as usize % count * 4;
            raw[at..at + 4].copy_from_slice(&(random.next() as u32).to_le_bytes());
        }
        assert!(round_trip(Element::F32, &raw) < raw.len());
    }
}

/// `cargo test --release -p weightstream-codec -- --ignored`
#[test]
#[ignore = "a minute or two in release mode"]
fn a_billion_random_fp32() {
    const CHUNK: usize = 1 << 20;
    let mut random = Random(7);
    let mut raw = vec![0; CHUNK * 4];
    for _ in 0..1_000_000_000_usize.div_ceil(CHUNK) {
        for value in raw.as_chunks_mut::<4>().0 {
            let bits = random.next();
            // Any pattern once in 64 values; otherwise exponents as weights have them.
            let exponent = 127 - ((bits >> 32) as u32 | 1 << 24).trailing_zeros();
            let usual = bits as u32 & 0x807F_FFFF | exponent << 23;
            let pattern = if bits >> 58 == 0 { bits as u32 } else { usual };
            *value = pattern.to_le_bytes();
        }
        assert!(round_trip(Element::F32, &raw) < raw.len());
    }
}

#[test]
fn gaussian_weights_are_this_small() {
    let ratio = |element, raw: Vec<u8>| round_trip(element, &raw) as f64 / raw.len() as f64;
    // Where the deviation lies between two powers of two decides how many values need escapes: see every place.
    for step in 0..8 {
        let deviation = 0.02 * 2_f64.powf(f64::from(step) / 8.0);
        let bf16 = ratio(Element::Bf16, gaussian(1 << 20, deviation, bf16));
        let f16 = ratio(Element::F16, gaussian(1 << 20, deviation, f16));
        let f32 = ratio(Element::F32, gaussian(1 << 20, deviation, f32::to_le_bytes));
        assert!(
            bf16 <= 0.70 && f16 <= 0.89 && f32 <= 0.85,
            "{bf16} {f16} {f32}"
        );
    }
}

#[test]
fn incompressible_bytes_are_kept() {
    let mut random = Random(5);
    let raw: Vec<u8> = (0..1 << 17)
        .flat_map(|_| random.next().to_le_bytes())
        .collect();
    for element in [Element::Bf16, Element::F16, Element::F32, Element::Bytes] {
        for length in [0, 1, 2, 17, 1024, 4096, 65537, raw.len()] {
            assert!(round_trip(element, &raw[..length]) <= length + 16);
        }
    }
}

#[test]
fn lengths_around_blocks_and_tiles() {
    let raw = gaussian(3 * 64 * 512, 0.02, bf16);
    for length in [
        1023, 1024, 1025, 4096, 65535, 65536, 65537, 66560, 100_001, 131_072, 180_000,
    ] {
        round_trip(Element::Bf16, &raw[..length]);
        round_trip(Element::F16, &raw[..length]);
        round_trip(Element::F32, &raw[..length]);
    }
}

#[test]
fn memory_that_is_not_aligned() {
    let raw = gaussian(100_000, 0.02, bf16);
    let mut coded = vec![0];
    encode(Element::Bf16, &raw, &mut coded);
    for kernel in Kernel::available() {
        for shift in [1, 2, 16, 32, 63] {
            let decoded = decoded(kernel, &coded[1..], raw.len(), Stores::Streaming, shift);
            assert!(decoded.as_deref() == Ok(&raw), "{kernel}, {shift}");
        }
    }
}

#[test]
fn wrong_lengths_and_headers() {
    let raw = gaussian(5000, 0.02, bf16);
    let mut coded = Vec::new();
    encode(Element::Bf16, &raw, &mut coded);
    assert_eq!(
        decode(&coded, &mut vec![0; raw.len() - 1]),
        Err(DecodeError::RawLength {
            expected: raw.len(),
            got: raw.len() - 1
        })
    );
    assert_eq!(
        raw_length(&coded[..15]),
        Err(DecodeError::NoHeader {
            expected: 16,
            got: 15
        })
    );
    let length = coded.len() as u64;
    assert_eq!(
        raw_length(&coded[..coded.len() - 1]),
        Err(DecodeError::CodedLength {
            expected: length,
            got: length - 1
        })
    );
    let with = |at: usize, byte: u8| {
        let mut coded = coded.clone();
        coded[at] = byte;
        raw_length(&coded).unwrap_err()
    };
    assert_eq!(
        with(0, 2),
        DecodeError::Version {
            expected: 1,
            got: 2
        }
    );
    assert_eq!(with(1, 4), DecodeError::Scheme { got: 4 });
    assert!(matches!(with(15, 255), DecodeError::CodedLength { .. }));
    let mut lost = coded.clone();
    lost[16 + 27] = 1; // the tile's escapes are said to start after the end
    assert!(matches!(
        decode(&lost, &mut vec![0; raw.len()]),
        Err(DecodeError::Escapes { tile: 0, .. })
    ));
}

proptest! {
    /// Damaged or made-up chunks: all kernels say the same, error or bytes, and touch nothing else.
    #[test]
    fn hostile_bytes(
        element in prop_oneof![Just(Element::Bf16), Just(Element::F16), Just(Element::F32)],
        blocks in 1_usize..70,
        seed in any::<u64>(),
        // Directories are hit as often as the bulk is.
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>(), any::<u8>()), 1..20),
    ) {
        let mut raw = gaussian(blocks * 512 + 5, 0.02, bf16);
        let mut random = Random(seed | 1);
        for _ in 0..blocks {
            let at = random.next() as usize % raw.len();
            raw[at] = random.next() as u8;
        }
        let mut coded = Vec::new();
        encode(element, &raw, &mut coded);
        for (at, front, byte) in changes {
            let within = if front { coded.len().min(256) } else { coded.len() };
            coded[at.index(within)] = byte;
        }
        match raw_length(&coded) {
            Ok(length) => {
                prop_assert!(length <= coded.len() * 3 / 2);
                let expected = decoded(portable(), &coded, length, Stores::Cached, 0);
                for kernel in Kernel::available() {
                    for stores in [Stores::Cached, Stores::Streaming] {
                        prop_assert!(decoded(kernel, &coded, length, stores, 0) == expected, "{}", kernel);
                    }
                }
            }
            Err(error) => prop_assert_eq!(decode(&coded, &mut vec![0; raw.len()]), Err(error)),
        }
    }
}
