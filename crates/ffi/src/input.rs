use crate::Dtype;
use crate::boundary::answered;
use std::ffi::{CString, c_char};
use std::ptr;
use weightstream_graph as graph;

/// What an input has to be.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A tensor.
    Tensor = 0,
    /// A number: a tensor of rank 0, of any dtype.
    Number = 1,
    /// What it was when the program was exported: NULL, and whatever is given is ignored.
    Constant = 2,
}

/// How many entries a dimension has: from `least` to `most`, which are the same where the size is fixed.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Dimension {
    /// The least.
    pub least: i64,
    /// The most.
    pub most: i64,
    /// NULL where the size is fixed. Else its name: dimensions of the same name have the same size. It belongs to the
    /// program.
    pub symbol: *const c_char,
}

/// What an input has to be. It belongs to the program.
pub struct Input {
    name: CString,
    kind: Kind,
    dtype: Dtype,
    dimensions: Vec<(i64, i64, Option<CString>)>,
}

impl From<&graph::Input> for Input {
    fn from(input: &graph::Input) -> Self {
        let (kind, dtype, dimensions) = match &input.kind {
            graph::InputKind::Tensor { dtype, shape } => (
                Kind::Tensor,
                (*dtype).into(),
                shape.iter().map(dimension).collect(),
            ),
            graph::InputKind::Number => (Kind::Number, Dtype::Unknown, Vec::new()),
            graph::InputKind::Constant => (Kind::Constant, Dtype::Unknown, Vec::new()),
        };
        Self {
            name: name(&input.name),
            kind,
            dtype,
            dimensions,
        }
    }
}

fn dimension(dimension: &graph::Dimension) -> (i64, i64, Option<CString>) {
    match dimension {
        graph::Dimension::Fixed(size) => {
            let size = i64::try_from(*size).unwrap_or(i64::MAX);
            (size, size, None)
        }
        graph::Dimension::Symbol {
            name: symbol,
            least,
            most,
        } => (*least, *most, Some(name(symbol))),
        graph::Dimension::Expression(expression) => (0, i64::MAX, Some(name(expression))),
    }
}

/// A name of Python's, which has no zero inside, for C.
pub(crate) fn name(text: &str) -> CString {
    CString::new(text).unwrap_or_default()
}

/// The parameter's name, and the way to it in nested containers: `past.0.keys`. NULL for NULL.
///
/// # Safety
/// `input` is NULL or comes from a program that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ws_input_name(input: *const Input) -> *const c_char {
    answered(ptr::null(), || {
        // SAFETY: the caller's promise.
        let input = unsafe { input.as_ref() };
        input.map_or(ptr::null(), |input| input.name.as_ptr())
    })
}

/// What has to be given; `WS_KIND_CONSTANT` for NULL.
///
/// # Safety
/// `input` is NULL or comes from a program that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ws_input_kind(input: *const Input) -> Kind {
    answered(Kind::Constant, || {
        // SAFETY: the caller's promise.
        unsafe { input.as_ref() }.map_or(Kind::Constant, |input| input.kind)
    })
}

/// What the tensor's elements have to be; `WS_DTYPE_UNKNOWN` for other kinds and for NULL.
///
/// # Safety
/// `input` is NULL or comes from a program that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ws_input_dtype(input: *const Input) -> Dtype {
    answered(Dtype::Unknown, || {
        // SAFETY: the caller's promise.
        unsafe { input.as_ref() }.map_or(Dtype::Unknown, |input| input.dtype)
    })
}

/// How many dimensions the tensor has; 0 for other kinds and for NULL.
///
/// # Safety
/// `input` is NULL or comes from a program that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ws_input_rank(input: *const Input) -> usize {
    answered(0, || {
        // SAFETY: the caller's promise.
        unsafe { input.as_ref() }.map_or(0, |input| input.dimensions.len())
    })
}

/// How many entries dimension `number` has; none where there is no such dimension.
///
/// # Safety
/// `input` is NULL or comes from a program that was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ws_input_dimension(input: *const Input, number: usize) -> Dimension {
    let none = Dimension {
        least: 0,
        most: 0,
        symbol: ptr::null(),
    };
    answered(none, || {
        // SAFETY: the caller's promise.
        let dimension = unsafe { input.as_ref() }.and_then(|input| input.dimensions.get(number));
        dimension.map_or(none, |(least, most, symbol)| Dimension {
            least: *least,
            most: *most,
            symbol: symbol
                .as_ref()
                .map_or(ptr::null(), |symbol| symbol.as_ptr()),
        })
    })
}
