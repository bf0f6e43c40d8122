//! Memory that kernels work in, kept for the next use: to have it mapped and cleared anew each time takes a tenth of a
//! convolutional network's time, and leaves holes in the allocator's heap.

use super::convert::Real;
use crate::memory::{filled, raise};
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};
use weightstream::Dtype;

/// Fewer numbers than this are left to the allocator.
const KEPT: usize = 16 << 10;

/// What no kernel uses now.
static FREE: Mutex<Vec<Vec<f32>>> = Mutex::new(Vec::new());

/// Numbers to work with; the next kernel gets their memory when they are dropped.
pub struct Scratch {
    memory: Vec<f32>,
    length: usize,
}

impl Scratch {
    /// `length` numbers; what they are is not defined.
    pub fn new(length: usize) -> Self {
        let memory = reuse(length).unwrap_or_else(|| filled(0.0, length).unwrap_or_else(raise));
        Self { memory, length }
    }

    /// Room for `length` elements in float32; none where they are that already.
    pub fn to_widen<T: Real>(length: usize) -> Self {
        Self::new(if T::DTYPE == Dtype::F32 { 0 } else { length })
    }

    /// `length` zeros.
    pub fn zeros(length: usize) -> Self {
        let mut reused = reuse(length);
        if let Some(memory) = &mut reused {
            memory[..length].fill(0.0);
        }
        let memory = reused.unwrap_or_else(|| filled(0.0, length).unwrap_or_else(raise));
        Self { memory, length }
    }
}

impl Deref for Scratch {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.memory[..self.length]
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.memory[..self.length]
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.memory.len() >= KEPT {
            free().push(std::mem::take(&mut self.memory));
        }
    }
}

/// Gives what no kernel uses now back to the system.
pub fn release_scratch() {
    free().clear();
}

/// The shortest free memory that is long enough. Where none is, the longest goes back to the system: what is made in
/// its place serves both.
fn reuse(length: usize) -> Option<Vec<f32>> {
    if length < KEPT {
        return None;
    }
    let mut free = free();
    let fitting = (0..free.len())
        .filter(|&index| free[index].len() >= length)
        .min_by_key(|&index| free[index].len());
    if fitting.is_none() {
        let longest = (0..free.len()).max_by_key(|&index| free[index].len());
        drop(longest.map(|index| free.swap_remove(index)));
    }
    fitting.map(|index| free.swap_remove(index))
}

fn free() -> MutexGuard<'static, Vec<Vec<f32>>> {
    FREE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_defined_has_its_length_and_zeros_are_zeros() {
        for length in [0, 5, KEPT - 1, KEPT, 3 * KEPT, 2 * KEPT] {
            Scratch::new(length).fill(7.0);
            assert_eq!(Scratch::new(length).len(), length);
            let zeros = Scratch::zeros(length);
            assert_eq!(zeros.len(), length);
            assert!(zeros.iter().all(|&number| number == 0.0));
        }
    }
}
