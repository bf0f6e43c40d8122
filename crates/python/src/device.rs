//! `Device` and `DeviceStream`.

use crate::boundary::{caught, detached};
use crate::checkpoint::Contents;
use crate::errors::from_stream;
use crate::stream::{Parameter, Row, counters, row};
use pyo3::exceptions::PyIndexError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::ffi::c_void;
use std::sync::Arc;
use weightstream::StreamError;
use weightstream::cuda::{
    DeviceOptions, DeviceStream as Native, Driver, Library, Simulated, StreamHandle, Ticket,
    define_decoder,
};

/// A GPU, or a simulated one.
#[pyclass(module = "weightstream._native", frozen)]
pub struct Device {
    driver: Arc<dyn Driver>,
    simulated: Option<Arc<Simulated>>,
}

#[pymethods]
impl Device {
    #[staticmethod]
    fn open(python: Python<'_>, number: i32) -> PyResult<Self> {
        let driver = detached(python, || Library::open(number))?
            .map_err(|error| from_stream(StreamError::Device(error)))?;
        Ok(Self {
            driver,
            simulated: None,
        })
    }

    #[staticmethod]
    #[pyo3(signature = (memory, granularity = 65536, seed = 1))]
    fn simulate(memory: usize, granularity: usize, seed: u64) -> PyResult<Self> {
        let driver = caught(|| Simulated::new(granularity, memory, seed, true))?
            .map_err(|error| from_stream(StreamError::Device(error)))?;
        define_decoder(&driver);
        Ok(Self {
            simulated: Some(Arc::clone(&driver)),
            driver,
        })
    }

    #[getter]
    fn name(&self) -> String {
        self.driver.name()
    }

    #[getter]
    fn is_simulated(&self) -> bool {
        self.simulated.is_some()
    }

    fn memory(&self) -> PyResult<(usize, usize)> {
        caught(|| self.driver.memory())?.map_err(|error| from_stream(StreamError::Device(error)))
    }

    fn broken_rules(&self) -> Vec<String> {
        self.simulated
            .as_ref()
            .map(|simulated| simulated.broken())
            .unwrap_or_default()
    }
}

/// Weights of one model at fixed addresses of a device.
#[pyclass(module = "weightstream._native", frozen, weakref)]
pub struct DeviceStream {
    stream: Arc<Native>,
    parameters: usize,
}

impl DeviceStream {
    fn call<T: Send>(
        &self,
        python: Python<'_>,
        call: impl FnOnce(&Native) -> Result<T, StreamError> + Send,
    ) -> PyResult<T> {
        detached(python, || call(&self.stream))?.map_err(from_stream)
    }
}

#[pymethods]
impl DeviceStream {
    #[new]
    fn new(
        python: Python<'_>,
        contents: &Contents,
        parameters: Vec<Parameter>,
        blocks: Vec<Vec<usize>>,
        device: &Device,
        memory: u64,
        host_memory: u64,
    ) -> PyResult<Self> {
        let count = parameters.len();
        let parameters = parameters
            .into_iter()
            .map(|parameter| parameter.0)
            .collect();
        let options = DeviceOptions {
            driver: Arc::clone(&device.driver),
            memory,
            host_memory,
            chunk_bytes: None,
            source: None,
        };
        let stream = detached(python, || {
            Native::over(&contents.0, parameters, &blocks, options)
        })?
        .map_err(from_stream)?;
        Ok(Self {
            stream: Arc::new(stream),
            parameters: count,
        })
    }

    fn addresses(&self) -> PyResult<Vec<u64>> {
        let addresses = (0..self.parameters).map(|index| self.stream.address(index));
        caught(|| addresses.collect())
    }

    fn dlpack<'py>(&self, python: Python<'py>, index: usize) -> PyResult<Bound<'py, PyAny>> {
        if index >= self.parameters {
            return Err(PyIndexError::new_err(index));
        }
        let (kind, number) = self.stream.reservation().driver().dlpack_device();
        let tensor = Box::new(Managed {
            tensor: Tensor {
                data: self.stream.address(index) as usize as *mut c_void,
                device: (kind, number),
                dimensions: 1,
                // Unsigned integers of eight bits, one lane.
                dtype: [1, 8, 1, 0],
                shape: std::ptr::null_mut(),
                strides: std::ptr::null_mut(),
                byte_offset: 0,
            },
            context: std::ptr::null_mut(),
            deleter: Some(delete),
            shape: self.stream.length(index) as i64,
            stride: 1,
            _stream: Arc::clone(&self.stream),
        });
        let managed = Box::into_raw(tensor);
        // SAFETY: just made; the pointers stay valid as long as the box. The capsule owns it until somebody takes it.
        unsafe {
            (*managed).tensor.shape = &raw mut (*managed).shape;
            (*managed).tensor.strides = &raw mut (*managed).stride;
            let capsule = ffi::PyCapsule_New(managed.cast(), NAME.as_ptr(), Some(destroy));
            if capsule.is_null() {
                delete(managed);
            }
            Bound::from_owned_ptr_or_err(python, capsule)
        }
    }

    fn begin_pass(&self, python: Python<'_>) -> PyResult<()> {
        self.call(python, Native::begin_pass)
    }

    fn end_pass(&self, python: Python<'_>) -> PyResult<()> {
        detached(python, || self.stream.end_pass())
    }

    fn enter(&self, python: Python<'_>, block: u32, stream: u64) -> PyResult<u64> {
        self.call(python, |native| native.enter(block, StreamHandle(stream)))
            .map(|ticket| ticket.0)
    }

    fn hold(&self, python: Python<'_>, parameters: Vec<usize>, stream: u64) -> PyResult<u64> {
        self.call(python, |native| {
            native.hold(&parameters, StreamHandle(stream))
        })
        .map(|ticket| ticket.0)
    }

    fn leave(&self, python: Python<'_>, ticket: u64, stream: u64) -> PyResult<()> {
        self.call(python, |native| {
            native.leave(Ticket(ticket), StreamHandle(stream))
        })
    }

    fn keep(&self, python: Python<'_>, parameters: Vec<usize>, stream: u64) -> PyResult<()> {
        self.call(python, |native| {
            native.keep(&parameters, StreamHandle(stream))
        })
    }

    fn resize(&self, python: Python<'_>, memory: u64) -> PyResult<()> {
        self.call(python, |native| native.resize(memory))
    }

    fn stats<'py>(&self, python: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let (stats, device) = detached(python, || self.stream.stats())?;
        let dict = counters(python, &stats, self.stream.source_name())?;
        for (name, value) in [
            ("host_budget", device.host_budget),
            ("host_used", device.host_used),
            ("host_holds_all", u64::from(device.host_holds_all)),
            ("copied_bytes", device.copied_bytes),
            ("pass_copied_bytes", device.pass_copied_bytes),
            ("held", device.held),
        ] {
            dict.set_item(name, value)?;
        }
        Ok(dict)
    }

    fn events(&self, python: Python<'_>, record: bool) -> PyResult<Vec<Row>> {
        let records = detached(python, || self.stream.record(record))?;
        Ok(records.into_iter().map(row).collect())
    }

    fn close(&self, python: Python<'_>) -> PyResult<()> {
        detached(python, || self.stream.close())
    }

    #[getter]
    fn closed(&self) -> bool {
        self.stream.is_closed()
    }
}

const NAME: &std::ffi::CStr = c"dltensor";

/// `DLTensor` of dlpack.h, version 0: what every consumer of capsules named "dltensor" reads.
#[repr(C)]
struct Tensor {
    data: *mut c_void,
    device: (i32, i32),
    dimensions: i32,
    dtype: [u8; 4],
    shape: *mut i64,
    strides: *mut i64,
    byte_offset: u64,
}

/// `DLManagedTensor`, with what it needs behind it.
#[repr(C)]
struct Managed {
    tensor: Tensor,
    context: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut Managed)>,
    shape: i64,
    stride: i64,
    /// Weights can't outlive their memory.
    _stream: Arc<Native>,
}

/// Frees what a consumer is done with.
///
/// # Safety
/// `managed` was made by [`DeviceStream::dlpack`] and is not used any more.
unsafe extern "C" fn delete(managed: *mut Managed) {
    // SAFETY: by the contract of this function.
    drop(unsafe { Box::from_raw(managed) });
}

/// Frees what nobody has taken; who takes it gives the capsule another name.
///
/// # Safety
/// Called by Python for a capsule made by [`DeviceStream::dlpack`].
unsafe extern "C" fn destroy(capsule: *mut ffi::PyObject) {
    // SAFETY: a capsule, by the contract of this function; its pointer is ours while it has our name.
    unsafe {
        if ffi::PyCapsule_IsValid(capsule, NAME.as_ptr()) == 1 {
            delete(ffi::PyCapsule_GetPointer(capsule, NAME.as_ptr()).cast());
        }
    }
}
