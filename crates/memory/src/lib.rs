//! weightstream memory
