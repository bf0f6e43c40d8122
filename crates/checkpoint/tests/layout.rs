//! What a stream does with a layout, simulated: fill every chunk, look at every parameter.
#![allow(clippy::unwrap_used)]

use proptest::collection::vec;
use proptest::prelude::*;
use weightstream_checkpoint::{Layout, LayoutError, Parameter, Part};

const CHUNK: usize = 64 << 10;

fn parameter(name: &str, parts: &[(u32, u64, u64)], itemsize: u64, unit: u64) -> Parameter {
    Parameter {
        name: name.to_owned(),
        parts: parts
            .iter()
            .map(|&(file, offset, length)| Part {
                file,
                offset,
                length,
            })
            .collect(),
        itemsize,
        unit,
    }
}

fn byte_of(file: usize, offset: usize) -> u8 {
    let mixed = (file + 1)
        .wrapping_mul(0x9E37_79B9)
        .wrapping_add(offset.wrapping_mul(0x85EB_CA6B));
    (mixed >> 13) as u8
}

fn files(lengths: &[u64]) -> Vec<Vec<u8>> {
    let fill = |(file, &length): (usize, &u64)| {
        (0..length as usize)
            .map(|offset| byte_of(file, offset))
            .collect()
    };
    lengths.iter().enumerate().map(fill).collect()
}

/// The whole address space, filled chunk by chunk, checking each piece on the way.
fn filled(layout: &Layout, files: &[Vec<u8>]) -> Vec<u8> {
    let mut space = vec![0; layout.length() as usize];
    for (chunk, bytes) in space.chunks_mut(layout.chunk_bytes()).enumerate() {
        let mut end = 0;
        let mut pieces = 0;
        for piece in layout.pieces(chunk as u32) {
            assert!(piece.length > 0);
            assert!(piece.chunk_offset >= end, "pieces in order, apart");
            end = piece.chunk_offset + piece.length;
            pieces += 1;
            let source = &files[piece.file as usize][piece.file_offset as usize..][..piece.length];
            bytes[piece.chunk_offset..end].copy_from_slice(source);
        }
        assert_eq!(pieces > 0, layout.is_used(chunk as u32));
        assert_eq!(
            layout.is_used(chunk as u32),
            layout.parameters_in(chunk as u32).next().is_some()
        );
    }
    assert_eq!(layout.pieces(layout.chunks()).count(), 0);
    assert_eq!(layout.pieces(u32::MAX).count(), 0);
    space
}

fn check(lengths: &[u64], parameters: &[Parameter], chunk: usize) {
    let files = files(lengths);
    let layout = Layout::new(lengths, parameters.to_vec(), chunk).unwrap();
    let space = filled(&layout, &files);
    let bytes = chunk as u64;
    let mut used = vec![false; space.len()];
    for (index, parameter) in parameters.iter().enumerate() {
        let address = layout.address(index);
        let wanted: Vec<u8> = parameter
            .parts
            .iter()
            .flat_map(|part| {
                &files[part.file as usize][part.offset as usize..][..part.length as usize]
            })
            .copied()
            .collect();
        let end = address + wanted.len() as u64;
        assert!(address.is_multiple_of(parameter.itemsize));
        assert!(
            space[address as usize..end as usize] == wanted,
            "{parameter:?} at {address} has other bytes"
        );
        used[address as usize..end as usize].fill(true);

        for (other, twin) in parameters.iter().enumerate() {
            if twin.parts == parameter.parts && twin.itemsize == parameter.itemsize {
                assert_eq!(layout.address(other), address, "ties share an address");
            }
        }
        let Some(first) = parameter.parts.iter().find(|part| part.length > 0) else {
            continue;
        };
        let is_linear = layout.parameters()[index].parts.len() == 1;
        let kept = if parameter.itemsize < 4 || is_linear {
            parameter.itemsize
        } else {
            64
        };
        if first.offset.is_multiple_of(kept) {
            assert_eq!(address % 4096, first.offset % 4096, "direct reads");
        } else {
            assert_eq!(address % 64, 0);
        }
        for at in [address, address + wanted.len() as u64 / 2, end - 1] {
            let found = layout.parameter_at(at).unwrap();
            assert!(found <= index);
            let chunk_at = (at / bytes) as u32;
            let unit = layout.unit_at(at);
            assert!(unit.contains(&chunk_at) && unit.end <= layout.chunks());
            assert!(unit.clone().all(|chunk| layout.is_used(chunk)));
            assert!(layout.parameters_in(chunk_at).any(|placement| {
                placement.index == index && placement.addresses == (address..end)
            }));
        }
    }
    let used_bytes = used.iter().filter(|used| **used).count();
    assert_eq!(layout.weight_bytes(), used_bytes as u64);
    for (address, used) in used.iter().enumerate().step_by(509) {
        assert_eq!(layout.parameter_at(address as u64).is_some(), *used);
    }
}

fn part(lengths: Vec<u64>) -> impl Strategy<Value = Part> + Clone {
    (0..lengths.len(), any::<u64>(), any::<u64>(), 0_u32..4).prop_map(
        move |(file, offset, length, align)| {
            let offset = offset % (lengths[file] + 1);
            let offset = if align > 0 { offset & !15 } else { offset };
            Part {
                file: file as u32,
                offset,
                length: length % (lengths[file] - offset + 1).min(150_000),
            }
        },
    )
}

fn models() -> impl Strategy<Value = (Vec<u64>, Vec<Parameter>, usize)> {
    vec(0_u64..400_000, 1..4).prop_flat_map(|lengths| {
        let part = part(lengths.clone());
        let parameter = (
            prop_oneof![3 => vec(part.clone(), 1), 1 => vec(part, 0..5)],
            prop::sample::select(vec![1_u64, 2, 4, 8, 16]),
            prop_oneof![Just(0_u64), 1_u64..100_000],
        )
            .prop_map(|(parts, itemsize, unit)| Parameter {
                name: "p".to_owned(),
                parts,
                itemsize,
                unit,
            });
        let ties = vec(any::<prop::sample::Index>(), 0..3);
        let chunk = prop::sample::select(vec![CHUNK, 2 * CHUNK]);
        (Just(lengths), vec(parameter, 0..12), ties, chunk).prop_map(
            |(lengths, mut parameters, ties, chunk)| {
                for tie in ties {
                    if !parameters.is_empty() {
                        parameters.push(tie.get(&parameters).clone());
                    }
                }
                (lengths, parameters, chunk)
            },
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_parameter_has_its_bytes((lengths, parameters, chunk) in models()) {
        check(&lengths, &parameters, chunk);
    }
}

#[test]
fn a_file_is_mirrored_from_its_first_used_chunk() {
    let chunk = CHUNK as u64;
    let lengths = [10 * chunk - 100];
    let weight = parameter("w", &[(0, 2 * chunk + 16, 64)], 4, 0);
    let last = parameter("l", &[(0, 9 * chunk, 8)], 4, 0);
    let layout = Layout::new(&lengths, vec![weight, last], CHUNK).unwrap();
    assert_eq!(layout.address(0), 16);
    assert_eq!(layout.chunks(), 8);
    assert_eq!(layout.weight_bytes(), 72);
    let first: Vec<_> = layout.pieces(0).collect();
    assert_eq!(first.len(), 1);
    assert_eq!((first[0].file_offset, first[0].length), (2 * chunk, CHUNK));
    assert_eq!(layout.pieces(1).count(), 0);
    assert!(!layout.is_used(1));
    let end: Vec<_> = layout.pieces(7).collect();
    assert_eq!(
        (end[0].file_offset, end[0].length),
        (9 * chunk, CHUNK - 100)
    );
}

#[test]
fn parts_that_follow_each_other_are_linear() {
    let split = parameter("s", &[(0, 64, 100), (0, 164, 0), (0, 164, 28)], 4, 0);
    let whole = parameter("w", &[(0, 64, 128)], 4, 0);
    let layout = Layout::new(&[4096], vec![split, whole], CHUNK).unwrap();
    assert_eq!(layout.address(0), layout.address(1));
    assert_eq!(layout.chunks(), 1);
}

#[test]
fn gathered_parameters_keep_direct_reads_possible() {
    let experts = parameter("e", &[(0, 4096 + 8, 4096), (0, 40_000, 4096)], 2, 4096);
    let odd = parameter("o", &[(0, 4097, 128)], 2, 0);
    let floats = parameter("f", &[(0, 4096 + 8, 4096), (0, 20_000, 4096)], 4, 4096);
    let aligned = parameter("a", &[(0, 4096 + 64, 4096), (0, 40_000, 4096)], 4, 4096);
    let layout = Layout::new(&[50_000], vec![experts, odd, floats, aligned], CHUNK).unwrap();
    assert_eq!(layout.address(0) % 4096, 8);
    assert_eq!(layout.address(1) % 64, 0);
    assert_eq!(
        layout.address(2) % 64,
        0,
        "as where memory is allocated for it"
    );
    assert_eq!(layout.address(3) % 4096, 64);
}

#[test]
fn a_tie_of_another_itemsize_is_aligned_for_it() {
    let bytes = parameter("b", &[(0, 9, 64), (0, 100, 64)], 1, 0);
    let words = parameter("w", &[(0, 9, 64), (0, 100, 64)], 8, 0);
    check(&[1000], &[bytes, words], CHUNK);
}

#[test]
fn units_are_rows_experts_or_the_whole() {
    let chunk = CHUNK as u64;
    let tied = parameter("tied", &[(0, 0, 8 * chunk)], 2, 0);
    let rows = parameter("rows", &[(0, 0, 8 * chunk)], 2, chunk / 4 * 3);
    let experts = parameter("experts", &[(0, 8 * chunk, 8 * chunk)], 2, 2 * chunk);
    let whole = parameter("whole", &[(0, 16 * chunk, 8 * chunk)], 2, 0);
    let parameters = vec![tied, rows, experts, whole];
    let layout = Layout::new(&[25 * chunk], parameters, CHUNK).unwrap();
    assert_eq!(layout.unit_at(0), 0..1);
    assert_eq!(layout.unit_at(chunk), 0..2);
    assert_eq!(layout.unit_at(8 * chunk - 1), 7..8);
    assert_eq!(layout.unit_at(11 * chunk), 10..12);
    assert_eq!(layout.unit_at(20 * chunk + 5), 16..24);
    assert_eq!(layout.parameter_at(3), Some(0));
    assert_eq!(layout.parameter_at(24 * chunk), None);
    assert!(layout.unit_at(24 * chunk).is_empty());
    assert!(layout.unit_at(u64::MAX).is_empty());
}

#[test]
fn parameters_without_bytes_take_no_room() {
    let empty = parameter("empty", &[(0, 10, 0)], 4, 0);
    let none = parameter("none", &[], 4, 0);
    let layout = Layout::new(&[100], vec![empty, none], CHUNK).unwrap();
    assert_eq!(layout.chunks(), 0);
    assert_eq!((layout.address(0), layout.address(1)), (0, 0));
    assert_eq!(layout.parameter_at(0), None);
    assert_eq!(Layout::new(&[], vec![], CHUNK).unwrap().length(), 0);
}

#[test]
fn what_cannot_be_placed_is_named() {
    let refused = |lengths: &[u64], parts: &[(u32, u64, u64)], itemsize, chunk| {
        Layout::new(lengths, vec![parameter("p", parts, itemsize, 0)], chunk).unwrap_err()
    };
    for (offset, length) in [(90, 11), (101, 0), (u64::MAX, 2)] {
        let error = refused(&[100], &[(0, offset, length)], 1, CHUNK);
        assert!(matches!(&error, LayoutError::OutsideFile { .. }), "{error}");
        assert!(error.to_string().contains("\"p\""), "{error}");
    }
    let error = refused(&[100], &[(1, 0, 1)], 1, CHUNK);
    assert!(matches!(error, LayoutError::UnknownFile { got: 1, .. }));
    for itemsize in [0, 3, 8192] {
        let error = refused(&[100], &[(0, 0, 1)], itemsize, CHUNK);
        assert!(matches!(error, LayoutError::ItemSize { .. }), "{error}");
    }
    for chunk in [0, 4096, 3 * CHUNK] {
        let error = refused(&[100], &[(0, 0, 1)], 1, chunk);
        assert_eq!(error, LayoutError::ChunkBytes { got: chunk });
    }
    let huge = u64::MAX;
    let parts = [
        vec![(0, 0, huge), (0, 0, huge)],
        vec![(0, 0, huge)],
        vec![(0, 1, huge - 1)],
        vec![(0, 0, 1 << 50), (0, 0, 1)],
    ];
    for parts in parts {
        let error = refused(&[huge], &parts, 4, CHUNK);
        assert_eq!(error, LayoutError::TooLarge { chunk_bytes: CHUNK });
    }
    let error = refused(&[huge], &[(0, 0, huge)], 4, 1 << 40);
    assert!(matches!(error, LayoutError::TooLarge { .. }));
}

#[test]
fn a_hundred_thousand_parameters_are_laid_out() {
    let each = 1_u64 << 20;
    let count = 100_000;
    let parameters = (0..count)
        .map(|number| {
            let offset = number % 5000 * each;
            let file = (number / 5000) as u32;
            parameter("p", &[(file, 8 + offset, each)], 2, 0)
        })
        .collect();
    let layout = Layout::new(&[5000 * each + 8; 20], parameters, 4 << 20).unwrap();
    assert_eq!(layout.weight_bytes(), count * each);
    let pieces: u64 = (0..layout.chunks())
        .flat_map(|chunk| layout.pieces(chunk))
        .map(|piece| piece.length as u64)
        .sum();
    assert_eq!(pieces, 20 * (5000 * each + 8));
}
