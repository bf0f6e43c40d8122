//! The CUDA driver, opened at run time: nothing is linked, so one build serves machines with and without a GPU.

use crate::cuda::driver::{
    Argument, Driver, Event, Function, Launch, Module, Physical, Pinned, StreamHandle,
};
use crate::cuda::error::CudaError;
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::ptr::null_mut;
use std::sync::{Arc, Mutex, PoisonError};

type Status = c_uint;
type Handle = *mut c_void;

// Values of cuda.h.
const NOT_READY: Status = 600;
const STREAM_CAPTURE_IMPLICIT: Status = 906;
const VIRTUAL_MEMORY_SUPPORTED: c_int = 102;
const PINNED: c_uint = 1;
const DEVICE: c_uint = 1;
const READ_WRITE: c_uint = 3;
const PORTABLE: c_uint = 1;
const NON_BLOCKING: c_uint = 1;
const DISABLE_TIMING: c_uint = 2;
const CAPTURE_RELAXED: c_uint = 2;
/// `kDLCUDA` of dlpack.h.
const DLPACK_CUDA: i32 = 2;

/// `CUmemLocation`
#[repr(C)]
#[derive(Clone, Copy)]
struct Location {
    kind: c_uint,
    id: c_int,
}

/// `CUmemAllocationProp`
#[repr(C)]
struct AllocationProperties {
    kind: c_uint,
    handle_types: c_uint,
    location: Location,
    metadata: *mut c_void,
    flags: [u8; 8],
}

/// `CUmemAccessDesc`
#[repr(C)]
struct Access {
    location: Location,
    flags: c_uint,
}

/// Declares the table of functions, each under the name that libcuda exports.
macro_rules! functions {
    ($($name:ident($($argument:ty),*);)*) => {
        #[allow(non_snake_case)]
        struct Functions { $($name: unsafe extern "C" fn($($argument),*) -> Status,)* }

        impl Functions {
            fn find(library: &libloading::Library) -> Result<Self, CudaError> {
                Ok(Self { $($name: {
                    // SAFETY: the type is that of the function of this name in cuda.h.
                    let symbol = unsafe { library.get(concat!(stringify!($name), "\0").as_bytes()) };
                    *symbol.map_err(|error: libloading::Error| CudaError::Library { cause: error.to_string() })?
                },)* })
            }
        }
    };
}

functions! {
    cuInit(c_uint);
    cuGetErrorName(Status, *mut *const c_char);
    cuDeviceGetCount(*mut c_int);
    cuDeviceGet(*mut c_int, c_int);
    cuDeviceGetName(*mut c_char, c_int, c_int);
    cuDeviceGetAttribute(*mut c_int, c_int, c_int);
    cuDevicePrimaryCtxRetain(*mut Handle, c_int);
    cuDevicePrimaryCtxRelease_v2(c_int);
    cuCtxPushCurrent_v2(Handle);
    cuCtxPopCurrent_v2(*mut Handle);
    cuThreadExchangeStreamCaptureMode(*mut c_uint);
    cuMemGetInfo_v2(*mut usize, *mut usize);
    cuMemGetAllocationGranularity(*mut usize, *const AllocationProperties, c_uint);
    cuMemAddressReserve(*mut u64, usize, usize, u64, u64);
    cuMemAddressFree(u64, usize);
    cuMemCreate(*mut u64, usize, *const AllocationProperties, u64);
    cuMemRelease(u64);
    cuMemMap(u64, usize, usize, u64, u64);
    cuMemUnmap(u64, usize);
    cuMemSetAccess(u64, usize, *const Access, usize);
    cuMemHostAlloc(*mut *mut c_void, usize, c_uint);
    cuMemFreeHost(*mut c_void);
    cuMemHostRegister_v2(*mut c_void, usize, c_uint);
    cuMemHostUnregister(*mut c_void);
    cuStreamCreate(*mut Handle, c_uint);
    cuStreamDestroy_v2(Handle);
    cuStreamSynchronize(Handle);
    cuStreamWaitEvent(Handle, Handle, c_uint);
    cuStreamIsCapturing(Handle, *mut c_uint);
    cuEventCreate(*mut Handle, c_uint);
    cuEventDestroy_v2(Handle);
    cuEventRecord(Handle, Handle);
    cuEventQuery(Handle);
    cuMemcpyHtoDAsync_v2(u64, *const c_void, usize, Handle);
    cuModuleLoadData(*mut Handle, *const c_void);
    cuModuleUnload(Handle);
    cuModuleGetFunction(*mut Handle, Handle, *const c_char);
    cuLaunchKernel(Handle, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, Handle, *mut *mut c_void, *mut *mut c_void);
}

/// One device through the CUDA driver, in the primary context that PyTorch uses too.
pub struct Library {
    functions: Arc<Functions>,
    device: c_int,
    number: i32,
    context: Handle,
    name: String,
    granularity: usize,
    /// Pinned memory that we mapped ourselves and only registered with the driver.
    registered: Mutex<HashMap<usize, usize>>,
    _library: libloading::Library,
}

// SAFETY: the driver API may be called from any thread, and handles are valid in all threads of the process.
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

impl Library {
    /// Opens device `number`.
    ///
    /// # Errors
    /// No driver, no such device, or one without virtual memory management (before Pascal, or a vGPU).
    pub fn open(number: i32) -> Result<Arc<Self>, CudaError> {
        let name = if cfg!(windows) {
            "nvcuda.dll"
        } else {
            "libcuda.so.1"
        };
        // SAFETY: loading the driver runs its initialisers, as every program that uses the GPU has it.
        let library =
            unsafe { libloading::Library::new(name) }.map_err(|error| CudaError::Library {
                cause: error.to_string(),
            })?;
        let functions = Arc::new(Functions::find(&library)?);
        let check = |call, status| check(&functions, call, status, String::new);
        // SAFETY: in every call below, pointers are to locals of the declared types.
        unsafe {
            check("cuInit", (functions.cuInit)(0))?;
            let mut count = 0;
            check(
                "cuDeviceGetCount",
                (functions.cuDeviceGetCount)(&raw mut count),
            )?;
            if !(0..count).contains(&number) {
                return Err(CudaError::Device { got: number, count });
            }
            let mut device = 0;
            check(
                "cuDeviceGet",
                (functions.cuDeviceGet)(&raw mut device, number),
            )?;
            let mut words = [0 as c_char; 256];
            check(
                "cuDeviceGetName",
                (functions.cuDeviceGetName)(words.as_mut_ptr(), 255, device),
            )?;
            let name = CStr::from_ptr(words.as_ptr())
                .to_string_lossy()
                .into_owned();
            let mut supported = 0;
            check(
                "cuDeviceGetAttribute",
                (functions.cuDeviceGetAttribute)(
                    &raw mut supported,
                    VIRTUAL_MEMORY_SUPPORTED,
                    device,
                ),
            )?;
            if supported == 0 {
                return Err(CudaError::Unsupported {
                    device: name,
                    what: "virtual memory management",
                });
            }
            let mut context = null_mut();
            check(
                "cuDevicePrimaryCtxRetain",
                (functions.cuDevicePrimaryCtxRetain)(&raw mut context, device),
            )?;
            let mut driver = Self {
                functions: Arc::clone(&functions),
                device,
                number,
                context,
                name,
                granularity: 0,
                registered: Mutex::new(HashMap::new()),
                _library: library,
            };
            let mut granularity = 0;
            let properties = driver.properties();
            driver.call("cuMemGetAllocationGranularity", |f| {
                (f.cuMemGetAllocationGranularity)(&raw mut granularity, &raw const properties, 0)
            })?;
            driver.granularity = granularity;
            Ok(Arc::new(driver))
        }
    }

    fn location(&self) -> Location {
        Location {
            kind: DEVICE,
            id: self.device,
        }
    }

    fn properties(&self) -> AllocationProperties {
        AllocationProperties {
            kind: PINNED,
            handle_types: 0,
            location: self.location(),
            metadata: null_mut(),
            flags: [0; 8],
        }
    }

    /// Calls the driver in our context.
    fn call(
        &self,
        name: &'static str,
        call: impl FnOnce(&Functions) -> Status,
    ) -> Result<(), CudaError> {
        self.call_about(name, call, String::new)
    }

    fn call_about(
        &self,
        name: &'static str,
        call: impl FnOnce(&Functions) -> Status,
        about: impl FnOnce() -> String,
    ) -> Result<(), CudaError> {
        let status = self.inside(name, call)?;
        check(&self.functions, name, status, about)
    }

    /// Calls the driver in our context, whatever the thread's own is, and without disturbing a graph capture.
    fn inside(
        &self,
        name: &'static str,
        call: impl FnOnce(&Functions) -> Status,
    ) -> Result<Status, CudaError> {
        let functions = &*self.functions;
        // While another thread captures a graph, the default mode would have ordinary calls here end the capture.
        let mut mode = CAPTURE_RELAXED;
        // SAFETY: the context was retained; the mode is a local, and exchanged back below.
        unsafe {
            check(
                functions,
                name,
                (functions.cuCtxPushCurrent_v2)(self.context),
                String::new,
            )?;
            (functions.cuThreadExchangeStreamCaptureMode)(&raw mut mode);
            let status = call(functions);
            (functions.cuThreadExchangeStreamCaptureMode)(&raw mut mode);
            let mut ours = null_mut();
            (functions.cuCtxPopCurrent_v2)(&raw mut ours);
            Ok(status)
        }
    }
}

fn check(
    functions: &Functions,
    call: &'static str,
    status: Status,
    about: impl FnOnce() -> String,
) -> Result<(), CudaError> {
    if status == 0 {
        return Ok(());
    }
    let mut words: *const c_char = std::ptr::null();
    // SAFETY: the driver stores a pointer to a static string, or null.
    let name = unsafe {
        (functions.cuGetErrorName)(status, &raw mut words);
        if words.is_null() {
            "unknown".into()
        } else {
            CStr::from_ptr(words).to_string_lossy().into_owned()
        }
    };
    Err(CudaError::Call {
        call,
        code: status,
        name,
        detail: about(),
    })
}

fn handle(number: u64) -> Handle {
    number as usize as Handle
}

// In the calls below pointers are to locals of the declared types, and handles came from the driver (streams also
// from the caller, who vouches for them as for every stream that is passed to a library).
#[allow(clippy::undocumented_unsafe_blocks)]
impl Driver for Library {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn dlpack_device(&self) -> (i32, i32) {
        (DLPACK_CUDA, self.number)
    }

    fn granularity(&self) -> usize {
        self.granularity
    }

    fn memory(&self) -> Result<(usize, usize), CudaError> {
        let (mut free, mut total) = (0, 0);
        self.call("cuMemGetInfo", |f| unsafe {
            (f.cuMemGetInfo_v2)(&raw mut free, &raw mut total)
        })?;
        Ok((free, total))
    }

    fn reserve(&self, bytes: usize) -> Result<u64, CudaError> {
        let mut address = 0;
        self.call_about(
            "cuMemAddressReserve",
            |f| unsafe { (f.cuMemAddressReserve)(&raw mut address, bytes, 0, 0, 0) },
            || format!(": {bytes} bytes"),
        )?;
        Ok(address)
    }

    fn free(&self, address: u64, bytes: usize) -> Result<(), CudaError> {
        self.call("cuMemAddressFree", |f| unsafe {
            (f.cuMemAddressFree)(address, bytes)
        })
    }

    fn create(&self, bytes: usize) -> Result<Physical, CudaError> {
        let (mut physical, properties) = (0, self.properties());
        self.call_about(
            "cuMemCreate",
            |f| unsafe { (f.cuMemCreate)(&raw mut physical, bytes, &raw const properties, 0) },
            || match self.memory() {
                Ok((free, total)) => {
                    format!(": {bytes} bytes of device memory, {free} of {total} are free")
                }
                Err(_) => format!(": {bytes} bytes of device memory"),
            },
        )?;
        Ok(Physical(physical))
    }

    fn release(&self, physical: Physical) -> Result<(), CudaError> {
        self.call("cuMemRelease", |f| unsafe { (f.cuMemRelease)(physical.0) })
    }

    fn map(&self, address: u64, bytes: usize, physical: Physical) -> Result<(), CudaError> {
        let access = Access {
            location: self.location(),
            flags: READ_WRITE,
        };
        self.call("cuMemMap", |f| unsafe {
            (f.cuMemMap)(address, bytes, 0, physical.0, 0)
        })?;
        self.call("cuMemSetAccess", |f| unsafe {
            (f.cuMemSetAccess)(address, bytes, &raw const access, 1)
        })
        .inspect_err(|_| {
            let _ = self.unmap(address, bytes);
        })
    }

    fn unmap(&self, address: u64, bytes: usize) -> Result<(), CudaError> {
        self.call("cuMemUnmap", |f| unsafe { (f.cuMemUnmap)(address, bytes) })
    }

    fn pin(&self, bytes: usize) -> Result<Pinned, CudaError> {
        if let Some(address) = huge_pages(bytes) {
            let registered = self.call("cuMemHostRegister", |f| unsafe {
                (f.cuMemHostRegister_v2)(address as *mut c_void, bytes, PORTABLE)
            });
            if registered.is_ok() {
                self.registered
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(address, bytes);
                return Ok(Pinned { address, bytes });
            }
            unsafe { libc::munmap(address as *mut c_void, bytes) };
        }
        let mut start = null_mut();
        self.call_about(
            "cuMemHostAlloc",
            |f| unsafe { (f.cuMemHostAlloc)(&raw mut start, bytes, PORTABLE) },
            || format!(": {bytes} bytes of pinned host memory"),
        )?;
        Ok(Pinned {
            address: start as usize,
            bytes,
        })
    }

    unsafe fn unpin(&self, pinned: Pinned) -> Result<(), CudaError> {
        let start = pinned.address as *mut c_void;
        let registered = self
            .registered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&pinned.address);
        let Some(bytes) = registered else {
            return self.call("cuMemFreeHost", |f| unsafe { (f.cuMemFreeHost)(start) });
        };
        let result = self.call("cuMemHostUnregister", |f| unsafe {
            (f.cuMemHostUnregister)(start)
        });
        unsafe { libc::munmap(start, bytes) };
        result
    }

    fn create_stream(&self) -> Result<StreamHandle, CudaError> {
        let mut stream = null_mut();
        self.call("cuStreamCreate", |f| unsafe {
            (f.cuStreamCreate)(&raw mut stream, NON_BLOCKING)
        })?;
        Ok(StreamHandle(stream as u64))
    }

    fn destroy_stream(&self, stream: StreamHandle) -> Result<(), CudaError> {
        self.call("cuStreamDestroy", |f| unsafe {
            (f.cuStreamDestroy_v2)(handle(stream.0))
        })
    }

    fn synchronize(&self, stream: StreamHandle) -> Result<(), CudaError> {
        self.call("cuStreamSynchronize", |f| unsafe {
            (f.cuStreamSynchronize)(handle(stream.0))
        })
    }

    fn create_event(&self) -> Result<Event, CudaError> {
        let mut event = null_mut();
        self.call("cuEventCreate", |f| unsafe {
            (f.cuEventCreate)(&raw mut event, DISABLE_TIMING)
        })?;
        Ok(Event(event as u64))
    }

    fn destroy_event(&self, event: Event) -> Result<(), CudaError> {
        self.call("cuEventDestroy", |f| unsafe {
            (f.cuEventDestroy_v2)(handle(event.0))
        })
    }

    fn record(&self, event: Event, stream: StreamHandle) -> Result<(), CudaError> {
        self.call("cuEventRecord", |f| unsafe {
            (f.cuEventRecord)(handle(event.0), handle(stream.0))
        })
    }

    fn is_done(&self, event: Event) -> Result<bool, CudaError> {
        let status = self.inside("cuEventQuery", |f| unsafe {
            (f.cuEventQuery)(handle(event.0))
        })?;
        if status == NOT_READY {
            return Ok(false);
        }
        check(&self.functions, "cuEventQuery", status, String::new).map(|()| true)
    }

    fn wait(&self, stream: StreamHandle, event: Event) -> Result<(), CudaError> {
        self.call("cuStreamWaitEvent", |f| unsafe {
            (f.cuStreamWaitEvent)(handle(stream.0), handle(event.0), 0)
        })
    }

    fn is_capturing(&self, stream: StreamHandle) -> Result<bool, CudaError> {
        let mut capturing = 0;
        let status = self.inside("cuStreamIsCapturing", |f| unsafe {
            (f.cuStreamIsCapturing)(handle(stream.0), &raw mut capturing)
        })?;
        // The default stream can't be captured, but can't be asked either while another stream is.
        if status == STREAM_CAPTURE_IMPLICIT {
            return Ok(false);
        }
        check(&self.functions, "cuStreamIsCapturing", status, String::new).map(|()| capturing != 0)
    }

    unsafe fn copy_to_device(
        &self,
        to: u64,
        from: *const u8,
        bytes: usize,
        stream: StreamHandle,
    ) -> Result<(), CudaError> {
        self.call("cuMemcpyHtoDAsync", |f| unsafe {
            (f.cuMemcpyHtoDAsync_v2)(to, from.cast(), bytes, handle(stream.0))
        })
    }

    fn load(&self, ptx: &str) -> Result<Module, CudaError> {
        let text = CString::new(ptx).map_err(|error| CudaError::Library {
            cause: error.to_string(),
        })?;
        let mut module = null_mut();
        self.call("cuModuleLoadData", |f| unsafe {
            (f.cuModuleLoadData)(&raw mut module, text.as_ptr().cast())
        })?;
        Ok(Module(module as u64))
    }

    fn unload(&self, module: Module) -> Result<(), CudaError> {
        self.call("cuModuleUnload", |f| unsafe {
            (f.cuModuleUnload)(handle(module.0))
        })
    }

    fn function(&self, module: Module, name: &str) -> Result<Function, CudaError> {
        let words = CString::new(name).map_err(|error| CudaError::Library {
            cause: error.to_string(),
        })?;
        let mut function = null_mut();
        self.call_about(
            "cuModuleGetFunction",
            |f| unsafe {
                (f.cuModuleGetFunction)(&raw mut function, handle(module.0), words.as_ptr())
            },
            || format!(": {name}"),
        )?;
        Ok(Function(function as u64))
    }

    unsafe fn launch(&self, launch: &Launch, stream: StreamHandle) -> Result<(), CudaError> {
        // Each argument in eight bytes of its own; the driver reads as many of them as the kernel declares.
        let values: Vec<u64> = launch
            .arguments
            .iter()
            .map(|argument| match *argument {
                Argument::U64(value) => value.to_le(),
                Argument::U32(value) => u64::from(value).to_le(),
            })
            .collect();
        let mut pointers: Vec<*mut c_void> = values
            .iter()
            .map(|value| std::ptr::from_ref(value).cast_mut().cast())
            .collect();
        self.call("cuLaunchKernel", |f| unsafe {
            (f.cuLaunchKernel)(
                handle(launch.function.0),
                launch.grid,
                1,
                1,
                launch.threads,
                1,
                1,
                0,
                handle(stream.0),
                pointers.as_mut_ptr(),
                null_mut(),
            )
        })
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        // SAFETY: retained once, when it was opened.
        unsafe { (self.functions.cuDevicePrimaryCtxRelease_v2)(self.device) };
    }
}

/// Anonymous memory in huge pages, into which direct reads take a fraction of the processor time.
fn huge_pages(bytes: usize) -> Option<usize> {
    // SAFETY: a new mapping; advice on it may be ignored. A child of fork must not share pinned pages.
    unsafe {
        let start = libc::mmap(
            null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        if start == libc::MAP_FAILED {
            return None;
        }
        libc::madvise(start, bytes, libc::MADV_HUGEPAGE);
        libc::madvise(start, bytes, libc::MADV_DONTFORK);
        Some(start as usize)
    }
}
