//! `Program`: exported programs, for trying on the desktop what runs on the phone.

use crate::boundary::{caught, detached};
use crate::errors::from_program;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict};
use std::path::PathBuf;
use weightstream::Dtype;
use weightstream_graph::{OperatorError, Options, Value};

/// A value on its way between Python and Rust: (dtype, shape, bytes) of a tensor, or a number.
#[derive(FromPyObject)]
enum Given<'py> {
    Tensor((String, Vec<usize>, Bound<'py, PyBytes>)),
    Bool(bool),
    Int(i64),
    Float(f64),
    /// None, or whatever the program has its own value for.
    Other(#[allow(dead_code)] Bound<'py, PyAny>),
}

/// A program that `torch.export.save` wrote, run without torch.
#[pyclass(module = "weightstream._native", frozen)]
pub struct Program(weightstream_graph::Program);

#[pymethods]
impl Program {
    #[staticmethod]
    #[pyo3(signature = (path, memory = None, model = None, threads = None))]
    fn open(
        python: Python<'_>,
        path: PathBuf,
        memory: Option<u64>,
        model: Option<String>,
        threads: Option<usize>,
    ) -> PyResult<Self> {
        let options = Options {
            memory,
            model,
            threads,
            source: None,
        };
        detached(python, || weightstream_graph::Program::open(&path, options))?
            .map(Self)
            .map_err(from_program)
    }

    /// The serialised pytrees of inputs and outputs.
    fn structure(&self) -> (String, String) {
        let (inputs, outputs) = self.0.structure();
        (inputs.to_owned(), outputs.to_owned())
    }

    fn inputs(&self) -> Vec<String> {
        let names = self.0.inputs().iter().map(|input| input.name.clone());
        names.collect()
    }

    fn outputs(&self) -> Vec<String> {
        self.0.outputs().to_vec()
    }

    fn run<'py>(
        &self,
        python: Python<'py>,
        inputs: Vec<Given<'py>>,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let inputs = inputs
            .into_iter()
            .map(|input| self.taken(input))
            .collect::<PyResult<Vec<_>>>()?;
        let outputs = detached(python, || self.0.run(&inputs))?.map_err(from_program)?;
        outputs
            .into_iter()
            .map(|output| given(python, output))
            .collect()
    }

    fn reset(&self) {
        self.0.reset();
    }

    fn resize(&self, python: Python<'_>, memory: u64) -> PyResult<()> {
        detached(python, || self.0.resize(memory))?.map_err(from_program)
    }

    fn activation_peak(&self) -> usize {
        self.0.activation_peak()
    }

    fn stats<'py>(&self, python: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        crate::stream::counters(python, &self.0.stats(), self.0.source_name())
    }
}

impl Program {
    fn taken(&self, input: Given<'_>) -> PyResult<Value> {
        Ok(match input {
            Given::Tensor((dtype, shape, bytes)) => {
                let dtype = Dtype::from_name(&dtype).ok_or_else(|| {
                    pyo3::exceptions::PyTypeError::new_err(format!("unknown dtype {dtype}"))
                })?;
                let context = self.0.context();
                caught(|| context.tensor_of_bytes(dtype, bytes.as_bytes(), &shape))?
                    .map_err(|error| from_program(error.into()))?
                    .into()
            }
            Given::Bool(value) => value.into(),
            Given::Int(value) => value.into(),
            Given::Float(value) => value.into(),
            Given::Other(_) => Value::None,
        })
    }
}

fn given(python: Python<'_>, value: Value) -> PyResult<Bound<'_, PyAny>> {
    Ok(match value {
        Value::Tensor(tensor) => {
            let context = weightstream_graph::Context::default();
            let copied = caught(|| -> Result<_, OperatorError> {
                let tensor = context.contiguous(&tensor)?;
                Ok(PyByteArray::new(python, &tensor.bytes()?))
            })?;
            let bytes = copied.map_err(|error| from_program(error.into()))?;
            let parts = (tensor.dtype().name(), tensor.shape().to_vec(), bytes);
            parts.into_pyobject(python)?.into_any()
        }
        Value::Int(value) => value.into_pyobject(python)?.into_any(),
        Value::Float(value) => value.into_pyobject(python)?.into_any(),
        Value::Bool(value) => value.into_pyobject(python)?.to_owned().into_any(),
        Value::Text(text) => text.into_pyobject(python)?.into_any(),
        _ => python.None().into_bound(python),
    })
}
