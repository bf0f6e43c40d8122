//! The bytes behind tensors: this file is the only one that turns addresses into slices.

use super::Element;
use crate::OperatorError;
use crate::arena::Block;
use std::any::Any;
use std::ops::{Deref, DerefMut, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

/// Bytes that tensors share. Activations can be written, weights can't.
#[derive(Clone)]
pub enum Storage {
    /// Memory of the arena; given back when the last tensor that uses it is dropped.
    Owned(Arc<Owned>),
    /// Bytes at an address that somebody else keeps.
    Weight(Weight),
}

/// A block of the arena and who uses it right now.
pub struct Owned {
    block: Block,
    /// Readers, or -1 while there is a writer.
    users: AtomicI32,
}

/// Bytes that somebody else keeps readable.
#[derive(Clone)]
pub struct Weight {
    address: usize,
    bytes: usize,
    _keeper: Arc<dyn Any + Send + Sync>,
}

impl Storage {
    pub(crate) fn owned(block: Block) -> Self {
        Self::Owned(Arc::new(Owned {
            block,
            users: AtomicI32::new(0),
        }))
    }

    /// Bytes at `address`, read-only.
    ///
    /// # Safety
    /// `bytes` bytes at `address` are readable and don't change for as long as `keeper` lives.
    pub unsafe fn borrowed(
        address: usize,
        bytes: usize,
        keeper: Arc<dyn Any + Send + Sync>,
    ) -> Self {
        Self::Weight(Weight {
            address,
            bytes,
            _keeper: keeper,
        })
    }

    fn address(&self) -> usize {
        match self {
            Self::Owned(owned) => owned.block.address(),
            Self::Weight(weight) => weight.address,
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Owned(owned) => owned.block.bytes(),
            Self::Weight(weight) => weight.bytes,
        }
    }

    /// Whether it is somebody else's memory, which can't be written.
    pub fn is_weight(&self) -> bool {
        matches!(self, Self::Weight(_))
    }

    /// Whether both are the same memory.
    pub fn is_same(&self, other: &Self) -> bool {
        self.address() == other.address()
    }

    /// Whether nobody else has this memory, so that it may be written over.
    pub fn is_unique(&self) -> bool {
        matches!(self, Self::Owned(owned) if Arc::strong_count(owned) == 1)
    }

    /// Elements `range` for reading.
    pub(crate) fn read<T: Element>(
        &self,
        range: Range<usize>,
    ) -> Result<Elements<'_, T>, OperatorError> {
        let address = self.place::<T>(&range)?;
        let owned = match self {
            Self::Owned(owned) => {
                owned.begin_read()?;
                Some(owned.as_ref())
            }
            Self::Weight(_) => None,
        };
        // SAFETY: `place` checked bounds and alignment; every bit pattern is an element; a weight never changes while
        // `self` keeps it, and arena memory has no writer while it is counted as read.
        let slice = unsafe { std::slice::from_raw_parts(address as *const T, range.len()) };
        Ok(Elements { slice, owned })
    }

    /// Elements `range` for writing.
    pub(crate) fn write<T: Element>(
        &self,
        range: Range<usize>,
    ) -> Result<ElementsMut<'_, T>, OperatorError> {
        let address = self.place::<T>(&range)?;
        let Self::Owned(owned) = self else {
            return Err(OperatorError::ReadOnly);
        };
        owned.begin_write()?;
        // SAFETY: as in `read`, and there is no other reader or writer until the guard is dropped.
        let slice = unsafe { std::slice::from_raw_parts_mut(address as *mut T, range.len()) };
        Ok(ElementsMut { slice, owned })
    }

    /// The address of the first element, after checking that all lie within.
    fn place<T: Element>(&self, range: &Range<usize>) -> Result<usize, OperatorError> {
        let size = size_of::<T>();
        let within = range
            .end
            .checked_mul(size)
            .is_some_and(|end| end <= self.bytes() && range.start <= range.end);
        let address = self.address() + range.start * size;
        if !within || !address.is_multiple_of(align_of::<T>()) {
            return Err(OperatorError::OutsideStorage {
                elements: range.end,
                bytes: self.bytes(),
            });
        }
        Ok(address)
    }
}

impl Owned {
    fn begin_read(&self) -> Result<(), OperatorError> {
        self.users
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, |users| {
                (users >= 0).then_some(users + 1)
            })
            .map(drop)
            .map_err(|_| OperatorError::Aliased)
    }

    fn begin_write(&self) -> Result<(), OperatorError> {
        self.users
            .compare_exchange(0, -1, Ordering::Acquire, Ordering::Relaxed)
            .map(drop)
            .map_err(|_| OperatorError::Aliased)
    }
}

/// Elements of a tensor, for reading. While it lives the memory can't be written.
pub struct Elements<'s, T> {
    slice: &'s [T],
    owned: Option<&'s Owned>,
}

impl<T> Deref for Elements<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.slice
    }
}

impl<T> Drop for Elements<'_, T> {
    fn drop(&mut self) {
        if let Some(owned) = self.owned {
            owned.users.fetch_sub(1, Ordering::Release);
        }
    }
}

/// Elements of a tensor, for writing. While it lives nobody else can read or write the memory.
pub struct ElementsMut<'s, T> {
    slice: &'s mut [T],
    owned: &'s Owned,
}

impl<T> Deref for ElementsMut<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.slice
    }
}

impl<T> DerefMut for ElementsMut<'_, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        self.slice
    }
}

impl<T> Drop for ElementsMut<'_, T> {
    fn drop(&mut self) {
        self.owned.users.store(0, Ordering::Release);
    }
}
