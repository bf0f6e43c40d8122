//! Elements of any dtype, read and written in runs of a type that is computed in.

use super::convert::Convert;
use crate::{Element, Elements, ElementsMut, OperatorError, Tensor};
use half::{bf16, f16};
use weightstream::Dtype;

/// Elements of one run, at most.
pub const RUN: usize = 1024;

/// Calls a macro with all dtypes that can be computed with, after what it is given.
macro_rules! with_dtypes {
    ($macro:ident: $($first:tt)*) => {
        $macro! { $($first)* F64: f64, F32: f32, BF16: bf16, F16: f16, I64: i64, I32: i32, I16: i16, I8: i8, U8: u8 }
    };
}

macro_rules! readers {
    ($($dtype:ident: $element:ty),*) => {
        /// The memory of a tensor, for reading with its strides.
        #[allow(missing_docs)]
        pub enum Reader<'t> {
            $($dtype(Elements<'t, $element>),)*
        }

        /// Contiguous memory of a result.
        enum Target<'t> {
            $($dtype(ElementsMut<'t, $element>),)*
        }

        /// A part of a result.
        pub enum Part<'w> {
            $(#[allow(missing_docs)] $dtype(&'w mut [$element]),)*
        }

        impl<'t> Reader<'t> {
            /// Reads `tensor`.
            ///
            /// # Errors
            /// Its dtype can't be computed with, or it is being written.
            pub fn new(tensor: &'t Tensor) -> Result<Self, OperatorError> {
                Ok(match tensor.dtype() {
                    Dtype::BOOL => Self::U8(tensor.strided()?),
                    $(Dtype::$dtype => Self::$dtype(tensor.strided()?),)*
                    got => return Err(not_a_number(got)),
                })
            }
        }

        impl<'t> Target<'t> {
            fn new(tensor: &'t Tensor) -> Result<Self, OperatorError> {
                Ok(match tensor.dtype() {
                    Dtype::BOOL => Self::U8(tensor.elements_mut()?),
                    $(Dtype::$dtype => Self::$dtype(tensor.elements_mut()?),)*
                    got => return Err(not_a_number(got)),
                })
            }

            fn parts(&mut self, length: usize) -> Vec<Part<'_>> {
                match self {
                    $(Self::$dtype(elements) => elements.chunks_mut(length).map(Part::$dtype).collect(),)*
                }
            }
        }

        impl<'w> Part<'w> {
            /// How many elements.
            pub fn len(&self) -> usize {
                match self {
                    $(Self::$dtype(elements) => elements.len(),)*
                }
            }
        }
    };
}

macro_rules! computes {
    ($compute:ty, $same:ident; $($dtype:ident: $element:ty),*) => {
        impl Compute for $compute {
            fn read<'b>(reader: &'b Reader<'_>, offset: usize, step: usize, buffer: &'b mut [Self]) -> &'b [Self] {
                let length = buffer.len();
                match reader {
                    Reader::$same(elements) if step == 1 => return &elements[offset..offset + length],
                    $(Reader::$dtype(elements) => load(elements, offset, step, buffer),)*
                }
                buffer
            }

            fn write(part: &mut Part<'_>, at: usize, length: usize, boolean: bool, compute: impl FnOnce(&mut [Self])) {
                let mut buffer = [Self::default(); RUN];
                match part {
                    Part::$same(elements) => return compute(&mut elements[at..at + length]),
                    part => {
                        let buffer = &mut buffer[..length];
                        compute(buffer);
                        match part {
                            Part::U8(elements) if boolean => {
                                for (to, from) in elements[at..at + length].iter_mut().zip(buffer.iter()) {
                                    *to = u8::from(*from != Self::default());
                                }
                            }
                            $(Part::$dtype(elements) => Convert::<$element>::convert(&*buffer, &mut elements[at..at + length]),)*
                        }
                    }
                }
            }
        }
    };
}

with_dtypes!(readers:);
with_dtypes!(computes: f64, F64;);
with_dtypes!(computes: f32, F32;);
with_dtypes!(computes: i64, I64;);

/// A type that operators compute in: f32 for floating-point numbers of up to 32 bits, f64 for longer ones, i64 for
/// integers and booleans.
pub trait Compute: Element + PartialEq {
    /// Reads as many elements as `buffer` has, the first one at `offset`, `step` apart; without a copy where the
    /// memory already is what is wanted.
    fn read<'b>(
        reader: &'b Reader<'_>,
        offset: usize,
        step: usize,
        buffer: &'b mut [Self],
    ) -> &'b [Self];

    /// Has `compute` write `length` elements (at most [`RUN`]) from `at` on.
    fn write(
        part: &mut Part<'_>,
        at: usize,
        length: usize,
        boolean: bool,
        compute: impl FnOnce(&mut [Self]),
    );
}

/// Contiguous memory of a result, written in parts.
pub struct Writer<'t> {
    target: Target<'t>,
    /// Whether what is not zero is written as 1.
    pub boolean: bool,
}

impl<'t> Writer<'t> {
    /// Writes `tensor`, which is contiguous.
    ///
    /// # Errors
    /// It isn't, its dtype can't be computed with, or it is being read.
    pub fn new(tensor: &'t Tensor) -> Result<Self, OperatorError> {
        Ok(Self {
            target: Target::new(tensor)?,
            boolean: tensor.dtype() == Dtype::BOOL,
        })
    }

    /// Its memory in parts of `length` elements, of which the last one may have fewer.
    pub fn parts(&mut self, length: usize) -> Vec<Part<'_>> {
        self.target.parts(length)
    }
}

/// The dtype in which torch's result of `dtype` is computed here.
pub fn compute_dtype(dtype: Dtype) -> Dtype {
    match dtype {
        Dtype::F64 => Dtype::F64,
        Dtype::F32 | Dtype::BF16 | Dtype::F16 => Dtype::F32,
        _ => Dtype::I64,
    }
}

fn load<S: Convert<C>, C: Compute>(elements: &[S], offset: usize, step: usize, buffer: &mut [C]) {
    match step {
        1 => S::convert(&elements[offset..offset + buffer.len()], buffer),
        0 => {
            let mut one = [C::default()];
            S::convert(&elements[offset..=offset], &mut one);
            buffer.fill(one[0]);
        }
        _ => {
            let mut gathered = [S::default(); 64];
            for (block, buffer) in buffer.chunks_mut(64).enumerate() {
                let gathered = &mut gathered[..buffer.len()];
                let first = offset + block * 64 * step;
                for (to, from) in gathered
                    .iter_mut()
                    .zip(elements[first..].iter().step_by(step))
                {
                    *to = *from;
                }
                S::convert(gathered, buffer);
            }
        }
    }
}

fn not_a_number(got: Dtype) -> OperatorError {
    OperatorError::Dtype {
        expected: "numbers".into(),
        got,
    }
}
