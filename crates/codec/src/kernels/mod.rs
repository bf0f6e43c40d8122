//! One file for each kind of vector.

pub(crate) mod portable;
