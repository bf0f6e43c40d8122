//! What decoders are given.

use weightstream_codec::quantised::{Quantised, dequantise};
use weightstream_codec::{Element, Kernel, Stores, decode_with, encode, raw_length};

use std::mem::MaybeUninit;

/// Coded chunks: all kernels say the same of any bytes, and what was coded comes back.
pub fn codec(bytes: &[u8]) {
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
        let back = decoded(Kernel::fastest(), &coded, raw.len());
        assert!(back == Some(raw), "{element:?} came back changed");
    }
}

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

/// Blocks of quantised weights: any bytes give values or an error.
pub fn quantised(bytes: &[u8]) {
    let Some((&first, blocks)) = bytes.split_first() else {
        return;
    };
    let kind = Quantised::ALL[usize::from(first) % Quantised::ALL.len()];
    for (element, width) in [(Element::Bf16, 2), (Element::F16, 2), (Element::F32, 4)] {
        let count = blocks.len() / kind.bytes();
        let mut values = vec![0; count * kind.values() * width];
        let whole = blocks.len() % kind.bytes() == 0;
        assert_eq!(
            dequantise(kind, blocks, element, &mut values).is_ok(),
            whole
        );
    }
}
