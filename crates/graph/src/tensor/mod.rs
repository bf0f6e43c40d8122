//! Tensors: a dtype, a shape, strides, and bytes that several of them may share.

mod complex;
mod element;
mod storage;
mod view;
mod walk;

pub use element::Element;
pub use storage::{Elements, ElementsMut, Storage};
pub use view::broadcast_shapes;
pub use walk::Walk;

use crate::OperatorError;
use weightstream::Dtype;

/// An array of elements in memory. Views of one tensor share its bytes; cloning copies none.
#[derive(Clone)]
pub struct Tensor {
    dtype: Dtype,
    shape: Vec<usize>,
    /// Elements from one entry to the next along each dimension.
    strides: Vec<usize>,
    /// Elements from the storage's first byte to the tensor's first element.
    offset: usize,
    storage: Storage,
}

impl Tensor {
    /// A tensor over `storage`.
    ///
    /// # Errors
    /// An element would lie outside the storage, shape and strides have different lengths, or there are more elements
    /// than can be counted.
    pub fn new(
        storage: Storage,
        dtype: Dtype,
        shape: Vec<usize>,
        strides: Vec<usize>,
        offset: usize,
    ) -> Result<Self, OperatorError> {
        if shape.len() != strides.len() {
            return Err(OperatorError::NotContiguous { shape, strides });
        }
        element_count(&shape)?;
        // An empty tensor has no place: a view may begin where nothing is any more.
        let offset = if shape.contains(&0) { 0 } else { offset };
        let tensor = Self {
            dtype,
            shape,
            strides,
            offset,
            storage,
        };
        let end = tensor.end().ok_or(OperatorError::OutsideStorage {
            elements: usize::MAX,
            bytes: tensor.storage.bytes(),
        })?;
        if end
            .checked_mul(tensor.itemsize())
            .is_none_or(|bytes| bytes > tensor.storage.bytes())
        {
            return Err(OperatorError::OutsideStorage {
                elements: end,
                bytes: tensor.storage.bytes(),
            });
        }
        Ok(tensor)
    }

    /// What one element is.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Entries along each dimension.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Elements from one entry to the next along each dimension.
    pub fn strides(&self) -> &[usize] {
        &self.strides
    }

    /// Elements from the storage's first byte to the tensor's first element.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// How many dimensions.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// How many elements.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes of one element.
    pub fn itemsize(&self) -> usize {
        itemsize(self.dtype)
    }

    /// The bytes behind it.
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// Whether its elements follow each other in memory in the order of their indices.
    pub fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        for (&size, &stride) in self.shape.iter().zip(&self.strides).rev() {
            if size != 1 && stride != expected {
                return self.count() == 0;
            }
            expected *= size;
        }
        true
    }

    /// Whether both are the same elements of the same memory.
    pub fn is_same(&self, other: &Self) -> bool {
        self.storage.is_same(&other.storage)
            && self.offset == other.offset
            && self.shape == other.shape
            && self.strides == other.strides
    }

    /// A dimension that may be counted from the end, as an index.
    ///
    /// # Errors
    /// There is no such dimension.
    pub fn dimension(&self, dim: i64) -> Result<usize, OperatorError> {
        dimension(dim, self.rank())
    }

    /// All elements in order.
    ///
    /// # Errors
    /// It is not contiguous, has another dtype, or is being written.
    pub fn elements<T: Element>(&self) -> Result<Elements<'_, T>, OperatorError> {
        self.check::<T>()?;
        self.check_contiguous()?;
        self.storage.read(self.offset..self.offset + self.count())
    }

    /// All elements in order, to be written.
    ///
    /// # Errors
    /// It is not contiguous, has another dtype, is a weight, or is being read or written.
    pub fn elements_mut<T: Element>(&self) -> Result<ElementsMut<'_, T>, OperatorError> {
        self.check::<T>()?;
        self.check_contiguous()?;
        self.storage.write(self.offset..self.offset + self.count())
    }

    /// All elements in order, as bytes of this machine's order.
    ///
    /// # Errors
    /// It is not contiguous, or is being written.
    pub fn bytes(&self) -> Result<Elements<'_, u8>, OperatorError> {
        self.check_contiguous()?;
        let start = self.offset * self.itemsize();
        self.storage
            .read(start..start + self.count() * self.itemsize())
    }

    /// Memory from the first element to the last one, whatever lies between: to be used with the strides, counted
    /// from its start (see [`Walk`]).
    ///
    /// # Errors
    /// It has another dtype, or is being written.
    pub fn strided<T: Element>(&self) -> Result<Elements<'_, T>, OperatorError> {
        self.check::<T>()?;
        self.storage
            .read(self.offset..self.end().unwrap_or(usize::MAX))
    }

    /// As [`strided`](Self::strided), to be written.
    ///
    /// # Errors
    /// It has another dtype, is a weight, or is being read or written.
    pub fn strided_mut<T: Element>(&self) -> Result<ElementsMut<'_, T>, OperatorError> {
        self.check::<T>()?;
        self.storage
            .write(self.offset..self.end().unwrap_or(usize::MAX))
    }

    /// The only element, as a number.
    ///
    /// # Errors
    /// It has more than one element, or one that is not a number.
    pub fn item(&self) -> Result<f64, OperatorError> {
        if self.count() != 1 {
            return Err(OperatorError::Shape {
                expected: "one element".into(),
                got: self.shape.clone(),
            });
        }
        macro_rules! first {
            ($type:ty, $convert:expr) => {{ self.strided::<$type>()?.first().copied().map($convert) }};
        }
        let value = match self.dtype {
            Dtype::F64 => first!(f64, |value| value),
            Dtype::F32 => first!(f32, f64::from),
            Dtype::BF16 => first!(half::bf16, f64::from),
            Dtype::F16 => first!(half::f16, f64::from),
            Dtype::I64 => first!(i64, |value| value as f64),
            Dtype::I32 => first!(i32, f64::from),
            Dtype::I16 => first!(i16, f64::from),
            Dtype::I8 => first!(i8, f64::from),
            Dtype::U8 | Dtype::BOOL => first!(u8, f64::from),
            got => {
                return Err(OperatorError::Dtype {
                    expected: "numbers".into(),
                    got,
                });
            }
        };
        value.ok_or(OperatorError::OutsideStorage {
            elements: 1,
            bytes: self.storage.bytes(),
        })
    }

    /// One past the last element, counted from the storage's start.
    fn end(&self) -> Option<usize> {
        if self.shape.contains(&0) {
            return Some(self.offset);
        }
        let mut last = self.offset;
        for (&size, &stride) in self.shape.iter().zip(&self.strides) {
            last = last.checked_add(stride.checked_mul(size - 1)?)?;
        }
        last.checked_add(1)
    }

    fn check<T: Element>(&self) -> Result<(), OperatorError> {
        if T::holds(self.dtype) {
            return Ok(());
        }
        Err(OperatorError::Dtype {
            expected: T::DTYPE.to_string(),
            got: self.dtype,
        })
    }

    fn check_contiguous(&self) -> Result<(), OperatorError> {
        if self.is_contiguous() {
            return Ok(());
        }
        Err(OperatorError::NotContiguous {
            shape: self.shape.clone(),
            strides: self.strides.clone(),
        })
    }
}

impl std::fmt::Debug for Tensor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "Tensor({} {:?}, strides {:?})",
            self.dtype, self.shape, self.strides
        )
    }
}

/// How many elements a tensor of this shape has, also where it repeats them without memory.
///
/// # Errors
/// More than can be counted in bytes.
pub fn element_count(shape: &[usize]) -> Result<usize, OperatorError> {
    /// Of the largest element.
    const BYTES: usize = 16;
    let count = shape
        .iter()
        .try_fold(1usize, |count, &size| count.checked_mul(size));
    // A dimension of no entries makes it empty, whatever the others are; their product still has to be a number.
    let whole = shape.iter().filter(|size| **size > 0);
    let fits = whole
        .copied()
        .try_fold(BYTES, usize::checked_mul)
        .is_some_and(|bytes| bytes <= isize::MAX as usize);
    count.filter(|_| fits).ok_or_else(|| OperatorError::Shape {
        expected: "a shape whose elements can be counted".into(),
        got: shape.to_vec(),
    })
}

/// Bytes of one element.
pub fn itemsize(dtype: Dtype) -> usize {
    (dtype.bits() / 8).max(1) as usize
}

/// A dimension of `rank`, or of one more than a scalar's none, that may be counted from the end.
///
/// # Errors
/// There is no such dimension.
pub fn dimension(dim: i64, rank: usize) -> Result<usize, OperatorError> {
    let size = rank.max(1);
    let index = if dim < 0 { dim + size as i64 } else { dim };
    usize::try_from(index)
        .ok()
        .filter(|&index| index < size)
        .ok_or(OperatorError::Index { index: dim, size })
}

/// The strides of a contiguous tensor.
pub fn contiguous_strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for dim in (1..shape.len()).rev() {
        strides[dim - 1] = strides[dim] * shape[dim].max(1);
    }
    strides
}
