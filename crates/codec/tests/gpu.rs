//! The GPU's decoder, compiled as C with loops in place of threads, equals the other decoders.
#![allow(clippy::unwrap_used, clippy::undocumented_unsafe_blocks)]

use proptest::prelude::*;
use std::ffi::{CString, c_void};
use std::process::Command;
use std::sync::OnceLock;
use weightstream_codec::gpu::{FUNCTION, PTX, Part};
use weightstream_codec::{Element, encode};

type Decode = unsafe extern "C" fn(*const u8, u32, *mut u8, u32, u32);

/// The function in `decode.cu`; none on a machine without a C compiler.
fn compiled() -> Option<Decode> {
    static FOUND: OnceLock<Option<usize>> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("decode-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let library = folder.join("decode.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/gpu/decode.cu");
        let status = Command::new("cc")
            .args(["-x", "c", "-O2", "-shared", "-fPIC", "-o"])
            .arg(&library)
            .arg(source)
            .status()
            .ok()?;
        assert!(status.success(), "decode.cu does not compile as C");
        let name = CString::new(library.to_str().unwrap()).unwrap();
        let symbol = CString::new(FUNCTION).unwrap();
        let found = unsafe {
            let handle: *mut c_void = libc::dlopen(name.as_ptr(), libc::RTLD_NOW);
            libc::dlsym(handle, symbol.as_ptr())
        };
        std::fs::remove_dir_all(folder).unwrap();
        assert!(!found.is_null());
        Some(found as usize)
    });
    found.map(|address| unsafe { std::mem::transmute::<usize, Decode>(address) })
}

/// Decodes bytes `skip..skip + length` of a frame to `to`, part by part, and sees that nothing else is written.
fn decoded(stored: &[u8], coded: bool, skip: u32, length: u32, to: u32) -> Option<Vec<u8>> {
    let decode = compiled()?;
    let from = 128;
    let mut staged = vec![0xEE_u8; from];
    staged.extend(stored);
    staged.resize(staged.len().next_multiple_of(16), 0xEE);
    let table = staged.len() as u32;
    let parts: Vec<Part> =
        Part::of(from as u32, stored.len() as u32, skip, length, to, coded).collect();
    for part in &parts {
        staged.extend(part.to_bytes());
        assert_eq!(Part::from_bytes(&part.to_bytes()), *part);
    }
    let mut chunk = vec![0xA5_u8; (to + length) as usize + 100];
    for number in 0..parts.len() as u32 {
        let count = parts.len() as u32;
        unsafe { decode(staged.as_ptr(), table, chunk.as_mut_ptr(), count, number) };
    }
    let end = (to + length) as usize;
    assert!(
        chunk[..to as usize]
            .iter()
            .chain(&chunk[end..])
            .all(|&byte| byte == 0xA5)
    );
    Some(chunk[to as usize..end].to_vec())
}

fn check(element: Element, raw: &[u8], skip: usize, length: usize, to: u32) {
    let mut coded = Vec::new();
    encode(element, raw, &mut coded);
    for (stored, is_coded) in [(&coded[..], true), (raw, false)] {
        let found = decoded(stored, is_coded, skip as u32, length as u32, to);
        if let Some(found) = found {
            assert!(found == raw[skip..skip + length], "{element:?} {is_coded}");
        }
    }
}

/// Values whose exponents are mostly few, with some that only escapes or distant escapes can hold.
fn weights(element: Element, values: usize, seed: u64, wild: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut raw = Vec::new();
    for _ in 0..values {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let exponent = if state % 1000 < wild {
            state >> 20 & 255
        } else {
            118 + (state >> 20) % 6
        };
        let exponent = exponent as u16;
        let upper = (state >> 30) as u16 & 0x807F | exponent << 7;
        match element {
            Element::F16 => {
                let five = if state % 1000 < wild {
                    exponent & 31
                } else {
                    12 + exponent % 6
                };
                raw.extend(((state >> 30) as u16 & 0x83FF | five << 10).to_le_bytes());
            }
            Element::F32 => {
                raw.extend(((state >> 8) as u16).to_le_bytes());
                raw.extend(upper.to_le_bytes());
            }
            _ => raw.extend(upper.to_le_bytes()),
        }
    }
    raw
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_gpus_decoder_equals_the_others(
        element in prop_oneof![Just(Element::Bf16), Just(Element::F16), Just(Element::F32)],
        values in prop_oneof![1_usize..3000, 30_000_usize..140_000],
        seed in any::<u64>(),
        wild in prop_oneof![Just(0_u64), Just(3), Just(60), Just(400)],
        from in 0_f64..1.0,
        share in 0_f64..1.0,
        to in 0_u32..70,
        whole in any::<bool>(),
    ) {
        let raw = weights(element, values, seed, wild);
        let (skip, length) = if whole {
            (0, raw.len())
        } else {
            let skip = (raw.len() as f64 * from) as usize;
            (skip, 1 + ((raw.len() - skip - 1) as f64 * share) as usize)
        };
        check(element, &raw, skip, length, to);
    }
}

#[test]
fn every_bf16_pattern_comes_back() {
    let raw: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    check(Element::Bf16, &raw, 0, raw.len(), 0);
    let sorted: Vec<u8> = (0..=u16::MAX)
        .map(|value| value.rotate_left(9))
        .flat_map(u16::to_le_bytes)
        .collect();
    check(Element::Bf16, &sorted, 2, sorted.len() - 2, 6);
}

#[test]
fn the_code_is_of_an_old_version() {
    // A driver refuses code that is newer than itself; 8.1 is of CUDA 12.1.
    assert!(PTX.contains(".version 8.1") && PTX.contains(&format!(".entry {FUNCTION}(")));
}
