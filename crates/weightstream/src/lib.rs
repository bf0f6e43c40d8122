//! weightstream
