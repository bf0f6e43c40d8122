//! Other shapes and strides over the same bytes.

use super::Tensor;
use crate::OperatorError;

impl Tensor {
    /// The same bytes seen with another shape, strides and offset (in elements from the storage's start).
    ///
    /// # Errors
    /// An element would lie outside the storage.
    pub fn as_strided(
        &self,
        shape: Vec<usize>,
        strides: Vec<usize>,
        offset: usize,
    ) -> Result<Tensor, OperatorError> {
        Tensor::new(self.storage.clone(), self.dtype, shape, strides, offset)
    }

    /// The dimensions in another order.
    ///
    /// # Errors
    /// `order` is not a permutation of the dimensions.
    pub fn permute(&self, order: &[usize]) -> Result<Tensor, OperatorError> {
        let mut seen = vec![false; self.rank()];
        for &dim in order {
            match seen.get_mut(dim) {
                Some(seen) if !*seen => *seen = true,
                _ => break,
            }
        }
        if order.len() != self.rank() || seen.contains(&false) {
            return Err(OperatorError::Unsupported(format!(
                "expected a permutation of {} dimensions, got {order:?}",
                self.rank()
            )));
        }
        let pick = |from: &[usize]| order.iter().map(|&dim| from[dim]).collect();
        self.as_strided(pick(&self.shape), pick(&self.strides), self.offset)
    }

    /// Two dimensions exchanged.
    ///
    /// # Errors
    /// There are no such dimensions.
    pub fn transpose(&self, first: usize, second: usize) -> Result<Tensor, OperatorError> {
        let mut order: Vec<usize> = (0..self.rank()).collect();
        if first >= order.len() || second >= order.len() {
            return Err(OperatorError::Index {
                index: first.max(second) as i64,
                size: order.len(),
            });
        }
        order.swap(first, second);
        self.permute(&order)
    }

    /// Every `step`-th entry of `start..end` along a dimension.
    ///
    /// # Errors
    /// The dimension has fewer entries.
    pub fn narrow(
        &self,
        dim: usize,
        start: usize,
        end: usize,
        step: usize,
    ) -> Result<Tensor, OperatorError> {
        let size = self.shape.get(dim).copied().unwrap_or(0);
        if dim >= self.rank() || end > size || start > end || step == 0 {
            return Err(OperatorError::Index {
                index: end as i64,
                size,
            });
        }
        let (mut shape, mut strides) = (self.shape.clone(), self.strides.clone());
        shape[dim] = (end - start).div_ceil(step);
        let offset = self.offset + start * strides[dim];
        strides[dim] = strides[dim].saturating_mul(step);
        self.as_strided(shape, strides, offset)
    }

    /// One entry of a dimension, without the dimension.
    ///
    /// # Errors
    /// There is no such entry.
    pub fn select(&self, dim: usize, index: usize) -> Result<Tensor, OperatorError> {
        let one = self.narrow(dim, index, index.saturating_add(1), 1)?;
        let (mut shape, mut strides) = (one.shape, one.strides);
        shape.remove(dim);
        strides.remove(dim);
        self.as_strided(shape, strides, one.offset)
    }

    /// With a dimension of one entry more, before `dim`.
    ///
    /// # Errors
    /// `dim` is more than the rank.
    pub fn unsqueeze(&self, dim: usize) -> Result<Tensor, OperatorError> {
        if dim > self.rank() {
            return Err(OperatorError::Index {
                index: dim as i64,
                size: self.rank() + 1,
            });
        }
        let (mut shape, mut strides) = (self.shape.clone(), self.strides.clone());
        let stride = shape.get(dim).map_or(1, |size| {
            size.saturating_mul(strides.get(dim).copied().unwrap_or(1))
        });
        shape.insert(dim, 1);
        strides.insert(dim, stride);
        self.as_strided(shape, strides, self.offset)
    }

    /// Without a dimension of one entry; unchanged where it has more.
    ///
    /// # Errors
    /// Never, for a dimension that exists.
    pub fn squeeze(&self, dim: usize) -> Result<Tensor, OperatorError> {
        if self.shape.get(dim) != Some(&1) {
            return Ok(self.clone());
        }
        self.select(dim, 0)
    }

    /// Repeated without copying, by the rules of broadcasting.
    ///
    /// # Errors
    /// The shapes don't go together.
    pub fn expand(&self, shape: &[usize]) -> Result<Tensor, OperatorError> {
        let fail = || OperatorError::Shape {
            expected: format!("a shape that broadcasts to {shape:?}"),
            got: self.shape.clone(),
        };
        let added = shape.len().checked_sub(self.rank()).ok_or_else(fail)?;
        let mut strides = vec![0; shape.len()];
        for (dim, (&size, &stride)) in self.shape.iter().zip(&self.strides).enumerate() {
            if size == shape[added + dim] {
                strides[added + dim] = stride;
            } else if size != 1 {
                return Err(fail());
            }
        }
        self.as_strided(shape.to_vec(), strides, self.offset)
    }

    /// Another shape over the same elements in the same order, where that needs no copy; None where it does.
    ///
    /// # Errors
    /// The shape has another number of elements.
    pub fn view(&self, shape: &[usize]) -> Result<Option<Tensor>, OperatorError> {
        if super::element_count(shape)? != self.count() {
            return Err(OperatorError::Shape {
                expected: format!("as many elements as {shape:?}"),
                got: self.shape.clone(),
            });
        }
        match viewed_strides(&self.shape, &self.strides, shape) {
            None => Ok(None),
            Some(strides) => self
                .as_strided(shape.to_vec(), strides, self.offset)
                .map(Some),
        }
    }
}

/// The shape that both broadcast to.
///
/// # Errors
/// The shapes don't go together.
pub fn broadcast_shapes(first: &[usize], second: &[usize]) -> Result<Vec<usize>, OperatorError> {
    let rank = first.len().max(second.len());
    let size = |shape: &[usize], dim: usize| {
        (dim + shape.len())
            .checked_sub(rank)
            .map_or(1, |dim| shape[dim])
    };
    (0..rank)
        .map(|dim| match (size(first, dim), size(second, dim)) {
            (one, other) if one == other => Ok(one),
            (1, other) => Ok(other),
            (one, 1) => Ok(one),
            _ => Err(OperatorError::Shape {
                expected: format!("a shape that broadcasts with {first:?}"),
                got: second.to_vec(),
            }),
        })
        .collect()
}

/// Strides with which `shape` walks the same elements as `old` with `old_strides`; None where there are none.
fn viewed_strides(old: &[usize], old_strides: &[usize], shape: &[usize]) -> Option<Vec<usize>> {
    if old.contains(&0) {
        return Some(super::contiguous_strides(shape));
    }
    let mut strides = vec![1; shape.len()];
    let mut next = shape.len();
    // Runs of old dimensions that follow each other in memory are cut into new ones, from the last to the first.
    let mut dim = old.len();
    while dim > 0 {
        let stride = old_strides[dim - 1];
        let mut run = old[dim - 1];
        dim -= 1;
        while dim > 0 && (old[dim - 1] == 1 || old_strides[dim - 1] == run * stride || run == 1) {
            if run == 1 && old[dim - 1] != 1 {
                break;
            }
            run *= old[dim - 1];
            dim -= 1;
        }
        let mut cut = 1;
        while next > 0 && (cut < run || shape[next - 1] == 1) {
            next -= 1;
            strides[next] = stride * cut;
            cut *= shape[next];
        }
        if cut != run {
            return None;
        }
    }
    Some(strides)
}
