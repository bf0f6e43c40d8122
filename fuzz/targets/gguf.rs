#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| weightstream_hostile::gguf(bytes));
