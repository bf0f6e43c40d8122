//! A device made of host memory, for tests on machines without one.
//!
//! Streams are queues whose work is done piece by piece, in an order that a seed decides, whenever somebody asks how
//! far an event is. Each rule that a real device punishes with a dead context is checked: work on addresses where
//! nothing is mapped, mappings taken away under unfinished work, memory given back while mapped, and leaks.

use crate::cuda::driver::{
    Argument, Driver, Event, Function, Launch, Module, Physical, Pinned, StreamHandle,
};
use crate::cuda::error::CudaError;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ptr::null_mut;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a simulated kernel does with the bytes that it reads: an error is a broken rule.
pub type Kernel = Box<dyn FnOnce(&[&[u8]]) -> Result<(), String> + Send>;
/// A kernel under a name, as loaded from a module.
type Named = Box<dyn Fn(&[Argument]) -> Result<(), String> + Send>;

/// kDLCPU of dlpack.h: tensors over simulated device memory are CPU tensors.
const DLPACK_CPU: i32 = 1;

enum Work {
    Copy {
        to: u64,
        from: usize,
        bytes: usize,
    },
    Record(Event, u64),
    Wait(Event, u64),
    Kernel {
        ranges: Vec<(u64, usize)>,
        run: Kernel,
    },
    Launch(Launch),
}

impl Work {
    fn touches(&self, address: u64, bytes: usize) -> bool {
        let overlaps = |&(start, length): &(u64, usize)| {
            start < address + bytes as u64 && address < start + length as u64
        };
        match self {
            Work::Copy { to, bytes, .. } => overlaps(&(*to, *bytes)),
            Work::Kernel { ranges, .. } => ranges.iter().any(overlaps),
            Work::Launch(launch) => launch.touches.iter().any(overlaps),
            Work::Record(..) | Work::Wait(..) => false,
        }
    }
}

#[derive(Default)]
struct Recorded {
    asked: u64,
    done: u64,
}

struct Backing {
    offset: i64,
    bytes: usize,
    mapped: bool,
}

struct State {
    random: u64,
    next: u64,
    file: libc::c_int,
    file_bytes: i64,
    used: usize,
    reservations: BTreeMap<u64, usize>,
    physical: HashMap<u64, Backing>,
    spare: Vec<(usize, i64)>,
    maps: BTreeMap<u64, (usize, Physical)>,
    pinned: HashMap<usize, usize>,
    ours: Vec<StreamHandle>,
    queues: BTreeMap<StreamHandle, VecDeque<Work>>,
    events: HashMap<Event, Recorded>,
    modules: Vec<Module>,
    kernels: HashMap<String, (Function, Named)>,
    broken: Vec<String>,
}

/// What was allocated and not given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct Live {
    pub reservations: usize,
    pub physical: usize,
    pub maps: usize,
    pub pinned: usize,
    pub streams: usize,
    pub events: usize,
    pub modules: usize,
}

/// See the module.
pub struct Simulated {
    granularity: usize,
    memory: usize,
    /// Whether the caller's own work is done at once, by the processor, as CPU tensors' is.
    immediate: bool,
    state: Mutex<State>,
}

impl Simulated {
    /// A device with `memory` bytes in granules of `granularity`. With `immediate`, streams that are not ours stand
    /// for work that the calling thread does itself: waiting for an event then waits.
    ///
    /// # Errors
    /// The system has no memory files.
    pub fn new(
        granularity: usize,
        memory: usize,
        seed: u64,
        immediate: bool,
    ) -> Result<Arc<Self>, CudaError> {
        // SAFETY: the name is a C string.
        let file = unsafe { libc::memfd_create(c"simulated device".as_ptr(), libc::MFD_CLOEXEC) };
        if file < 0 {
            return Err(system("memfd_create"));
        }
        Ok(Arc::new(Self {
            granularity,
            memory,
            immediate,
            state: Mutex::new(State {
                random: seed.wrapping_mul(2).wrapping_add(1),
                next: 1,
                file,
                file_bytes: 0,
                used: 0,
                reservations: BTreeMap::new(),
                physical: HashMap::new(),
                spare: Vec::new(),
                maps: BTreeMap::new(),
                pinned: HashMap::new(),
                ours: Vec::new(),
                queues: BTreeMap::new(),
                events: HashMap::new(),
                modules: Vec::new(),
                kernels: HashMap::new(),
                broken: Vec::new(),
            }),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The kernel that `function` finds under this name.
    pub fn define(
        &self,
        name: &str,
        run: impl Fn(&[Argument]) -> Result<(), String> + Send + 'static,
    ) {
        let mut state = self.lock();
        let function = Function(state.number());
        state.kernels.insert(name.into(), (function, Box::new(run)));
    }

    /// Puts a kernel that reads these (address, length) ranges into a stream.
    pub fn kernel(
        &self,
        stream: StreamHandle,
        ranges: Vec<(u64, usize)>,
        run: impl FnOnce(&[&[u8]]) -> Result<(), String> + Send + 'static,
    ) {
        let run = Box::new(run);
        self.lock()
            .queues
            .entry(stream)
            .or_default()
            .push_back(Work::Kernel { ranges, run });
    }

    /// Does all work that is left, in all streams.
    ///
    /// # Errors
    /// Streams that wait for each other.
    pub fn finish(&self) -> Result<(), CudaError> {
        let mut state = self.lock();
        while state.queues.values().any(|queue| !queue.is_empty()) {
            if !state.step() {
                return Err(state.rule("streams wait for each other for ever"));
            }
        }
        Ok(())
    }

    /// Rules that were broken so far.
    pub fn broken(&self) -> Vec<String> {
        self.lock().broken.clone()
    }

    /// What is allocated now.
    pub fn live(&self) -> Live {
        let state = self.lock();
        Live {
            reservations: state.reservations.len(),
            physical: state.physical.len(),
            maps: state.maps.len(),
            pinned: state.pinned.len(),
            streams: state.ours.len(),
            events: state.events.len(),
            modules: state.modules.len(),
        }
    }
}

impl State {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// xorshift64: the order of work differs from seed to seed and is the same for one.
    fn random(&mut self, below: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as usize % below.max(1)
    }

    fn rule(&mut self, what: impl Into<String>) -> CudaError {
        let what = what.into();
        self.broken.push(what.clone());
        CudaError::Rule { what }
    }

    fn is_mapped(&self, address: u64, bytes: usize) -> bool {
        let (mut at, end) = (address, address + bytes as u64);
        while at < end {
            match self.maps.range(..=at).next_back() {
                Some((&start, &(length, _))) if start + length as u64 > at => {
                    at = start + length as u64;
                }
                _ => return false,
            }
        }
        true
    }

    fn is_pinned(&self, address: usize, bytes: usize) -> bool {
        self.pinned
            .iter()
            .any(|(&start, &length)| start <= address && address + bytes <= start + length)
    }

    fn happened(&self, event: Event, count: u64) -> bool {
        self.events
            .get(&event)
            .is_none_or(|recorded| recorded.done >= count)
    }

    /// Does one piece of work of a stream that has some; false where all wait.
    fn step(&mut self) -> bool {
        let runnable: Vec<StreamHandle> = self
            .queues
            .iter()
            .filter(|(_, queue)| match queue.front() {
                Some(&Work::Wait(event, count)) => self.happened(event, count),
                Some(_) => true,
                None => false,
            })
            .map(|(&stream, _)| stream)
            .collect();
        if runnable.is_empty() {
            return false;
        }
        let chosen = self.random(runnable.len());
        let work = runnable
            .get(chosen)
            .and_then(|stream| self.queues.get_mut(stream))
            .and_then(VecDeque::pop_front);
        if let Some(work) = work {
            self.run(work);
        }
        true
    }

    fn run(&mut self, work: Work) {
        match work {
            Work::Copy { to, from, bytes } => {
                if !self.is_mapped(to, bytes) {
                    self.rule(format!("a copy to {to:#x}, where nothing is mapped"));
                } else if !self.is_pinned(from, bytes) {
                    self.rule(format!("a copy from {from:#x}, which is not pinned"));
                } else {
                    // SAFETY: pinned memory of that length, and a shared mapping of our own.
                    unsafe {
                        std::ptr::copy_nonoverlapping(
                            from as *const u8,
                            to as usize as *mut u8,
                            bytes,
                        );
                    }
                }
            }
            Work::Record(event, count) => {
                if let Some(recorded) = self.events.get_mut(&event) {
                    recorded.done = recorded.done.max(count);
                }
            }
            Work::Wait(..) => {}
            Work::Kernel { ranges, run } => {
                if let Some(&(address, _)) = ranges
                    .iter()
                    .find(|&&(address, bytes)| !self.is_mapped(address, bytes))
                {
                    self.rule(format!(
                        "a kernel reads {address:#x}, where nothing is mapped"
                    ));
                    return;
                }
                let views: Vec<&[u8]> = ranges
                    .iter()
                    // SAFETY: mapped; the lock keeps everybody else from changing that.
                    .map(|&(address, bytes)| unsafe {
                        std::slice::from_raw_parts(address as usize as *const u8, bytes)
                    })
                    .collect();
                if let Err(what) = run(&views) {
                    self.rule(what);
                }
            }
            Work::Launch(launch) => {
                if launch
                    .touches
                    .iter()
                    .any(|&(address, bytes)| !self.is_mapped(address, bytes))
                {
                    self.rule("a launched kernel uses addresses where nothing is mapped");
                    return;
                }
                let found = self
                    .kernels
                    .values()
                    .find(|(function, _)| *function == launch.function);
                let result = found.map(|(_, run)| run(&launch.arguments));
                match result {
                    Some(Ok(())) => {}
                    Some(Err(what)) => drop(self.rule(what)),
                    None => drop(self.rule("a launch of an unknown function")),
                }
            }
        }
    }
}

fn system(call: &'static str) -> CudaError {
    let error = std::io::Error::last_os_error();
    CudaError::Call {
        call,
        code: error.raw_os_error().unwrap_or_default().unsigned_abs(),
        name: error.to_string(),
        detail: String::new(),
    }
}

impl Driver for Simulated {
    fn name(&self) -> String {
        "simulated device".into()
    }

    fn dlpack_device(&self) -> (i32, i32) {
        (DLPACK_CPU, 0)
    }

    fn granularity(&self) -> usize {
        self.granularity
    }

    fn memory(&self) -> Result<(usize, usize), CudaError> {
        Ok((self.memory - self.lock().used, self.memory))
    }

    fn reserve(&self, bytes: usize) -> Result<u64, CudaError> {
        let mut state = self.lock();
        if bytes == 0 || !bytes.is_multiple_of(self.granularity) {
            return Err(state.rule(format!("a reservation of {bytes} bytes")));
        }
        // SAFETY: a new mapping without access.
        let start = unsafe {
            libc::mmap(
                null_mut(),
                bytes,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(system("mmap"));
        }
        state.reservations.insert(start as u64, bytes);
        Ok(start as u64)
    }

    fn free(&self, address: u64, bytes: usize) -> Result<(), CudaError> {
        let mut state = self.lock();
        if state.reservations.get(&address) != Some(&bytes) {
            return Err(state.rule("addresses given back that were not reserved"));
        }
        let end = address + bytes as u64;
        if state.maps.range(address..end).next().is_some() {
            return Err(state.rule("addresses given back with memory mapped to them"));
        }
        state.reservations.remove(&address);
        // SAFETY: reserved by us, with nothing mapped.
        unsafe { libc::munmap(address as usize as *mut libc::c_void, bytes) };
        Ok(())
    }

    fn create(&self, bytes: usize) -> Result<Physical, CudaError> {
        let mut state = self.lock();
        if bytes == 0 || !bytes.is_multiple_of(self.granularity) {
            return Err(state.rule(format!("an allocation of {bytes} bytes")));
        }
        if state.used + bytes > self.memory {
            return Err(CudaError::Call {
                call: "cuMemCreate",
                code: 2,
                name: "CUDA_ERROR_OUT_OF_MEMORY".into(),
                detail: format!(
                    ": {bytes} bytes of device memory, {} of {} are free",
                    self.memory - state.used,
                    self.memory
                ),
            });
        }
        let position = state.spare.iter().position(|&(length, _)| length == bytes);
        let offset = match position {
            Some(position) => state.spare.swap_remove(position).1,
            None => {
                let offset = state.file_bytes;
                state.file_bytes += bytes as i64;
                // SAFETY: our own memory file.
                if unsafe { libc::ftruncate(state.file, state.file_bytes) } != 0 {
                    return Err(system("ftruncate"));
                }
                offset
            }
        };
        state.used += bytes;
        let physical = state.number();
        let backing = Backing {
            offset,
            bytes,
            mapped: false,
        };
        state.physical.insert(physical, backing);
        Ok(Physical(physical))
    }

    fn release(&self, physical: Physical) -> Result<(), CudaError> {
        let mut state = self.lock();
        match state.physical.get(&physical.0) {
            Some(backing) if !backing.mapped => {
                let (bytes, offset) = (backing.bytes, backing.offset);
                state.physical.remove(&physical.0);
                state.used -= bytes;
                state.spare.push((bytes, offset));
                Ok(())
            }
            _ => Err(state.rule("memory released that is mapped, or not there")),
        }
    }

    fn map(&self, address: u64, bytes: usize, physical: Physical) -> Result<(), CudaError> {
        let mut state = self.lock();
        let reserved = state
            .reservations
            .range(..=address)
            .next_back()
            .is_some_and(|(&start, &length)| {
                address + bytes as u64 <= start + length as u64
                    && (address - start).is_multiple_of(self.granularity as u64)
            });
        let end = address + bytes as u64;
        if !reserved || state.maps.range(address..end).next().is_some() {
            return Err(
                state.rule("memory mapped where nothing is reserved, or something is mapped")
            );
        }
        let Some(offset) = state
            .physical
            .get(&physical.0)
            .filter(|backing| !backing.mapped && backing.bytes == bytes)
            .map(|backing| backing.offset)
        else {
            return Err(state.rule("memory mapped twice, in part, or that is not there"));
        };
        // SAFETY: inside addresses that we reserved.
        let mapped = unsafe {
            libc::mmap(
                address as usize as *mut libc::c_void,
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_FIXED,
                state.file,
                offset,
            )
        };
        if mapped == libc::MAP_FAILED {
            return Err(system("mmap"));
        }
        if let Some(backing) = state.physical.get_mut(&physical.0) {
            backing.mapped = true;
        }
        state.maps.insert(address, (bytes, physical));
        Ok(())
    }

    fn unmap(&self, address: u64, bytes: usize) -> Result<(), CudaError> {
        let mut state = self.lock();
        let Some(&(length, physical)) = state.maps.get(&address) else {
            return Err(state.rule("memory unmapped where none is mapped"));
        };
        if length != bytes {
            return Err(state.rule("memory unmapped in part"));
        }
        if state
            .queues
            .values()
            .flatten()
            .any(|work| work.touches(address, bytes))
        {
            return Err(state.rule(format!("{address:#x} unmapped under unfinished work")));
        }
        // SAFETY: inside addresses that we reserved.
        unsafe {
            libc::mmap(
                address as usize as *mut libc::c_void,
                bytes,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED,
                -1,
                0,
            )
        };
        state.maps.remove(&address);
        if let Some(backing) = state.physical.get_mut(&physical.0) {
            backing.mapped = false;
        }
        Ok(())
    }

    fn pin(&self, bytes: usize) -> Result<Pinned, CudaError> {
        // SAFETY: a new mapping.
        let start = unsafe {
            libc::mmap(
                null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(system("mmap"));
        }
        let address = start as usize;
        self.lock().pinned.insert(address, bytes);
        Ok(Pinned { address, bytes })
    }

    unsafe fn unpin(&self, pinned: Pinned) -> Result<(), CudaError> {
        let mut state = self.lock();
        let range = pinned.address..pinned.address + pinned.bytes;
        let in_use = state
            .queues
            .values()
            .flatten()
            .any(|work| matches!(work, Work::Copy { from, .. } if range.contains(from)));
        if in_use || state.pinned.remove(&pinned.address) != Some(pinned.bytes) {
            return Err(state.rule("pinned memory given back in use, or that is not pinned"));
        }
        // SAFETY: mapped by `pin`, and nobody uses it by the contract.
        unsafe { libc::munmap(pinned.address as *mut libc::c_void, pinned.bytes) };
        Ok(())
    }

    fn create_stream(&self) -> Result<StreamHandle, CudaError> {
        let mut state = self.lock();
        let stream = StreamHandle(state.number());
        state.ours.push(stream);
        Ok(stream)
    }

    fn destroy_stream(&self, stream: StreamHandle) -> Result<(), CudaError> {
        let mut state = self.lock();
        state.ours.retain(|&ours| ours != stream);
        Ok(())
    }

    fn synchronize(&self, stream: StreamHandle) -> Result<(), CudaError> {
        let mut state = self.lock();
        while state
            .queues
            .get(&stream)
            .is_some_and(|queue| !queue.is_empty())
        {
            if !state.step() {
                return Err(state.rule("streams wait for each other for ever"));
            }
        }
        Ok(())
    }

    fn create_event(&self) -> Result<Event, CudaError> {
        let mut state = self.lock();
        let event = Event(state.number());
        state.events.insert(event, Recorded::default());
        Ok(event)
    }

    fn destroy_event(&self, event: Event) -> Result<(), CudaError> {
        let mut state = self.lock();
        match state.events.remove(&event) {
            Some(_) => Ok(()),
            None => Err(state.rule("an event destroyed that is not there")),
        }
    }

    fn record(&self, event: Event, stream: StreamHandle) -> Result<(), CudaError> {
        let mut state = self.lock();
        let Some(recorded) = state.events.get_mut(&event) else {
            return Err(state.rule("an event recorded that is not there"));
        };
        recorded.asked += 1;
        let work = Work::Record(event, recorded.asked);
        state.queues.entry(stream).or_default().push_back(work);
        Ok(())
    }

    fn is_done(&self, event: Event) -> Result<bool, CudaError> {
        let mut state = self.lock();
        for _ in 0..state.random(4) {
            state.step();
        }
        match state.events.get(&event) {
            Some(recorded) => Ok(recorded.done >= recorded.asked),
            None => Err(state.rule("an event asked for that is not there")),
        }
    }

    fn wait(&self, stream: StreamHandle, event: Event) -> Result<(), CudaError> {
        let mut state = self.lock();
        let Some(count) = state.events.get(&event).map(|recorded| recorded.asked) else {
            return Err(state.rule("an event waited for that is not there"));
        };
        if self.immediate && !state.ours.contains(&stream) {
            while !state.happened(event, count) {
                if !state.step() {
                    return Err(state.rule("streams wait for each other for ever"));
                }
            }
            return Ok(());
        }
        state
            .queues
            .entry(stream)
            .or_default()
            .push_back(Work::Wait(event, count));
        Ok(())
    }

    fn is_capturing(&self, _stream: StreamHandle) -> Result<bool, CudaError> {
        Ok(false)
    }

    unsafe fn copy_to_device(
        &self,
        to: u64,
        from: *const u8,
        bytes: usize,
        stream: StreamHandle,
    ) -> Result<(), CudaError> {
        let from = from as usize;
        self.lock()
            .queues
            .entry(stream)
            .or_default()
            .push_back(Work::Copy { to, from, bytes });
        Ok(())
    }

    fn load(&self, ptx: &str) -> Result<Module, CudaError> {
        let mut state = self.lock();
        if !ptx.contains(".version") {
            return Err(state.rule("a module that is no PTX"));
        }
        let module = Module(state.number());
        state.modules.push(module);
        Ok(module)
    }

    fn unload(&self, module: Module) -> Result<(), CudaError> {
        self.lock().modules.retain(|&loaded| loaded != module);
        Ok(())
    }

    fn function(&self, _module: Module, name: &str) -> Result<Function, CudaError> {
        let state = self.lock();
        match state.kernels.get(name) {
            Some(&(function, _)) => Ok(function),
            None => Err(CudaError::Call {
                call: "cuModuleGetFunction",
                code: 500,
                name: "CUDA_ERROR_NOT_FOUND".into(),
                detail: format!(": {name}"),
            }),
        }
    }

    unsafe fn launch(&self, launch: &Launch, stream: StreamHandle) -> Result<(), CudaError> {
        self.lock()
            .queues
            .entry(stream)
            .or_default()
            .push_back(Work::Launch(launch.clone()));
        Ok(())
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        let state = self.lock();
        // SAFETY: our own file; mappings of it stay valid.
        unsafe { libc::close(state.file) };
    }
}
