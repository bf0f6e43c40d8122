//! The Python face of weightstream: a thin PyO3 module.
