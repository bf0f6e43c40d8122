//! What is asked of a CUDA driver.

use crate::cuda::CudaError;

/// Physical memory of the device, not yet at any address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Physical(pub u64);

/// A stream, ours or the caller's; 0 is the device's default stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamHandle(pub u64);

/// A point in a stream's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Event(pub u64);

/// Loaded device code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Module(pub u64);

/// An entry point of a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Function(pub u64);

/// Page-locked host memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pinned {
    /// Where it begins.
    pub address: usize,
    /// Bytes.
    pub bytes: usize,
}

/// One argument of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Argument {
    /// A device address or another 64-bit number.
    U64(u64),
    /// A 32-bit number.
    U32(u32),
}

/// A kernel to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// Which.
    pub function: Function,
    /// Thread blocks.
    pub grid: u32,
    /// Threads per block.
    pub threads: u32,
    /// What it is given, in order.
    pub arguments: Vec<Argument>,
    /// The (address, length) ranges of device memory that it uses, for the simulated driver to check.
    pub touches: Vec<(u64, usize)>,
}

/// The part of the CUDA driver API that streaming uses, for one device.
///
/// Every method may be called from any thread, and none of them waits for the device unless it says so. Addresses are
/// device addresses; map, unmap and copies concern whole multiples of [`granularity`](Self::granularity).
pub trait Driver: Send + Sync {
    /// The device's name.
    fn name(&self) -> String;

    /// The DLPack device (type, number) under which tensors over its memory are known.
    fn dlpack_device(&self) -> (i32, i32);

    /// The unit of physical memory in bytes.
    fn granularity(&self) -> usize;

    /// Bytes of device memory: (free, total).
    ///
    /// # Errors
    /// The driver's, as of all methods.
    fn memory(&self) -> Result<(usize, usize), CudaError>;

    /// Reserves a range of addresses. Nothing lies there.
    fn reserve(&self, bytes: usize) -> Result<u64, CudaError>;

    /// Gives a reserved range back, when nothing is mapped to it.
    fn free(&self, address: u64, bytes: usize) -> Result<(), CudaError>;

    /// Allocates physical memory.
    fn create(&self, bytes: usize) -> Result<Physical, CudaError>;

    /// Gives physical memory back, when it is mapped nowhere.
    fn release(&self, physical: Physical) -> Result<(), CudaError>;

    /// Makes physical memory readable and writable at an address.
    fn map(&self, address: u64, bytes: usize, physical: Physical) -> Result<(), CudaError>;

    /// Takes what is mapped at an address away. No work that uses it may be unfinished.
    fn unmap(&self, address: u64, bytes: usize) -> Result<(), CudaError>;

    /// Allocates page-locked host memory. Takes long.
    fn pin(&self, bytes: usize) -> Result<Pinned, CudaError>;

    /// Gives page-locked memory back.
    ///
    /// # Safety
    /// Nobody uses it any more.
    unsafe fn unpin(&self, pinned: Pinned) -> Result<(), CudaError>;

    /// A stream that does not wait for the default stream, nor it for this one.
    fn create_stream(&self) -> Result<StreamHandle, CudaError>;

    /// Ends a stream; its work goes on to its end.
    fn destroy_stream(&self, stream: StreamHandle) -> Result<(), CudaError>;

    /// Waits until all work in the stream is done.
    fn synchronize(&self, stream: StreamHandle) -> Result<(), CudaError>;

    /// An event without timing.
    fn create_event(&self) -> Result<Event, CudaError>;

    /// Ends an event.
    fn destroy_event(&self, event: Event) -> Result<(), CudaError>;

    /// The event happens when all work that is in the stream now is done.
    fn record(&self, event: Event, stream: StreamHandle) -> Result<(), CudaError>;

    /// Whether the event has happened.
    fn is_done(&self, event: Event) -> Result<bool, CudaError>;

    /// Work that comes into the stream from now on waits for the event.
    fn wait(&self, stream: StreamHandle, event: Event) -> Result<(), CudaError>;

    /// Whether the stream's work is being captured into a graph rather than done.
    fn is_capturing(&self, stream: StreamHandle) -> Result<bool, CudaError>;

    /// Copies host memory to the device, in the stream.
    ///
    /// # Safety
    /// `from` is the start of `bytes` of pinned memory that nobody writes to or frees until the copy is done.
    unsafe fn copy_to_device(
        &self,
        to: u64,
        from: *const u8,
        bytes: usize,
        stream: StreamHandle,
    ) -> Result<(), CudaError>;

    /// Loads device code from PTX text.
    fn load(&self, ptx: &str) -> Result<Module, CudaError>;

    /// Unloads device code.
    fn unload(&self, module: Module) -> Result<(), CudaError>;

    /// An entry point by name.
    fn function(&self, module: Module, name: &str) -> Result<Function, CudaError>;

    /// Runs a kernel in the stream.
    ///
    /// # Safety
    /// The arguments are what the kernel expects, and what they point to stays mapped until it is done.
    unsafe fn launch(&self, launch: &Launch, stream: StreamHandle) -> Result<(), CudaError>;
}
