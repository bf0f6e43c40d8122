//! Files that torch.save has written, a zip with a pickle that is read without running it.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| weightstream_fuzz::open("pytorch_model.bin", bytes, &[]));
