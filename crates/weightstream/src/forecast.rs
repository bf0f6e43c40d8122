//! What a model will read and how long a pass will take, before anything is read: the engine itself, in simulated time.

mod coarse;

use crate::cut::Cut;
use crate::error::StreamError;
use crate::loader::{Contents, Shelf};
use crate::residency::{Division, PUBLISH, Residency};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::ops::Range;
use weightstream_checkpoint::{Content, Parameter};
use weightstream_engine::{Action, Engine, Marker, Residence};

/// What a pass does, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Use {
    /// A block begins.
    Enter(u32),
    /// A block has ended.
    Leave(u32),
    /// These bytes of a parameter are used.
    Weights {
        /// Its index among the parameters.
        parameter: usize,
        /// Bytes from its start.
        bytes: Range<u64>,
    },
}

/// How fast a machine is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// Bytes a second that the source delivers when it is kept busy.
    pub read: f64,
    /// Bytes of weights a second that one thread decodes.
    pub decode: f64,
    /// Seconds that a pass computes when everything is loaded.
    pub compute: f64,
}

/// What is to be expected.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Forecast {
    /// Distinct weights of the model, in bytes.
    pub model_bytes: u64,
    /// Bytes of one chunk.
    pub chunk_bytes: u64,
    /// The least budget that works, in such chunks.
    pub least: u64,
    /// Bytes of the budget that buffers for decoding take.
    pub buffers: u64,
    /// Bytes of weights that stay in memory from pass to pass.
    pub kept_bytes: u64,
    /// Bytes of the budget in which they stay as they are stored; 0 where they stay decoded.
    pub coded_bytes: u64,
    /// Bytes read in the first pass.
    pub first_bytes: u64,
    /// Bytes read in each later pass.
    pub pass_bytes: f64,
    /// Bytes that each later pass must read, however clever the order.
    pub least_bytes: f64,
    /// Seconds of the first pass.
    pub first_seconds: f64,
    /// Seconds of each later pass.
    pub pass_seconds: f64,
    /// The least that a later pass can take: computing, or reading what must be read.
    pub floor: f64,
}

/// Seconds from a read's submission to its first byte, beyond what the rate says.
const LATENCY: f64 = 100e-6;
/// Seconds from a chunk's arrival to the thread that waits for it going on.
const WAKE: f64 = 60e-6;
/// Passes until the engine has settled, and passes that are then measured.
const SETTLE: usize = 4;
const MEASURED: usize = 4;
/// Chunks stay coded where passes then take less than this part of the time.
const NOTICED: f64 = 0.98;

/// What passes over `parameters` of `contents` will do in a budget of `memory` bytes on a machine of this `pace`.
/// `uses` gives what pass number n does.
///
/// # Errors
/// As [`Stream::over`](crate::Stream::over).
pub fn forecast(
    contents: &[Content],
    parameters: Vec<Parameter>,
    memory: u64,
    pace: Pace,
    mut uses: impl FnMut(usize) -> Vec<Use>,
) -> Result<Forecast, StreamError> {
    let cut = Cut::new(contents, parameters, memory, None)?;
    let factor = coarse::factor(&cut.layout, &uses(0), coarse::TOUCHES);
    simulate(contents, cut, factor, memory, pace, uses)
}

/// The forecast for `cut`, of which `factor` chunks are simulated as one.
fn simulate(
    contents: &[Content],
    cut: Cut,
    factor: u64,
    memory: u64,
    pace: Pace,
    mut uses: impl FnMut(usize) -> Vec<Use>,
) -> Result<Forecast, StreamError> {
    let chunk_bytes = cut.layout.chunk_bytes() as u64;
    let model_bytes = cut.layout.weight_bytes();
    let fits = cut.slots >= cut.chunks.used.len();
    let cut = match factor {
        1 => cut,
        _ => cut.coarser(contents, factor)?,
    };
    let plans = Contents::new(contents.to_vec());
    let costs = (0..cut.chunks.count).map(|chunk| {
        let plan = plans.plan(cut.layout.pieces(chunk))?;
        Ok(Cost {
            stored: plan.bytes(),
            decoded: plan.steps.iter().map(|step| step.length as u64).sum(),
        })
    });
    let costs = costs.collect::<Result<Vec<Cost>, StreamError>>()?;
    let mut simulate = |residency| {
        let mut forecast = Forecast {
            model_bytes,
            chunk_bytes,
            least: cut.least,
            buffers: cut.needs.memory(),
            ..Forecast::default()
        };
        let scale = Scale { factor, fits };
        let mut machine = Machine::new(&cut, &costs, pace, memory, residency, scale);
        machine.measure(&mut forecast, &mut uses);
        forecast
    };
    let decoded = simulate(Residency::Decoded);
    if cut.needs.buffers == 0 || decoded.pass_bytes == 0.0 {
        return Ok(decoded);
    }
    // A stream begins decoded, and changes where it is worth it.
    let coded = Forecast {
        first_bytes: decoded.first_bytes,
        first_seconds: decoded.first_seconds,
        ..simulate(Residency::Coded)
    };
    let gains = coded.pass_seconds < decoded.pass_seconds * NOTICED;
    Ok(if gains { coded } else { decoded })
}

/// Moments in order, though they are floating-point numbers.
#[derive(Clone, Copy, PartialEq)]
struct Moment(f64);

impl Eq for Moment {}

impl PartialOrd for Moment {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Moment {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// What it takes to load a chunk.
#[derive(Debug, Clone, Copy)]
struct Cost {
    /// Bytes that are read.
    stored: u64,
    /// Bytes of weights that are decoded.
    decoded: u64,
}

/// How what is simulated compares to what is forecast.
#[derive(Debug, Clone, Copy)]
struct Scale {
    /// Chunks that are simulated as one; see [`coarse`].
    factor: u64,
    /// The whole model fits.
    fits: bool,
}

/// One thread that computes, one disk, some that decode.
struct Machine<'c> {
    engine: Engine,
    scale: Scale,
    pace: Pace,
    now: f64,
    disk_free: f64,
    /// When each decoder is free.
    decoders: Vec<f64>,
    arriving: BinaryHeap<Reverse<(Moment, u32)>>,
    visible: Vec<bool>,
    bytes: u64,
    costs: &'c [Cost],
    cut: &'c Cut,
    /// The budget without buffers.
    memory: u64,
    residency: Residency,
    /// Chunks that stay as they are stored.
    shelf: HashSet<u32>,
}

impl<'c> Machine<'c> {
    fn new(
        cut: &'c Cut,
        costs: &'c [Cost],
        pace: Pace,
        memory: u64,
        residency: Residency,
        scale: Scale,
    ) -> Self {
        let mut engine = cut.engine();
        let (buffers, chunk_bytes) = (cut.needs.memory(), cut.layout.chunk_bytes() as u64);
        let divide =
            |memory, slots| Division::new(memory, buffers, chunk_bytes, slots, Some(residency));
        let slots = coarse::slots(&engine, cut.slots, residency, scale.factor);
        let slots = match scale.fits {
            true => cut.chunks.used.len(),
            false => slots,
        };
        // Streaming takes its slots of the budget: they are larger here.
        let streaming = divide(memory, slots).slots(&engine) as u64;
        let larger = streaming * (chunk_bytes - chunk_bytes / scale.factor);
        divide(memory + larger, slots).apply(&mut engine, &Shelf::default());
        Self {
            engine,
            scale,
            pace,
            now: 0.0,
            disk_free: 0.0,
            decoders: vec![0.0; cut.needs.decoders.max(1)],
            arriving: BinaryHeap::new(),
            visible: vec![false; cut.chunks.count as usize],
            bytes: 0,
            costs,
            cut,
            memory: memory.saturating_sub(buffers),
            residency,
            shelf: HashSet::new(),
        }
    }

    /// Some passes to settle, and some that are told of.
    fn measure(&mut self, forecast: &mut Forecast, uses: &mut impl FnMut(usize) -> Vec<Use>) {
        for pass in 0..SETTLE + MEASURED {
            let (bytes, begin) = (self.bytes, self.now);
            let program = uses(pass);
            let touched = self.run(&program);
            let (bytes, seconds) = (self.bytes - bytes, self.now - begin);
            if pass == 0 {
                (forecast.first_bytes, forecast.first_seconds) = (bytes, seconds);
            }
            if pass >= SETTLE {
                forecast.pass_bytes += bytes as f64 / MEASURED as f64;
                forecast.pass_seconds += seconds / MEASURED as f64;
                forecast.least_bytes += self.least_bytes(&touched) / MEASURED as f64;
            }
        }
        let kept = (self.engine.kept() + self.shelf.len()) as u64;
        let chunk_bytes = forecast.chunk_bytes * self.scale.factor;
        forecast.kept_bytes = (kept * chunk_bytes).min(forecast.model_bytes);
        forecast.coded_bytes = self.stored(&self.shelf);
        forecast.least_bytes = forecast.least_bytes.min(forecast.pass_bytes);
        forecast.floor = (self.pace.compute).max(forecast.least_bytes / self.pace.read);
    }

    /// Bytes that a pass which touches these chunks must read, however clever the order.
    fn least_bytes(&self, touched: &HashSet<u32>) -> f64 {
        let needed = self.stored(touched);
        match self.residency {
            // Every slot holds a chunk that need not be read, wherever it is.
            Residency::Decoded => {
                let touched = (touched.len() as u64 * self.scale.factor) as f64;
                let absent = (touched - self.cut.slots as f64).max(0.0);
                needed as f64 * absent / touched.max(1.0)
            }
            Residency::Coded => needed.saturating_sub(self.memory) as f64,
        }
    }

    /// What these chunks are as they are stored, in bytes.
    fn stored(&self, chunks: &HashSet<u32>) -> u64 {
        let stored = |chunk: &u32| {
            self.costs
                .get(*chunk as usize)
                .map_or(0, |cost| cost.stored)
        };
        chunks.iter().map(stored).sum()
    }

    /// One pass; gives the chunks that it touched.
    fn run(&mut self, program: &[Use]) -> HashSet<u32> {
        let length = |bytes: &Range<u64>| bytes.end - bytes.start;
        let total: u64 = program
            .iter()
            .map(|step| match step {
                Use::Weights { bytes, .. } => length(bytes),
                _ => 0,
            })
            .sum();
        let compute = self.pace.compute / total.max(1) as f64;
        let chunk_bytes = self.cut.layout.chunk_bytes() as u64;
        let mut touched = HashSet::new();
        for step in program {
            match step {
                Use::Enter(block) => self.engine.passed(0, Marker::enter(*block)),
                Use::Leave(block) => self.engine.passed(0, Marker::leave(*block)),
                Use::Weights { parameter, bytes } => {
                    let address = self.cut.layout.address(*parameter);
                    let (start, end) = (address + bytes.start, address + bytes.end);
                    for chunk in start / chunk_bytes..end.div_ceil(chunk_bytes) {
                        let from = start.max(chunk * chunk_bytes);
                        let until = end.min((chunk + 1) * chunk_bytes);
                        touched.insert(chunk as u32);
                        self.touch(chunk as u32, from);
                        self.now += compute * (until - from) as f64;
                        self.arrive();
                    }
                }
            }
            self.pump();
        }
        touched
    }

    /// Seconds for all chunks that are simulated as one, where one takes so many.
    fn each(&self, seconds: f64) -> f64 {
        seconds * self.scale.factor as f64
    }

    fn touch(&mut self, chunk: u32, address: u64) {
        if self.visible.get(chunk as usize).copied().unwrap_or(false) {
            return;
        }
        self.arrive();
        while !matches!(
            self.engine.residence(chunk),
            Residence::Ready { .. } | Residence::Touched { .. }
        ) {
            if matches!(self.engine.residence(chunk), Residence::Absent) {
                let unit = self.cut.layout.unit_at(address);
                self.engine.missing(0, chunk, unit);
                self.pump();
            }
            let Some(&Reverse((Moment(at), _))) = self.arriving.peek() else {
                return;
            };
            self.now = self.now.max(at) + self.each(WAKE);
            self.arrive();
        }
        if let Some(visible) = self.visible.get_mut(chunk as usize) {
            *visible = true;
        }
        self.now += self.each(PUBLISH);
        self.engine.touched(0, chunk);
        self.pump();
    }

    /// Reads that have ended by now.
    fn arrive(&mut self) {
        while let Some(&Reverse((Moment(at), chunk))) = self.arriving.peek() {
            if at > self.now {
                break;
            }
            self.arriving.pop();
            self.engine.loaded(chunk);
            self.pump();
        }
    }

    fn pump(&mut self) {
        let mut actions = Vec::new();
        self.engine.pump(&mut actions);
        for action in actions {
            match action {
                Action::Read { chunk, .. } => {
                    let Some(&Cost { stored, decoded }) = self.costs.get(chunk as usize) else {
                        continue;
                    };
                    let shelved = self.engine.is_shelved(chunk);
                    let done = if shelved && self.shelf.contains(&chunk) {
                        self.decode(self.now, decoded)
                    } else {
                        self.bytes += stored;
                        let begin = self.disk_free.max(self.now);
                        self.disk_free = begin + stored as f64 / self.pace.read;
                        self.decode(self.disk_free + self.each(LATENCY), decoded)
                    };
                    if shelved {
                        self.shelf.insert(chunk);
                    } else {
                        self.shelf.remove(&chunk);
                    }
                    self.arriving.push(Reverse((Moment(done), chunk)));
                }
                Action::Withdraw { chunk, .. } => {
                    if let Some(visible) = self.visible.get_mut(chunk as usize) {
                        *visible = false;
                    }
                }
                Action::Release { .. } => {}
            }
        }
    }

    /// When `bytes` that were read at `read` are decoded.
    fn decode(&mut self, read: f64, bytes: u64) -> f64 {
        if bytes == 0 {
            return read;
        }
        let Some(free) = self
            .decoders
            .iter_mut()
            .min_by(|one, other| one.total_cmp(other))
        else {
            return read;
        };
        *free = free.max(read) + bytes as f64 / self.pace.decode;
        *free
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weightstream_checkpoint::{Layout, Part};

    /// A plain model of 100 parameters of 4 MiB, one in each block.
    fn plain(memory: u64, pace: Pace) -> Forecast {
        let length = 4 << 20;
        let contents = [Content::plain("weights".into(), 100 * length)];
        let parameters = (0..100).map(|number| Parameter {
            name: number.to_string(),
            parts: vec![Part {
                file: 0,
                offset: number * length,
                length,
            }],
            itemsize: 2,
            unit: 0,
        });
        let program: Vec<Use> = (0..100)
            .flat_map(|block| {
                let weights = Use::Weights {
                    parameter: block as usize,
                    bytes: 0..length,
                };
                [Use::Enter(block), weights, Use::Leave(block)]
            })
            .collect();
        forecast(&contents, parameters.collect(), memory, pace, |_| {
            program.clone()
        })
        .unwrap()
    }

    const PACE: Pace = Pace {
        read: 1e9,
        decode: 1e10,
        compute: 0.0,
    };

    #[test]
    fn what_fits_is_read_once_and_what_does_not_every_time() {
        let all = 400 << 20;
        let fits = plain(500 << 20, PACE);
        assert_eq!((fits.first_bytes, fits.pass_bytes), (all, 0.0));
        assert_eq!(fits.floor, 0.0);

        let half = plain(200 << 20, PACE);
        assert_eq!(half.model_bytes, all);
        assert!(half.pass_bytes >= half.least_bytes && half.least_bytes == f64::from(200 << 20));
        assert!(half.pass_bytes < half.least_bytes * 1.2, "{half:?}");
        assert!(
            half.pass_seconds >= half.floor && half.pass_seconds < half.floor * 1.35,
            "{half:?}"
        );
        assert!(half.kept_bytes > 150 << 20 && half.kept_bytes < 200 << 20);
    }

    /// A plain model of `count` parameters of `length` bytes, two in each block, and what a pass does.
    fn of_size(count: u64, length: u64) -> ([Content; 1], Vec<Parameter>, Vec<Use>) {
        let contents = [Content::plain("weights".into(), count * length)];
        let parameters = (0..count).map(|number| Parameter {
            name: number.to_string(),
            parts: vec![Part {
                file: 0,
                offset: number * length,
                length,
            }],
            itemsize: 2,
            unit: 0,
        });
        let weights = |parameter: u64| Use::Weights {
            parameter: parameter as usize,
            bytes: 0..length,
        };
        let blocks = (0..count / 2).flat_map(|block| {
            let number = block as u32 + 1;
            let (one, other) = (weights(2 * block), weights(2 * block + 1));
            [Use::Enter(number), one, other, Use::Leave(number)]
        });
        let program = [Use::Enter(0)].into_iter().chain(blocks);
        let program = program.chain([Use::Leave(0)]).collect();
        (contents, parameters.collect(), program)
    }

    #[test]
    fn chunks_simulated_as_one_give_the_same_forecast() {
        let (contents, parameters, program) = of_size(64, 64 << 20);
        let near = |one: f64, other: f64, within: f64| (one - other).abs() <= within * one.max(1.0);
        for (memory, compute) in [(256, 0.0), (3 << 10, 2.0), (5 << 10, 0.0)] {
            let memory = memory << 20;
            let pace = Pace { compute, ..PACE };
            let with = |factor| {
                let cut = Cut::new(&contents, parameters.clone(), memory, None).unwrap();
                simulate(&contents, cut, factor, memory, pace, |_| program.clone()).unwrap()
            };
            let one = with(1);
            for factor in [2, 4] {
                let other = with(factor);
                let told = format!("{factor} as one in {memory}:\n{one:?}\n{other:?}");
                assert!(near(one.pass_bytes, other.pass_bytes, 0.005), "{told}");
                assert!(near(one.pass_seconds, other.pass_seconds, 0.01), "{told}");
                assert!(near(one.first_seconds, other.first_seconds, 0.1), "{told}");
                assert!(near(one.floor, other.floor, 0.005), "{told}");
                let kept = |forecast: &Forecast| forecast.kept_bytes as f64;
                assert!(near(kept(&one), kept(&other), 0.05), "{told}");
                let first = |forecast: &Forecast| forecast.first_bytes as f64;
                assert!(near(first(&one), first(&other), 0.01), "{told}");
            }
        }
    }

    #[test]
    fn the_largest_models_are_no_more_work() {
        // 8 GiB, 64 GiB and 4 TiB in chunks of 2 MiB.
        for (count, expected) in [
            (1 << 10, 1 << 12),
            (1 << 13, 1 << 15),
            (1 << 19, coarse::TOUCHES),
        ] {
            let (contents, parameters, program) = of_size(count, 8 << 20);
            let layout = Layout::new(&[contents[0].length()], parameters, 2 << 20).unwrap();
            let factor = coarse::factor(&layout, &program, coarse::TOUCHES);
            assert_eq!(u64::from(layout.chunks()) / factor, expected);
        }
    }

    #[test]
    fn chunks_with_experts_are_simulated_one_by_one() {
        let (contents, parameters, program) = of_size(1 << 10, 8 << 20);
        let layout = Layout::new(&[contents[0].length()], parameters, 2 << 20).unwrap();
        let all = coarse::factor(&layout, &program, 64);
        // A pass that uses every eighth parameter, as a mixture does.
        let weights = program.into_iter().filter(|step| match step {
            Use::Weights { parameter, .. } => parameter % 8 == 0,
            _ => true,
        });
        let some = coarse::factor(&layout, &weights.collect::<Vec<_>>(), 64);
        assert_eq!(
            (all, some),
            (64, 4),
            "no chunk is larger than what is used of it"
        );
    }

    #[test]
    fn reading_hides_behind_computing() {
        let slow = plain(
            200 << 20,
            Pace {
                compute: 2.0,
                ..PACE
            },
        );
        assert_eq!(slow.floor, 2.0);
        assert!(slow.pass_seconds < 2.1, "{slow:?}");
    }

    #[test]
    fn too_small_a_budget_is_told() {
        let contents = [Content::plain("weights".into(), 4096)];
        let refused = forecast(&contents, Vec::new(), 1000, PACE, |_| Vec::new());
        assert!(matches!(refused, Err(StreamError::Budget { .. })));
    }
}
