//! In which form chunks stay in memory from pass to pass, and how the budget is divided for it.
//!
//! A chunk stays decoded in its slot: using it again costs nothing. Or it stays as it is stored, on the shelf: there the
//! same memory holds more of the model, so that less is read, but every chunk is decoded in every pass. Which is faster
//! depends on the disk, the processors and the model, so it is decided by what passes are seen to take.

use crate::budget;
use crate::loader::Shelf;
use weightstream_engine::{Engine, Work, least_slots};

/// In which form chunks stay in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Residency {
    /// As they are used.
    Decoded,
    /// As they are stored: coded or quantised.
    Coded,
}

/// Seconds that the computing thread spends to make a chunk visible: a fault and two moves of pages.
pub const PUBLISH: f64 = 60e-6;
/// Passes before the first decision: the first reads everything, the second what the first has not shown.
const PASSES: u64 = 2;
/// Gains below this part of a pass are not told from noise.
const NOTICED: f64 = 0.02;

/// What a pass was seen to take.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    /// Seconds of the pass.
    pub time: f64,
    /// Seconds in which it waited for weights.
    pub stalled: f64,
    /// Seconds in which nothing was being read.
    pub idle: f64,
    /// Bytes that were read.
    pub bytes: f64,
}

/// How fast this machine reads and decodes, in bytes a second.
#[derive(Debug, Clone, Copy)]
pub struct Rates {
    /// Stored bytes that the source delivers while it is kept busy.
    pub read: f64,
    /// Bytes of weights that all decoding threads together decode.
    pub decode: f64,
}

/// The budget and what it is divided into.
pub struct Division {
    memory: u64,
    /// What is neither slots nor shelf, in bytes.
    buffers: u64,
    chunk_bytes: u64,
    /// Slots that the rest of the budget buys.
    slots: usize,
    residency: Residency,
    /// Whether it may change.
    open: bool,
    /// Seconds that passes would have saved with the other residency.
    credit: f64,
    /// How often it changed.
    changes: i32,
    /// The plan by which the shelf was tidied last.
    plan: u64,
}

impl Division {
    /// Of a budget of `memory` bytes that buys `slots` beside `buffers` bytes of buffers. Without buffers nothing is
    /// coded. `wanted` None leaves it to be seen.
    pub fn new(
        memory: u64,
        buffers: u64,
        chunk_bytes: u64,
        slots: usize,
        wanted: Option<Residency>,
    ) -> Self {
        let coded = buffers > 0;
        Self {
            memory,
            buffers,
            chunk_bytes,
            slots,
            residency: wanted.filter(|_| coded).unwrap_or(Residency::Decoded),
            open: coded && wanted.is_none(),
            credit: 0.0,
            changes: 0,
            plan: 0,
        }
    }

    /// How chunks stay at this moment.
    pub fn residency(&self) -> Residency {
        self.residency
    }

    /// The budget is another one.
    pub fn resize(&mut self, memory: u64, slots: usize) {
        (self.memory, self.slots) = (memory, slots);
        self.credit = 0.0;
    }

    /// A chunk has left the pool with its slot, for good.
    pub fn pinned(&mut self) {
        self.buffers += self.chunk_bytes;
        self.slots = self.slots.saturating_sub(1);
    }

    /// Slots and bytes of the shelf for this residency.
    fn shares(&self, engine: &Engine, residency: Residency) -> (usize, u64) {
        match residency {
            Residency::Decoded => (self.slots, 0),
            Residency::Coded => {
                // In a small budget not all that streaming would take.
                let most = (self.slots / 2).max(least_slots(budget::threads()));
                let slots = engine.streaming_slots().min(most).min(self.slots);
                let rest = self.memory.saturating_sub(self.buffers);
                (slots, rest.saturating_sub(slots as u64 * self.chunk_bytes))
            }
        }
    }

    /// Slots that chunks are used in.
    pub fn slots(&self, engine: &Engine) -> usize {
        self.shares(engine, self.residency).0
    }

    /// Bytes of the budget in use.
    pub fn used(&self, engine: &Engine, shelf: &Shelf) -> u64 {
        engine.slots_used() as u64 * self.chunk_bytes + self.buffers + shelf.used()
    }

    /// Whether the budget holds.
    pub fn holds(&self, engine: &Engine, shelf: &Shelf) -> bool {
        engine.slots_used() <= engine.limit() && self.used(engine, shelf) <= self.memory
    }

    /// A pass has ended, of which `seen` was seen. Changes the residency where the passes so far would have saved more
    /// with the other one than the change costs: what stays must be read anew. Nothing is lost by a wrong forecast but
    /// that, and each change makes the next one dearer.
    pub fn passed(&mut self, engine: &Engine, seen: Seen, rates: Rates) {
        if !self.open || engine.counters().passes <= PASSES {
            return;
        }
        let work = |residency| {
            let (slots, shelf) = self.shares(engine, residency);
            (engine.work(slots, shelf), shelf)
        };
        let (decoded, _) = work(Residency::Decoded);
        let (coded, shelf) = work(Residency::Coded);
        let gain = match self.residency {
            Residency::Decoded => gain_of_coded(seen, rates, decoded, coded, self.chunk_bytes),
            Residency::Coded => gain_of_decoded(seen, rates, decoded, coded, self.chunk_bytes),
        };
        if gain.abs() > NOTICED * seen.time {
            self.credit = (self.credit + gain).max(0.0);
        }
        let cost = shelf as f64 / rates.read * f64::from(self.changes - 1).max(0.0).exp2();
        if self.credit > cost {
            self.credit = 0.0;
            self.changes += 1;
            self.residency = match self.residency {
                Residency::Decoded => Residency::Coded,
                Residency::Coded => Residency::Decoded,
            };
        }
    }

    /// Has the engine and the shelf take what is theirs: what is to shrink does so before the other grows.
    pub fn apply(&mut self, engine: &mut Engine, shelf: &Shelf) {
        let (slots, room) = self.shares(engine, self.residency);
        if slots < engine.limit() {
            engine.resize(slots);
        }
        engine.shelve(room);
        let held = engine.slots_used().max(engine.limit()) as u64 * self.chunk_bytes;
        let rest = self.memory.saturating_sub(self.buffers + held);
        shelf.allow(rest.min(room));
        if self.plan != engine.plans() {
            self.plan = engine.plans();
            shelf.retain(|chunk| engine.is_shelved(chunk));
        }
        let grown = slots as u64 * self.chunk_bytes + self.buffers;
        if slots > engine.limit() && grown + shelf.used() <= self.memory {
            engine.resize(slots);
        }
    }
}

/// Seconds that the loads of `coded` take beyond those of `decoded`, if nothing else goes on.
fn extra(rates: Rates, decoded: Work, coded: Work, chunk_bytes: u64) -> f64 {
    let loads = coded.loads.saturating_sub(decoded.loads) as f64;
    loads * (chunk_bytes as f64 / rates.decode + PUBLISH)
}

/// Seconds of reading between the two, for a pass that read `bytes` where `here` was expected.
fn reading(rates: Rates, decoded: Work, coded: Work, here: Work, bytes: f64) -> f64 {
    let fewer = decoded.read.saturating_sub(coded.read) as f64;
    let scale = if here.read > 0 {
        bytes / here.read as f64
    } else {
        1.0
    };
    fewer * scale / rates.read
}

/// What a pass with decoded residency would have saved with coded: waiting, but for the decoding that the rest of
/// the waiting doesn't hide.
fn gain_of_coded(seen: Seen, rates: Rates, decoded: Work, coded: Work, chunk_bytes: u64) -> f64 {
    let saved = reading(rates, decoded, coded, decoded, seen.bytes).min(seen.stalled);
    saved - (extra(rates, decoded, coded, chunk_bytes) - (seen.stalled - saved)).max(0.0)
}

/// What a pass with coded residency would have saved with decoded: decoding, where no waiting hid it, but for the
/// reading that the source's idle time doesn't hide.
fn gain_of_decoded(seen: Seen, rates: Rates, decoded: Work, coded: Work, chunk_bytes: u64) -> f64 {
    let spared = (extra(rates, decoded, coded, chunk_bytes) - seen.stalled).max(0.0);
    spared - (reading(rates, decoded, coded, coded, seen.bytes) - seen.idle).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: u64 = 2 << 20;
    /// Of a model of 1640 chunks, coded at 0.7, in the memory of 476.
    const DECODED: Work = Work {
        read: 1_710_000_000,
        loads: 1164,
    };
    const CODED: Work = Work {
        read: 1_460_000_000,
        loads: 1632,
    };

    fn rates(read: f64) -> Rates {
        Rates { read, decode: 10e9 }
    }

    /// A pass that computes `compute` seconds at `read` bytes a second.
    fn pass(compute: f64, read: f64, work: Work) -> Seen {
        let bytes = work.read as f64;
        let time = compute.max(bytes / read);
        Seen {
            time,
            stalled: time - compute,
            idle: time - bytes / read,
            bytes,
        }
    }

    #[test]
    fn coded_gains_where_reading_is_the_limit_and_only_there() {
        for (read, gains) in [(0.6e9, 0.4), (2e9, 0.12)] {
            let seen = pass(0.3, read, DECODED);
            let gain = gain_of_coded(seen, rates(read), DECODED, CODED, CHUNK);
            assert!((gains..gains * 1.2).contains(&gain), "{gain} at {read}");
        }
        let fast = pass(0.3, 12e9, DECODED);
        assert!(gain_of_coded(fast, rates(12e9), DECODED, CODED, CHUNK) < 0.0);
        let computing = pass(2.0, 2e9, DECODED);
        assert!(gain_of_coded(computing, rates(2e9), DECODED, CODED, CHUNK) < 0.0);
    }

    #[test]
    fn decoded_gains_where_computing_is_the_limit_and_only_there() {
        let slow = pass(0.4, 0.6e9, CODED);
        assert!(gain_of_decoded(slow, rates(0.6e9), DECODED, CODED, CHUNK) <= 0.0);
        let computing = pass(2.0, 2e9, CODED);
        let gain = gain_of_decoded(computing, rates(2e9), DECODED, CODED, CHUNK);
        assert!((0.1..0.15).contains(&gain), "{gain}");
    }

    #[test]
    fn where_everything_fits_as_it_is_stored_all_reading_is_saved() {
        let coded = Work {
            read: 0,
            loads: 1632,
        };
        let seen = pass(0.3, 2e9, DECODED);
        let gain = gain_of_coded(seen, rates(2e9), DECODED, coded, CHUNK);
        assert!((gain - seen.stalled).abs() < 0.14, "{gain} of {seen:?}");
        let back = Seen {
            time: 0.5,
            stalled: 0.1,
            idle: 0.5,
            bytes: 0.0,
        };
        assert!(gain_of_decoded(back, rates(2e9), DECODED, coded, CHUNK) < 0.0);
    }
}
