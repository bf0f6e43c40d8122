//! weightstream source
