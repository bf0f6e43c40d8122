//! Values of quantised blocks are those of the `gguf` package, bit for bit; `quantised/generate.py` has written them.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use proptest::prelude::*;
use weightstream_codec::Element;
use weightstream_codec::quantised::{DequantiseError, Quantised, dequantise};

fn fixture(kind: Quantised) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/quantised");
    std::fs::read(format!("{folder}/{kind}.bin")).unwrap()
}

#[test]
fn values_are_those_of_the_gguf_package() {
    for kind in Quantised::ALL {
        let all = fixture(kind);
        let count = all.len() / (kind.bytes() + kind.values() * 8);
        assert!(count >= 12);
        let (blocks, f32) = all.split_at(count * kind.bytes());
        let (f32, narrow) = f32.split_at(count * kind.values() * 4);
        let (bf16, f16) = narrow.split_at(count * kind.values() * 2);
        for (element, expected) in [
            (Element::F32, f32),
            (Element::Bf16, bf16),
            (Element::F16, f16),
        ] {
            let mut values = vec![0xA5; expected.len()];
            dequantise(kind, blocks, element, &mut values).unwrap();
            let same = values
                .iter()
                .zip(expected)
                .take_while(|(got, expected)| got == expected);
            assert_eq!(
                same.count(),
                expected.len(),
                "{kind} to {element:?}: first other byte"
            );
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let kind = Quantised::Q4_K;
    assert_eq!(
        dequantise(kind, &[0; 145], Element::F32, &mut [0; 1024]),
        Err(DequantiseError::PartialBlock {
            kind,
            block: 144,
            got: 145
        })
    );
    assert_eq!(
        dequantise(kind, &[0; 144], Element::Bf16, &mut [0; 1024]),
        Err(DequantiseError::Room {
            kind,
            expected: 512,
            got: 1024
        })
    );
    assert_eq!(
        dequantise(kind, &[0; 144], Element::Bytes, &mut [0; 256]),
        Err(DequantiseError::Target {
            got: Element::Bytes
        })
    );
}

proptest! {
    /// Scales may be anything, NaN too: a NaN stays one in every dtype.
    #[test]
    fn any_bytes(kind in prop::sample::select(&Quantised::ALL[..]), seed in prop::collection::vec(any::<u8>(), 210)) {
        let blocks = &seed[..kind.bytes()];
        let mut wide = vec![0; kind.values() * 4];
        let mut narrow = vec![0; kind.values() * 2];
        dequantise(kind, blocks, Element::F32, &mut wide).unwrap();
        dequantise(kind, blocks, Element::Bf16, &mut narrow).unwrap();
        for (wide, narrow) in wide.as_chunks::<4>().0.iter().zip(narrow.as_chunks::<2>().0) {
            let narrow = f32::from_le_bytes([0, 0, narrow[0], narrow[1]]);
            prop_assert_eq!(f32::from_le_bytes(*wide).is_nan(), narrow.is_nan());
        }
    }
}
