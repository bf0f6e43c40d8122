//! The index of a sharded checkpoint, beside two shards: it may name any file, and none outside is opened.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let shard = |name: &str| {
        let header = format!(r#"{{"{name}":{{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}}}"#);
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.as_bytes());
        file.extend([1, 2, 3, 4]);
        file
    };
    weightstream_fuzz::open(
        "model.safetensors.index.json",
        bytes,
        &[
            ("a.safetensors", &shard("a")),
            ("b.safetensors", &shard("b")),
        ],
    );
});
