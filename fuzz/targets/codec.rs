//! Coded chunks: all kernels say the same of any bytes, and what was coded comes back.
#![no_main]

use std::mem::MaybeUninit;

use libfuzzer_sys::fuzz_target;
use weightstream_codec::{Element, Kernel, Stores, decode_with, encode, raw_length};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(length) = raw_length(bytes) {
        assert!(length <= bytes.len() * 3 / 2);
        let results: Vec<_> = Kernel::available()
            .into_iter()
            .map(|kernel| decoded(kernel, bytes, length))
            .collect();
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
    }
    for element in [Element::Bf16, Element::F16, Element::F32] {
        // Repeated, so that there are blocks to code.
        let raw = bytes.repeat(4096_usize.div_ceil(bytes.len().max(1)));
        let mut coded = Vec::new();
        encode(element, &raw, &mut coded);
        assert!(coded.len() <= raw.len() + 16);
        let kernel = Kernel::fastest();
        assert!(
            decoded(kernel, &coded, raw.len()) == Some(raw),
            "{element:?} came back changed"
        );
    }
});

fn decoded(kernel: Kernel, coded: &[u8], length: usize) -> Option<Vec<u8>> {
    let mut raw = vec![MaybeUninit::new(0); length];
    decode_with(kernel, coded, &mut raw, Stores::Streaming).ok()?;
    // SAFETY: initialised above.
    Some(
        raw.into_iter()
            .map(|byte| unsafe { byte.assume_init() })
            .collect(),
    )
}
