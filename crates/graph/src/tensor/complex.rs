//! Complex tensors and the real ones that they lie in.

use super::Tensor;
use crate::OperatorError;
use weightstream::Dtype;

impl Tensor {
    /// Whether its elements have a real and an imaginary part.
    pub fn is_complex(&self) -> bool {
        self.dtype == Dtype::C64
    }

    /// A complex tensor as a real one with a last dimension of two entries: the parts of each number.
    ///
    /// # Errors
    /// It is not complex.
    pub fn as_real(&self) -> Result<Tensor, OperatorError> {
        if !self.is_complex() {
            return Err(OperatorError::Dtype {
                expected: Dtype::C64.to_string(),
                got: self.dtype,
            });
        }
        let mut shape = self.shape.clone();
        let mut strides: Vec<usize> = self.strides.iter().map(|stride| stride * 2).collect();
        shape.push(2);
        strides.push(1);
        let offset = self.offset * 2;
        Tensor::new(self.storage.clone(), Dtype::F32, shape, strides, offset)
    }

    /// The real part (0) or the imaginary one (1) of a complex tensor, as a view.
    ///
    /// # Errors
    /// It is not complex.
    pub fn part(&self, part: usize) -> Result<Tensor, OperatorError> {
        self.as_real()?.select(self.rank(), part)
    }

    /// A float32 tensor whose last dimension has the two parts of each number, as a complex one.
    ///
    /// # Errors
    /// It is none, or its parts don't lie side by side.
    pub fn as_complex(&self) -> Result<Tensor, OperatorError> {
        let fits = self.dtype == Dtype::F32
            && self.shape.last() == Some(&2)
            && self.strides.last() == Some(&1)
            && self.offset.is_multiple_of(2)
            && self.strides[..self.rank() - 1]
                .iter()
                .zip(&self.shape)
                .all(|(stride, &size)| stride.is_multiple_of(2) || size <= 1);
        if !fits {
            return Err(OperatorError::Unsupported(format!(
                "expected pairs of F32 side by side, got {self:?}"
            )));
        }
        let last = self.rank() - 1;
        let strides = self.strides[..last].iter().map(|stride| stride / 2);
        Tensor::new(
            self.storage.clone(),
            Dtype::C64,
            self.shape[..last].to_vec(),
            strides.collect(),
            self.offset / 2,
        )
    }
}
