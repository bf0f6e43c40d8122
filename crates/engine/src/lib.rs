//! weightstream engine
