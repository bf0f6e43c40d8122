//! The Python face of weightstream: a thin PyO3 module. What it offers is written down in
//! `python/weightstream/_native.pyi`.

mod alarm;
mod boundary;
mod budget;
mod checkpoint;
mod command;
#[cfg(target_os = "linux")]
mod device;
mod errors;
mod faults;
mod logging;
mod packed;
mod program;
mod small_file;
mod stream;

use pyo3::prelude::*;

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    logging::listen();
    errors::register(module)?;
    module.add_function(wrap_pyfunction!(alarm::use_signal, module)?)?;
    module.add_function(wrap_pyfunction!(alarm::look, module)?)?;
    module.add_class::<budget::Budget>()?;
    module.add_class::<budget::Governor>()?;
    module.add_class::<checkpoint::Checkpoint>()?;
    module.add_class::<checkpoint::Contents>()?;
    module.add_class::<checkpoint::Tensor>()?;
    module.add_class::<faults::Faults>()?;
    module.add_class::<program::Program>()?;
    module.add_class::<stream::Parameter>()?;
    module.add_class::<stream::Stream>()?;
    module.add_function(wrap_pyfunction!(command::run_command, module)?)?;
    module.add_function(wrap_pyfunction!(small_file::read_small, module)?)?;
    module.add_function(wrap_pyfunction!(small_file::starts_with, module)?)?;
    module.add_function(wrap_pyfunction!(small_file::inside, module)?)?;
    module.add_function(wrap_pyfunction!(packed::seal, module)?)?;
    module.add_function(wrap_pyfunction!(packed::count_damages, module)?)?;
    #[cfg(target_os = "linux")]
    {
        module.add_class::<device::Device>()?;
        module.add_class::<device::DeviceStream>()?;
    }
    Ok(())
}
