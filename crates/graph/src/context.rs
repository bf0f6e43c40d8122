use crate::arena::Arena;
use crate::generator::Generator;
use crate::tensor::{contiguous_strides, itemsize};
use crate::{Element, OperatorError, Storage, Tensor, Walk};
use half::{bf16, f16};
use std::sync::{Arc, Mutex, PoisonError};
use weightstream::Dtype;

/// What an operator computes with: memory for its results, the number of threads, and where random numbers come from.
#[derive(Clone)]
pub struct Context {
    arena: Arc<Arena>,
    threads: usize,
    generator: Arc<Mutex<Generator>>,
}

impl Default for Context {
    fn default() -> Self {
        Self::new(Arc::default(), rayon::current_num_threads())
    }
}

impl Context {
    /// Results are allocated in `arena`; matrix products use `threads` threads.
    pub fn new(arena: Arc<Arena>, threads: usize) -> Self {
        Self {
            arena,
            threads,
            generator: Arc::default(),
        }
    }

    /// Where results live.
    pub fn arena(&self) -> &Arc<Arena> {
        &self.arena
    }

    /// Begins random numbers anew, as `torch.manual_seed` does.
    pub fn seed(&self, seed: u64) {
        self.draw(|generator| *generator = Generator::new(seed));
    }

    /// Draws random numbers; who draws at the same time waits.
    pub(crate) fn draw<R>(&self, numbers: impl FnOnce(&mut Generator) -> R) -> R {
        let mut generator = self
            .generator
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        numbers(&mut generator)
    }

    /// How many threads may compute at once.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// A contiguous tensor with room for its elements; what they are is not defined.
    ///
    /// # Errors
    /// There is no memory.
    pub fn empty(&self, dtype: Dtype, shape: &[usize]) -> Result<Tensor, OperatorError> {
        let bytes = shape
            .iter()
            .try_fold(itemsize(dtype), |bytes, &size| bytes.checked_mul(size))
            .ok_or(OperatorError::Memory { bytes: usize::MAX })?;
        let storage = Storage::owned(self.arena.allocate(bytes)?);
        Tensor::new(storage, dtype, shape.to_vec(), contiguous_strides(shape), 0)
    }

    /// A contiguous tensor of `elements`.
    ///
    /// # Errors
    /// The shape has another number of elements, or there is no memory.
    pub fn tensor<T: Element>(
        &self,
        elements: &[T],
        shape: &[usize],
    ) -> Result<Tensor, OperatorError> {
        let tensor = self.empty(T::DTYPE, shape)?;
        if tensor.count() != elements.len() {
            return Err(OperatorError::Shape {
                expected: format!("{} elements", elements.len()),
                got: shape.to_vec(),
            });
        }
        tensor.elements_mut::<T>()?.copy_from_slice(elements);
        Ok(tensor)
    }

    /// A contiguous tensor whose elements are given as bytes of this machine's order.
    ///
    /// # Errors
    /// The shape has another number of bytes, or there is no memory.
    pub fn tensor_of_bytes(
        &self,
        dtype: Dtype,
        bytes: &[u8],
        shape: &[usize],
    ) -> Result<Tensor, OperatorError> {
        let tensor = self.empty(dtype, shape)?;
        let mut target = tensor.storage().write::<u8>(0..tensor.storage().bytes())?;
        if target.len() != bytes.len() {
            return Err(OperatorError::Shape {
                expected: format!("{} bytes of {dtype}", bytes.len()),
                got: shape.to_vec(),
            });
        }
        target.copy_from_slice(bytes);
        drop(target);
        Ok(tensor)
    }

    /// A tensor of no dimensions.
    ///
    /// # Errors
    /// There is no memory.
    pub fn scalar<T: Element>(&self, value: T) -> Result<Tensor, OperatorError> {
        self.tensor(&[value], &[])
    }

    /// The tensor, copied where it is not contiguous.
    ///
    /// # Errors
    /// There is no memory.
    pub fn contiguous(&self, tensor: &Tensor) -> Result<Tensor, OperatorError> {
        if tensor.is_contiguous() {
            return Ok(tensor.clone());
        }
        self.copied(tensor)
    }

    /// A contiguous copy.
    ///
    /// # Errors
    /// There is no memory.
    pub fn copied(&self, tensor: &Tensor) -> Result<Tensor, OperatorError> {
        let copy = self.empty(tensor.dtype(), tensor.shape())?;
        self.assign(&copy, tensor)?;
        Ok(copy)
    }

    /// The tensor in another dtype, contiguous; itself where it has that dtype and is contiguous.
    ///
    /// # Errors
    /// There is no memory, or a dtype that can't be computed with.
    pub fn cast(&self, tensor: &Tensor, dtype: Dtype) -> Result<Tensor, OperatorError> {
        if tensor.dtype() == dtype {
            return self.contiguous(tensor);
        }
        let cast = self.empty(dtype, tensor.shape())?;
        self.assign(&cast, tensor)?;
        Ok(cast)
    }

    /// Writes the elements of `from`, broadcast and converted, into the memory of `to`: what in-place operators end
    /// with. The two may share memory.
    ///
    /// # Errors
    /// The shapes don't go together, `to` is a weight, or a dtype that can't be computed with.
    pub fn assign(&self, to: &Tensor, from: &Tensor) -> Result<(), OperatorError> {
        let from = from.expand(to.shape())?;
        if to.storage().is_same(from.storage()) {
            // An element may be read after it has been written.
            let apart = self.empty(from.dtype(), from.shape())?;
            self.assign(&apart, &from)?;
            return self.assign(to, &apart);
        }
        if to.is_complex() || from.is_complex() {
            return self.assign_complex(to, &from);
        }
        macro_rules! with_target {
            ($source:ty) => {
                match to.dtype() {
                    Dtype::F64 => convert::<$source, f64>(to, &from),
                    Dtype::F32 => convert::<$source, f32>(to, &from),
                    Dtype::BF16 => convert::<$source, bf16>(to, &from),
                    Dtype::F16 => convert::<$source, f16>(to, &from),
                    Dtype::I64 => convert::<$source, i64>(to, &from),
                    Dtype::I32 => convert::<$source, i32>(to, &from),
                    Dtype::I16 => convert::<$source, i16>(to, &from),
                    Dtype::I8 => convert::<$source, i8>(to, &from),
                    Dtype::BOOL => transfer::<$source, u8>(to, &from, |value| {
                        u8::from(value != <$source>::default())
                    }),
                    Dtype::U8 => convert::<$source, u8>(to, &from),
                    got => Err(not_a_number(got)),
                }
            };
        }
        match from.dtype() {
            Dtype::F64 => with_target!(f64),
            Dtype::F32 => with_target!(f32),
            Dtype::BF16 => with_target!(bf16),
            Dtype::F16 => with_target!(f16),
            Dtype::I64 => with_target!(i64),
            Dtype::I32 => with_target!(i32),
            Dtype::I16 => with_target!(i16),
            Dtype::I8 => with_target!(i8),
            Dtype::U8 | Dtype::BOOL => with_target!(u8),
            got => Err(not_a_number(got)),
        }
    }

    /// As [`assign`](Self::assign) where one of them is complex: a real number has no imaginary part, and an imaginary
    /// part has no place in a real number.
    fn assign_complex(&self, to: &Tensor, from: &Tensor) -> Result<(), OperatorError> {
        match (to.is_complex(), from.is_complex()) {
            (true, true) => transfer::<[f32; 2], [f32; 2]>(to, from, |value| value),
            (true, false) => {
                self.assign(&to.part(0)?, from)?;
                self.assign(&to.part(1)?, &self.scalar(0i64)?)
            }
            _ if to.dtype() == Dtype::BOOL => {
                transfer::<[f32; 2], u8>(to, from, |value| u8::from(value != [0.0; 2]))
            }
            _ => self.assign(to, &from.part(0)?),
        }
    }
}

fn not_a_number(got: Dtype) -> OperatorError {
    OperatorError::Dtype {
        expected: "numbers".into(),
        got,
    }
}

/// Conversion between elements, as torch converts: towards zero, wrapping, through float32 for halves.
trait Convert<T> {
    fn convert(self) -> T;
}

macro_rules! convert_numbers {
    ($($from:ty => [$($to:ty),*]);* $(;)?) => {
        $($(impl Convert<$to> for $from {
            fn convert(self) -> $to { self as $to }
        })*)*
    };
}
macro_rules! convert_halves {
    ($half:ty: [$($number:ty),*]) => {
        $(
            impl Convert<$number> for $half {
                fn convert(self) -> $number { self.to_f32() as $number }
            }
            impl Convert<$half> for $number {
                fn convert(self) -> $half { <$half>::from_f32(self as f32) }
            }
        )*
        impl Convert<$half> for $half {
            fn convert(self) -> $half { self }
        }
    };
}
convert_numbers! {
    f64 => [f64, f32, i64, i32, i16, i8];
    f32 => [f64, f32, i64, i32, i16, i8];
    i64 => [f64, f32, i64, i32, i16, i8, u8];
    i32 => [f64, f32, i64, i32, i16, i8, u8];
    i16 => [f64, f32, i64, i32, i16, i8, u8];
    i8 => [f64, f32, i64, i32, i16, i8, u8];
    u8 => [f64, f32, i64, i32, i16, i8, u8];
}
convert_halves!(bf16: [f64, f32, i64, i32, i16, i8, u8]);
convert_halves!(f16: [f64, f32, i64, i32, i16, i8, u8]);

impl Convert<u8> for f64 {
    fn convert(self) -> u8 {
        self as i64 as u8
    }
}
impl Convert<u8> for f32 {
    fn convert(self) -> u8 {
        self as i64 as u8
    }
}
impl Convert<f16> for bf16 {
    fn convert(self) -> f16 {
        f16::from_f32(self.to_f32())
    }
}
impl Convert<bf16> for f16 {
    fn convert(self) -> bf16 {
        bf16::from_f32(self.to_f32())
    }
}

fn convert<S: Element + Convert<T>, T: Element>(
    to: &Tensor,
    from: &Tensor,
) -> Result<(), OperatorError> {
    transfer(to, from, S::convert)
}

fn transfer<S: Element, T: Element>(
    to: &Tensor,
    from: &Tensor,
    convert: impl Fn(S) -> T,
) -> Result<(), OperatorError> {
    let source = from.strided::<S>()?;
    let mut target = to.strided_mut::<T>()?;
    if to.count() == 0 {
        return Ok(());
    }
    let walk = Walk::new(to.shape(), [to.strides(), from.strides()]);
    walk.for_each(0..walk.runs(), |[to, from]| {
        if walk.steps == [1, 1] {
            let run = &source[from..from + walk.length];
            target[to..to + walk.length]
                .iter_mut()
                .zip(run)
                .for_each(|(target, &value)| *target = convert(value));
        } else {
            for index in 0..walk.length {
                target[to + index * walk.steps[0]] = convert(source[from + index * walk.steps[1]]);
            }
        }
    });
    Ok(())
}
