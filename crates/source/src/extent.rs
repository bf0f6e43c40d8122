//! How a piece becomes system calls.

use crate::aligned::BOUNCE;

/// The most that one system call is asked for.
const LONGEST: usize = 16 << 20;

/// A ragged piece up to this size goes through a bounce buffer whole: one read more costs more than
/// copying.
const SMALL: usize = 64 << 10;

/// What direct I/O asks for. Powers of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Alignment {
    /// Of file offsets and lengths.
    pub(crate) offset: usize,
    /// Of memory.
    pub(crate) memory: usize,
}

/// A part of a piece that is read by one system call (and more where it comes up short).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Where it starts in the file.
    pub(crate) offset: u64,
    /// Bytes to ask for.
    pub(crate) length: usize,
    /// Bytes that must come, from `offset` on.
    pub(crate) wanted: usize,
    /// How the bytes get to their destination.
    pub(crate) route: Route,
}

/// How bytes get to their destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// Read to `at` bytes after the destination's start.
    InPlace {
        /// Bytes after the destination's start.
        at: usize,
    },
    /// Read into a bounce buffer, whose bytes from `skip` on are copied to `at`.
    Bounce {
        /// Bytes of the buffer before the first that was asked for.
        skip: usize,
        /// Bytes after the destination's start.
        at: usize,
    },
}

/// A piece, in numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// In the file.
    pub(crate) offset: u64,
    /// The destination's address.
    pub(crate) address: usize,
    /// Bytes to read.
    pub(crate) length: usize,
    /// Bytes that may be overwritten.
    pub(crate) room: usize,
}

/// Splits a piece whose end (and one alignment more) is below `i64::MAX`. Without an alignment all
/// of it is read in place.
pub(crate) fn split(shape: Shape, alignment: Option<Alignment>) -> Vec<Extent> {
    let mut extents = Vec::new();
    let Shape {
        offset,
        address,
        length,
        room,
    } = shape;
    let Some(alignment) = alignment else {
        in_place(&mut extents, offset, 0, length, length);
        return extents;
    };

    // Bytes of the piece's first block before the piece, and of the piece in its last block. All
    // else counts from the destination's start.
    let before = (offset % alignment.offset as u64) as usize;
    let head = if before == 0 {
        0
    } else {
        alignment.offset - before
    };
    let congruent = address.wrapping_add(head).is_multiple_of(alignment.memory);
    let after = (before + length) % alignment.offset;
    let ragged = before != 0 || after != 0;
    let rounded_up = if after == 0 {
        length
    } else {
        length + alignment.offset - after
    };
    let fits = before == 0 && rounded_up <= room;

    if !congruent || head >= length || (ragged && !fits && length <= SMALL) {
        bounce(&mut extents, shape, alignment, 0, length);
        return extents;
    }
    let end = if rounded_up <= room {
        rounded_up
    } else {
        length - after
    };
    bounce(&mut extents, shape, alignment, 0, head);
    in_place(
        &mut extents,
        offset + head as u64,
        head,
        end - head,
        length.min(end) - head,
    );
    if end < length {
        bounce(&mut extents, shape, alignment, end, length);
    }
    extents
}

/// Reads `length` bytes to `at`, of which `wanted` must come.
fn in_place(extents: &mut Vec<Extent>, offset: u64, at: usize, length: usize, wanted: usize) {
    for done in (0..wanted).step_by(LONGEST) {
        extents.push(Extent {
            offset: offset + done as u64,
            length: LONGEST.min(length - done),
            wanted: LONGEST.min(wanted - done),
            route: Route::InPlace { at: at + done },
        });
    }
}

/// Reads the piece's bytes `from..to` through buffers.
fn bounce(extents: &mut Vec<Extent>, shape: Shape, alignment: Alignment, from: usize, to: usize) {
    let mut at = from;
    while at < to {
        let position = shape.offset + at as u64;
        let skip = (position % alignment.offset as u64) as usize;
        let wanted = (skip + to - at).min(BOUNCE);
        extents.push(Extent {
            offset: position - skip as u64,
            length: wanted.next_multiple_of(alignment.offset),
            wanted,
            route: Route::Bounce { skip, at },
        });
        at += wanted - skip;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_byte_is_read_once_and_nothing_else_is_overwritten(
            offset in 0_u64..200_000,
            address in 0_usize..20_000,
            length in prop_oneof![0_usize..5_000, 0_usize..2_000_000, Just(LONGEST + 12_345)],
            slack in prop_oneof![Just(0_usize), 0_usize..10_000],
            log_offset in 9_u32..13,
            log_memory in 2_u32..13,
        ) {
            let alignment = Alignment { offset: 1 << log_offset, memory: 1 << log_memory.min(log_offset) };
            let shape = Shape { offset, address, length, room: length + slack };
            let mut next = 0;
            for extent in split(shape, Some(alignment)) {
                prop_assert_eq!(extent.offset % alignment.offset as u64, 0);
                prop_assert_eq!(extent.length % alignment.offset, 0);
                prop_assert!(extent.wanted <= extent.length && extent.length <= LONGEST);
                let at = match extent.route {
                    Route::InPlace { at } => {
                        prop_assert_eq!((address + at) % alignment.memory, 0);
                        prop_assert!(at + extent.length <= shape.room);
                        prop_assert_eq!(extent.offset, offset + at as u64);
                        next = at + extent.wanted;
                        at
                    }
                    Route::Bounce { skip, at } => {
                        prop_assert!(extent.length <= BOUNCE);
                        prop_assert_eq!(extent.offset + skip as u64, offset + at as u64);
                        prop_assert_eq!(at, next);
                        next = at + extent.wanted - skip;
                        at
                    }
                };
                prop_assert!(at < length);
            }
            prop_assert_eq!(next, length);
        }
    }

    const BLOCK: Alignment = Alignment {
        offset: 4096,
        memory: 4096,
    };

    fn routes(offset: u64, address: usize, length: usize, room: usize) -> Vec<Route> {
        let shape = Shape {
            offset,
            address,
            length,
            room,
        };
        split(shape, Some(BLOCK))
            .iter()
            .map(|extent| extent.route)
            .collect()
    }

    #[test]
    fn a_congruent_piece_goes_in_place_but_for_its_edges() {
        assert_eq!(
            routes(100, 4096 + 100, 1 << 20, 1 << 20),
            [
                Route::Bounce { skip: 100, at: 0 },
                Route::InPlace { at: 3996 },
                Route::Bounce {
                    skip: 0,
                    at: (1 << 20) - 100
                },
            ]
        );
    }

    #[test]
    fn room_saves_the_tail_its_buffer() {
        assert_eq!(
            routes(8192, 4096, (1 << 20) - 5, 1 << 20),
            [Route::InPlace { at: 0 }]
        );
        assert_eq!(routes(8192, 4096, 5, 4096), [Route::InPlace { at: 0 }]);
        assert_eq!(
            routes(8192, 4096, 5, 4095),
            [Route::Bounce { skip: 0, at: 0 }]
        );
    }

    #[test]
    fn an_incongruent_piece_goes_through_bounded_buffers() {
        assert_eq!(
            routes(0, 1, BOUNCE + 1, BOUNCE + 1),
            [
                Route::Bounce { skip: 0, at: 0 },
                Route::Bounce {
                    skip: 0,
                    at: BOUNCE
                }
            ]
        );
    }
}
