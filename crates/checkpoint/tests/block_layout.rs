//! Following the fills must put every parameter's bytes at its address, whatever the files look like.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use proptest::prelude::*;
use weightstream_checkpoint::{BlockLayout, Parameter, Part, SlotImage};

fn byte(file: u32, offset: u64) -> u8 {
    (offset.wrapping_mul(31) ^ (offset >> 9) ^ (u64::from(file) * 77)) as u8
}

/// The device's memory after every chunk was read and copied as its fill says.
fn follow(layout: &BlockLayout, lengths: &[u64]) -> Vec<u8> {
    let chunk_bytes = layout.chunk_bytes() as usize;
    let mut device = vec![0; layout.chunks() as usize * chunk_bytes];
    for chunk in 0..layout.chunks() {
        let fill = layout.fill(chunk).unwrap();
        let mut slot = vec![0_u8; layout.slot_bytes()];
        let mut taken = 0;
        for read in &fill.reads {
            assert!(read.offset % 4096 == 0 && read.at % 4096 == 0 && read.at >= taken);
            assert!(read.offset + read.length as u64 <= lengths[read.file as usize]);
            assert!(read.length <= read.room && read.at + read.room <= slot.len());
            taken = read.at + read.room;
            for (at, place) in slot[read.at..read.at + read.length].iter_mut().enumerate() {
                *place = byte(read.file, read.offset + at as u64);
            }
        }
        for copy in &fill.copies {
            assert!(copy.to + copy.length <= chunk_bytes);
            let to = chunk as usize * chunk_bytes + copy.to;
            device[to..to + copy.length].copy_from_slice(&slot[copy.from..copy.from + copy.length]);
        }
    }
    device
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_parameter_finds_its_bytes(
        sizes in prop::collection::vec((1_u64..40_000, 0_u64..9000, 0_u32..2, prop::bool::ANY), 1..20),
        groups in prop::collection::vec(prop::collection::vec(0_usize..20, 0..8), 0..5),
        chunk in 1_u64..20,
    ) {
        let mut lengths = [8_u64; 2];
        let mut parameters = Vec::new();
        for (index, &(length, gap, file, split)) in sizes.iter().enumerate() {
            let offset = lengths[file as usize] + gap / 8 * 8;
            lengths[file as usize] = offset + length;
            let cut = if split { length / 3 } else { 0 };
            let parts = vec![
                Part { file, offset: offset + cut, length: length - cut },
                Part { file, offset, length: cut },
            ];
            parameters.push(Parameter { name: index.to_string(), parts, itemsize: 1, unit: 0 });
        }
        let groups: Vec<Vec<usize>> = groups
            .into_iter()
            .map(|group| group.into_iter().filter(|&index| index < sizes.len()).collect())
            .collect();
        let layout = BlockLayout::new(&lengths, parameters.clone(), &groups, chunk * 4096, SlotImage::File).unwrap();
        let device = follow(&layout, &lengths);
        for (index, parameter) in parameters.iter().enumerate() {
            let range = layout.addresses(index);
            prop_assert_eq!(range.start % 512, 0);
            let expected: Vec<u8> = parameter
                .parts
                .iter()
                .flat_map(|part| (part.offset..part.offset + part.length).map(|at| byte(part.file, at)))
                .collect();
            prop_assert_eq!(&device[range.start as usize..range.end as usize], &expected[..]);
        }
        let total: u64 = sizes.iter().map(|size| size.0).sum();
        prop_assert_eq!(layout.weight_bytes(), total);
    }
}

#[test]
fn a_whole_file_of_aligned_weights_is_one_copy_a_chunk() {
    let header = 1000;
    let parameters: Vec<Parameter> = (0..8)
        .map(|index| Parameter {
            name: index.to_string(),
            parts: vec![Part {
                file: 0,
                offset: header + index * 8192,
                length: 8192,
            }],
            itemsize: 2,
            unit: 0,
        })
        .collect();
    let groups = vec![vec![2, 3], vec![4, 5, 6, 7]];
    let layout = BlockLayout::new(
        &[header + 8 * 8192],
        parameters,
        &groups,
        16384,
        SlotImage::File,
    )
    .unwrap();
    assert_eq!(layout.chunks(), 4);
    for chunk in 0..4 {
        let fill = layout.fill(chunk).unwrap();
        assert_eq!((fill.reads.len(), fill.copies.len()), (1, 1));
    }
    // A block's chunks are its own where it fills them.
    assert_eq!(layout.chunks_of(&groups[0]), [1]);
    assert_eq!(layout.chunks_of(&groups[1]), [2, 3]);
}
