//! Blocks of quantised weights: any bytes give values or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weightstream_codec::Element;
use weightstream_codec::quantised::{Quantised, dequantise};

fuzz_target!(|bytes: &[u8]| {
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
});
