//! The Python face of weightstream: a thin PyO3 module. What it offers is written down in
//! `python/weightstream/_native.pyi`.

mod checkpoint;
#[cfg(target_os = "linux")]
mod device;
mod errors;
mod program;
mod stream;

use pyo3::prelude::*;

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    errors::register(module)?;
    module.add_class::<checkpoint::Checkpoint>()?;
    module.add_class::<checkpoint::Contents>()?;
    module.add_class::<checkpoint::Tensor>()?;
    module.add_class::<program::Program>()?;
    module.add_class::<stream::Parameter>()?;
    module.add_class::<stream::Stream>()?;
    #[cfg(target_os = "linux")]
    {
        module.add_class::<device::Device>()?;
        module.add_class::<device::DeviceStream>()?;
    }
    Ok(())
}
