//! Manifests of packed checkpoints. The digest is made right, so that what it guards is reached.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weightstream_checkpoint::packed::Manifest;

fuzz_target!(|bytes: &[u8]| {
    let _ = Manifest::from_bytes(bytes);
    let Some(body) = bytes.len().checked_sub(32) else {
        return;
    };
    let mut bytes = bytes[..body].to_vec();
    bytes.extend(blake3::hash(&bytes).as_bytes());
    if let Ok(manifest) = Manifest::from_bytes(&bytes) {
        // What is understood is written again as something that means the same.
        let again =
            Manifest::from_bytes(&manifest.to_bytes()).expect("its own bytes are understood");
        assert_eq!(again.to_bytes(), manifest.to_bytes());
    }
});
