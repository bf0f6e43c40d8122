//! weightstream checkpoint
