//! Coded chunks that the device decodes: the bus carries what is stored, and host memory holds it.

use crate::loader::Damage;
use crate::loader::plan::{Contents, Plan};
use std::sync::Arc;
use weightstream_checkpoint::{BlockLayout, Form};
use weightstream_codec::gpu::{FUNCTION, PTX, Part, THREADS};
use weightstream_memory::cuda::{
    Argument, CopyQueue, CudaError, DevicePool, Driver, Event, Function, Launch, Module, Simulated,
    StreamHandle,
};
use weightstream_source::{Destination, Piece, ReadError};
use xxhash_rust::xxh3::xxh3_64;

/// Chunks that are decoded, or wait for it, at a time.
const STAGING: usize = 3;
/// Direct reads begin at multiples of this, also in memory.
const BLOCK: usize = 4096;

/// A range of a host slot, and the checksum that its bytes must have.
#[derive(Debug, Clone, Copy)]
struct Check {
    at: usize,
    length: usize,
    checksum: u64,
    file: u32,
    offset: u64,
}

/// A chunk as it is stored: what is read into a host slot, and what the device makes of that.
#[derive(Debug)]
pub struct Stored {
    plan: Plan,
    checks: Vec<Check>,
    /// The device's list of work, and where in the slot it goes.
    parts: Vec<u8>,
    table: usize,
}

impl Stored {
    /// None where a form is such that only the host can decode it.
    pub fn of(plan: Plan) -> Option<Self> {
        let mut stored = Self {
            table: plan.staging(),
            checks: Vec::new(),
            parts: Vec::new(),
            plan,
        };
        for step in &stored.plan.steps {
            let (bytes, coded, checksum) = match step.form {
                Form::Coded { coded, checksum } => (coded, true, checksum),
                Form::Checked { checksum } => (step.stored as u32, false, checksum),
                _ => return None,
            };
            stored.checks.push(Check {
                at: step.at,
                length: step.stored,
                checksum,
                file: step.file,
                offset: step.offset,
            });
            let (skip, length) = (step.skip as u32, step.length as u32);
            let parts = Part::of(
                step.at as u32,
                bytes,
                skip,
                length,
                step.chunk_offset as u32,
                coded,
            );
            stored.parts.extend(parts.flat_map(Part::to_bytes));
        }
        for read in &stored.plan.direct {
            let (at, length) = (stored.table as u32, read.length as u32);
            let parts = Part::of(at, length, 0, length, read.chunk_offset as u32, false);
            stored.parts.extend(parts.flat_map(Part::to_bytes));
            stored.table += read.length.next_multiple_of(BLOCK);
        }
        // Parts of one extent are checked once.
        stored
            .checks
            .dedup_by_key(|check| (check.file, check.offset));
        Some(stored)
    }

    /// The chunks of `layout`; None where the device can't decode all.
    ///
    /// # Errors
    /// A piece that no content holds all of.
    pub fn all(layout: &BlockLayout, contents: &Contents) -> Result<Option<Vec<Self>>, ReadError> {
        let stored = layout.fills().iter().map(|fill| {
            let plan = contents.plan(fill.pieces.iter().copied())?;
            Ok(Self::of(plan))
        });
        stored.collect()
    }

    /// Bytes of a slot that holds it.
    pub fn bytes(&self) -> usize {
        (self.table + self.parts.len()).next_multiple_of(BLOCK)
    }

    /// Bytes that are read.
    pub fn read_bytes(&self) -> u64 {
        self.plan.bytes()
    }

    /// What is read into the slot that begins at `slot`.
    ///
    /// # Safety
    /// The slot has [`bytes`](Self::bytes), and nothing else accesses them until the reads are done.
    pub unsafe fn pieces(&self, slot: *mut u8) -> Vec<Piece> {
        let staged = self.plan.staged.iter().map(|read| {
            let room = read.length.next_multiple_of(BLOCK);
            (read.file, read.offset, read.at, read.length, room)
        });
        let mut at = self.plan.staging();
        let direct = self.plan.direct.iter().map(|read| {
            let start = at;
            at += read.length.next_multiple_of(BLOCK);
            (read.file, read.offset, start, read.length, at - start)
        });
        staged
            .chain(direct)
            .map(|(file, offset, at, length, room)| Piece {
                file,
                offset,
                // SAFETY: inside the slot by the contract of this function; the plan keeps reads apart.
                destination: unsafe { Destination::new(slot.add(at)) },
                length,
                room,
            })
            .collect()
    }

    /// Compares the checksums of what was read, and puts the list of work behind it.
    ///
    /// # Errors
    /// The first range that is damaged.
    ///
    /// # Safety
    /// As of [`pieces`](Self::pieces), all of which have been read.
    pub unsafe fn finish(&self, slot: *mut u8) -> Result<(), Damage> {
        for check in &self.checks {
            // SAFETY: was read, inside the slot.
            let bytes = unsafe { std::slice::from_raw_parts(slot.add(check.at), check.length) };
            let found = xxh3_64(bytes);
            if found != check.checksum {
                return Err(Damage {
                    file: check.file,
                    offset: check.offset,
                    length: check.length,
                    reason: format!(
                        "expected checksum {:016x}, found {found:016x}",
                        check.checksum
                    ),
                });
            }
        }
        // SAFETY: inside the slot, which is ours alone.
        unsafe {
            slot.add(self.table)
                .copy_from_nonoverlapping(self.parts.as_ptr(), self.parts.len());
        }
        Ok(())
    }

    /// Bytes that are copied to the device.
    pub fn copied_bytes(&self) -> u64 {
        (self.table + self.parts.len()) as u64
    }

    fn parts(&self) -> u32 {
        (self.parts.len() / Part::BYTES) as u32
    }
}

/// A range of device memory that takes a coded chunk until it is decoded.
struct Staging {
    address: u64,
    copied: Event,
    decoded: Event,
}

/// Decodes on the device, in a stream of its own, while further chunks are being copied.
pub struct Decoder {
    driver: Arc<dyn Driver>,
    stream: StreamHandle,
    module: Module,
    function: Function,
    staging: Vec<Staging>,
    /// The memory of `staging`.
    pool: DevicePool,
    next: usize,
}

impl Decoder {
    /// Whether the driver takes the code.
    pub fn works(driver: &dyn Driver) -> bool {
        let tried = driver.load(PTX).and_then(|module| {
            let found = driver.function(module, FUNCTION);
            driver.unload(module).and(found)
        });
        if let Err(error) = &tried {
            log::warn!("coded weights are decoded by the processor: {error}");
        }
        tried.is_ok()
    }

    /// Device memory that decoding takes for slots of `slot_bytes`.
    pub fn memory(driver: &dyn Driver, slot_bytes: usize) -> usize {
        STAGING * slot_bytes.next_multiple_of(driver.granularity())
    }

    /// Loads the code, and allocates memory for chunks of up to `slot_bytes`.
    ///
    /// # Errors
    /// The driver refuses the code, or lacks the memory.
    pub fn new(driver: Arc<dyn Driver>, slot_bytes: usize) -> Result<Self, CudaError> {
        let each = slot_bytes.next_multiple_of(driver.granularity());
        let mut pool = DevicePool::new(Arc::clone(&driver), STAGING as u32, each, STAGING)?;
        let module = driver.load(PTX)?;
        let mut decoder = Self {
            function: driver.function(module, FUNCTION)?,
            stream: driver.create_stream()?,
            module,
            staging: Vec::new(),
            next: 0,
            driver: Arc::clone(&driver),
            pool: {
                for slot in 0..STAGING as u32 {
                    pool.publish(slot, slot)?;
                }
                pool
            },
        };
        for slot in 0..STAGING as u32 {
            decoder.staging.push(Staging {
                address: decoder.pool.address(slot),
                copied: driver.create_event()?,
                decoded: driver.create_event()?,
            });
        }
        Ok(decoder)
    }

    /// The stream in which chunks are done.
    pub fn stream(&self) -> StreamHandle {
        self.stream
    }

    /// Copies a chunk from its host slot and decodes it to its address.
    ///
    /// # Errors
    /// The driver's.
    ///
    /// # Safety
    /// The slot was [finished](Stored::finish), and is neither written to nor freed until the decoder's stream has come
    /// to what follows; until then `chunk` is mapped, and nobody else uses it.
    pub unsafe fn decode(
        &mut self,
        copies: &CopyQueue,
        stored: &Stored,
        slot: *const u8,
        chunk: u64,
        chunk_bytes: usize,
    ) -> Result<(), CudaError> {
        let place = self.next % self.staging.len().max(1);
        self.next += 1;
        let Some(staging) = self.staging.get(place) else {
            let what = "a chunk is decoded after the decoder was closed".into();
            return Err(CudaError::Rule { what });
        };
        let length = stored.table + stored.parts.len();
        self.driver.wait(copies.stream(), staging.decoded)?;
        // SAFETY: by the contract of this function; the staging memory was decoded, or will be before the copy.
        unsafe { copies.copy(staging.address, slot, length)? };
        self.driver.record(staging.copied, copies.stream())?;
        self.driver.wait(self.stream, staging.copied)?;
        let launch = Launch {
            function: self.function,
            grid: stored.parts(),
            threads: THREADS,
            arguments: vec![
                Argument::U64(staging.address),
                Argument::U32(stored.table as u32),
                Argument::U64(chunk),
                Argument::U32(stored.parts()),
            ],
            touches: vec![(staging.address, length), (chunk, chunk_bytes)],
        };
        if launch.grid > 0 {
            // SAFETY: the arguments are those of `FUNCTION`; the stream waits for the copy, and the chunk is mapped.
            unsafe { self.driver.launch(&launch, self.stream)? };
        }
        self.driver.record(staging.decoded, self.stream)
    }

    /// Bytes of device memory that it holds.
    pub fn held(&self) -> usize {
        self.pool.held()
    }

    /// Gives the staging memory back, when nothing is being decoded.
    pub fn clear(&mut self) {
        for staging in self.staging.drain(..) {
            for event in [staging.copied, staging.decoded] {
                if let Err(error) = self.driver.destroy_event(event) {
                    log::debug!("an event is not given back: {error}");
                }
            }
        }
        self.pool.clear();
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        self.clear();
        let ended = self.driver.destroy_stream(self.stream);
        if let Err(error) = ended.and_then(|()| self.driver.unload(self.module)) {
            log::debug!("the decoder's code is not given back: {error}");
        }
    }
}

/// Gives a simulated device the kernel that a real one loads.
pub fn define_decoder(device: &Simulated) {
    device.define(FUNCTION, |arguments| {
        let &[
            Argument::U64(staged),
            Argument::U32(table),
            Argument::U64(chunk),
            Argument::U32(count),
        ] = arguments
        else {
            return Err("the decoder was given other arguments".into());
        };
        for number in 0..count as usize {
            let place = staged as usize + table as usize + number * Part::BYTES;
            // SAFETY: the simulated device has seen that all that the launch uses is mapped: the list too.
            let part = Part::from_bytes(unsafe { &*(place as *const [u8; Part::BYTES]) });
            let start = (staged as usize + part.from as usize) as *const u8;
            // SAFETY: as above.
            let stored = unsafe { std::slice::from_raw_parts(start, part.stored as usize) };
            let mut frame = stored.to_vec();
            if part.coded {
                let length = weightstream_codec::raw_length(stored).map_err(|e| e.to_string())?;
                frame = vec![0; length];
                weightstream_codec::decode(stored, &mut frame).map_err(|e| e.to_string())?;
            }
            let range = part.decoded();
            let wanted = frame
                .get(range.start as usize..range.end as usize)
                .ok_or("a part lies outside its frame")?;
            let to = chunk as usize + (part.to + range.start - part.skip) as usize;
            // SAFETY: as above; the layout keeps parts inside the chunk.
            unsafe { (to as *mut u8).copy_from_nonoverlapping(wanted.as_ptr(), wanted.len()) };
        }
        Ok(())
    });
}
