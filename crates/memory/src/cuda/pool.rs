//! The budget of device memory, and which part of it lies where.

use crate::cuda::{CudaError, Driver, Physical};
use std::sync::Arc;

/// A range of device addresses that nobody else gets, for as long as this lives.
pub struct Reservation {
    driver: Arc<dyn Driver>,
    address: u64,
    bytes: usize,
}

impl Reservation {
    /// Where it begins.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Whose addresses they are.
    pub fn driver(&self) -> &Arc<dyn Driver> {
        &self.driver
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Err(error) = self.driver.free(self.address, self.bytes) {
            log::debug!("device addresses are not given back: {error}");
        }
    }
}

/// A reserved range cut into chunks, and slots of physical memory that chunks are published in.
///
/// Its user sees to it that no work on the device is left that uses what it withdraws.
pub struct DevicePool {
    reservation: Arc<Reservation>,
    chunk_bytes: usize,
    slots: Vec<Option<Physical>>,
    /// The slot in which each chunk is published.
    published: Vec<Option<u32>>,
}

impl DevicePool {
    /// Reserves addresses for `chunks` of `chunk_bytes`, and allocates `slots` of that size.
    ///
    /// # Errors
    /// The device lacks the memory.
    pub fn new(
        driver: Arc<dyn Driver>,
        chunks: u32,
        chunk_bytes: usize,
        slots: usize,
    ) -> Result<Self, CudaError> {
        let bytes = chunk_bytes * (chunks as usize).max(1);
        let reservation = Reservation {
            address: driver.reserve(bytes)?,
            bytes,
            driver,
        };
        let mut pool = Self {
            reservation: Arc::new(reservation),
            chunk_bytes,
            slots: Vec::new(),
            published: vec![None; chunks as usize],
        };
        for slot in 0..slots as u32 {
            pool.hold(slot)?;
        }
        Ok(pool)
    }

    /// Allocates the memory of a slot, unless it has some.
    ///
    /// # Errors
    /// The device lacks the memory.
    pub fn hold(&mut self, slot: u32) -> Result<(), CudaError> {
        if self.slots.len() <= slot as usize {
            self.slots.resize(slot as usize + 1, None);
        }
        if let Some(place @ None) = self.slots.get_mut(slot as usize) {
            *place = Some(self.reservation.driver.create(self.chunk_bytes)?);
        }
        Ok(())
    }

    /// The addresses; they stay reserved while anybody holds this.
    pub fn reservation(&self) -> &Arc<Reservation> {
        &self.reservation
    }

    /// Bytes of one chunk.
    pub fn chunk_bytes(&self) -> usize {
        self.chunk_bytes
    }

    /// Where a chunk lies when it is published.
    pub fn address(&self, chunk: u32) -> u64 {
        self.reservation.address + u64::from(chunk) * self.chunk_bytes as u64
    }

    /// Bytes of physical memory held.
    pub fn held(&self) -> usize {
        self.slots.iter().flatten().count() * self.chunk_bytes
    }

    /// Makes slot `slot` the memory at the chunk's address.
    ///
    /// # Errors
    /// The driver's.
    pub fn publish(&mut self, chunk: u32, slot: u32) -> Result<(), CudaError> {
        let address = self.address(chunk);
        if let (Some(place), Some(&Some(physical))) = (
            self.published.get_mut(chunk as usize),
            self.slots.get(slot as usize),
        ) {
            self.reservation
                .driver
                .map(address, self.chunk_bytes, physical)?;
            *place = Some(slot);
        }
        Ok(())
    }

    /// Takes the chunk's memory away from its address.
    ///
    /// # Errors
    /// The driver's.
    pub fn withdraw(&mut self, chunk: u32) -> Result<(), CudaError> {
        let address = self.address(chunk);
        if let Some(place) = self.published.get_mut(chunk as usize)
            && place.is_some()
        {
            self.reservation.driver.unmap(address, self.chunk_bytes)?;
            *place = None;
        }
        Ok(())
    }

    /// Gives the memory of a slot, in which no chunk is, back to the device.
    ///
    /// # Errors
    /// The driver's.
    pub fn release(&mut self, slot: u32) -> Result<(), CudaError> {
        match self.slots.get_mut(slot as usize).and_then(Option::take) {
            Some(physical) => self.reservation.driver.release(physical),
            None => Ok(()),
        }
    }

    /// Withdraws everything and gives all memory back; the addresses stay reserved.
    pub fn clear(&mut self) {
        for chunk in 0..self.published.len() as u32 {
            if let Err(error) = self.withdraw(chunk) {
                log::debug!("chunk {chunk} is not withdrawn: {error}");
            }
        }
        for slot in 0..self.slots.len() as u32 {
            if let Err(error) = self.release(slot) {
                log::debug!("device memory is not given back: {error}");
            }
        }
    }
}

impl Drop for DevicePool {
    fn drop(&mut self) {
        self.clear();
    }
}
