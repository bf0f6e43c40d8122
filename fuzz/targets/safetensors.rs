//! Files of safetensors.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| weightstream_fuzz::open("model.safetensors", bytes, &[]));
