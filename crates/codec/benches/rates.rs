//! How fast each kernel decodes and encodes on one core, beside a copy of the same bytes in the same run.
//!
//! `cargo bench -p weightstream-codec`; ends with a table of ratios. Weights are Gaussian, in chunks of 2 MiB, far more
//! of them than the caches hold, in memory as a pool has it.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::fs::File;
use std::hint::black_box;
use std::mem::MaybeUninit;
use std::path::PathBuf;

use criterion::{Criterion, Throughput};
use weightstream_codec::{Element, Kernel, Stores, decode_with, encode_with};

const CHUNK: usize = 2 << 20;
const CHUNKS: usize = 64;
const ELEMENTS: [(Element, &str); 3] = [
    (Element::Bf16, "bf16"),
    (Element::F16, "fp16"),
    (Element::F32, "fp32"),
];

fn main() {
    let mut criterion = Criterion::default().sample_size(30).configure_from_args();
    let to = memory(CHUNK * CHUNKS);
    let mut sizes = Vec::new();
    for (element, name) in ELEMENTS {
        let raw = memory(CHUNK * CHUNKS);
        fill(element, raw);
        // As if read from a file: chunks begin at pages.
        let room = CHUNK + (1 << 16);
        let stored = memory(room * CHUNKS);
        let mut coded = Vec::new();
        for (raw, stored) in raw.chunks(CHUNK).zip(stored.chunks_mut(room)) {
            let mut chunk = Vec::new();
            encode_with(Kernel::fastest(), element, raw, &mut chunk);
            let (stored, _) = stored.split_at_mut(chunk.len());
            stored.copy_from_slice(&chunk);
            coded.push(&*stored);
        }
        sizes.push(coded.iter().map(|chunk| chunk.len()).sum::<usize>());

        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Bytes((CHUNK * CHUNKS) as u64));
        group.bench_function("memcpy", |bencher| {
            bencher.iter(|| {
                for (raw, to) in raw.chunks(CHUNK).zip(to.chunks_mut(CHUNK)) {
                    black_box(to).copy_from_slice(black_box(raw));
                }
            });
        });
        for kernel in Kernel::available() {
            for (stores, how) in [
                (Stores::Streaming, "decode"),
                (Stores::Cached, "decode cached"),
            ] {
                group.bench_function(format!("{how} {kernel}"), |bencher| {
                    bencher.iter(|| {
                        for (chunk, to) in coded.iter().zip(to.chunks_mut(CHUNK)) {
                            decode_with(kernel, black_box(chunk), uninit(to), stores).unwrap();
                        }
                    });
                });
            }
            group.bench_function(format!("encode {kernel}"), |bencher| {
                let mut chunk = Vec::with_capacity(CHUNK);
                bencher.iter(|| {
                    for raw in raw.chunks(CHUNK) {
                        chunk.clear();
                        encode_with(kernel, element, black_box(raw), &mut chunk);
                    }
                });
            });
        }
        group.finish();
    }
    criterion.final_summary();
    print_table(&sizes);
}

/// What criterion has measured, as ratios.
fn print_table(sizes: &[usize]) {
    println!("| | size | memcpy, GB/s | decode, x memcpy | through the caches | encode, GB/s |");
    println!("|---|---|---|---|---|---|");
    for ((_, element), size) in ELEMENTS.iter().zip(sizes) {
        let rate = |name: &str| {
            estimate(element, name).map(|nanoseconds| (CHUNK * CHUNKS) as f64 / nanoseconds)
        };
        let Some(copy) = rate("memcpy") else { continue };
        let size = *size as f64 / (CHUNK * CHUNKS) as f64;
        for kernel in Kernel::available() {
            let times =
                |name: &str| rate(&format!("{name} {kernel}")).map_or(0.0, |rate| rate / copy);
            let encode = rate(&format!("encode {kernel}")).unwrap_or(0.0);
            println!(
                "| {element}, {kernel} | {size:.3} | {copy:.1} | {:.2} | {:.2} | {encode:.1} |",
                times("decode"),
                times("decode cached"),
            );
        }
    }
}

/// Nanoseconds of one iteration, if it was run.
fn estimate(group: &str, name: &str) -> Option<f64> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target")),
        PathBuf::from,
    );
    let file = target
        .join("criterion")
        .join(group)
        .join(name)
        .join("new/estimates.json");
    let estimates: serde_json::Value = serde_json::from_reader(File::open(file).ok()?).ok()?;
    estimates["median"]["point_estimate"].as_f64()
}

/// Zeroed memory in huge pages, never freed.
fn memory(length: usize) -> &'static mut [u8] {
    let layout =
        std::alloc::Layout::from_size_align(length.next_multiple_of(CHUNK), CHUNK).unwrap();
    // SAFETY: a fresh allocation of this length that nobody else has.
    unsafe {
        let start = std::alloc::alloc(layout);
        assert!(!start.is_null());
        libc::madvise(start.cast(), layout.size(), libc::MADV_HUGEPAGE);
        start.write_bytes(0, length);
        std::slice::from_raw_parts_mut(start, length)
    }
}

fn uninit(bytes: &mut [u8]) -> &mut [MaybeUninit<u8>] {
    // SAFETY: the decoder writes initialised bytes only.
    unsafe { &mut *(std::ptr::from_mut(bytes) as *mut [MaybeUninit<u8>]) }
}

/// Gaussian values: sums of twelve uniform numbers, fast enough for a benchmark's start.
fn fill(element: Element, raw: &mut [u8]) {
    let mut state = 1_u64;
    let mut uniform = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32
    };
    let mut normal = move || 0.02 * ((0..12).map(|_| uniform()).sum::<f32>() - 6.0);
    if element == Element::F32 {
        for value in raw.chunks_exact_mut(4) {
            value.copy_from_slice(&normal().to_le_bytes());
        }
        return;
    }
    for value in raw.chunks_exact_mut(2) {
        let bits = normal().to_bits();
        let half = match element {
            Element::Bf16 => (bits >> 16) as u16,
            _ => half_precision(bits),
        };
        value.copy_from_slice(&half.to_le_bytes());
    }
}

/// An fp16 near that fp32; what is too small becomes 0.
fn half_precision(bits: u32) -> u16 {
    let sign = (bits >> 16 & 0x8000) as u16;
    match (bits >> 23 & 0xFF).checked_sub(112) {
        Some(exponent @ 1..) => sign | (exponent as u16) << 10 | (bits >> 13 & 0x3FF) as u16,
        _ => sign,
    }
}
