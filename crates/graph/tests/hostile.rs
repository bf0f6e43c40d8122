//! Arguments that no exported program has, and a damaged one may: an error each, and the process goes on.
#![allow(clippy::unwrap_used, missing_docs)]

use weightstream_graph::{Arguments, Context, OperatorError, Tensor, Value, ops};

fn call(target: &str, arguments: Vec<(&str, Value)>) -> Result<Vec<Value>, OperatorError> {
    let operator = ops::find(target).unwrap();
    operator.call(&Context::default(), Arguments::new(arguments))
}

fn ones(shape: &[usize]) -> Tensor {
    let count = shape.iter().product();
    Context::default()
        .tensor(&vec![1f32; count], shape)
        .unwrap()
}

#[test]
fn sizes_that_no_memory_has_are_errors() {
    let image = || Value::from(ones(&[1, 1, 4, 4]));
    let row = || Value::from(ones(&[4]));
    for size in [1i64 << 40, 1 << 60, i64::MAX] {
        let pair = || Value::from(vec![size, 1]);
        let cases = [
            (
                "aten.adaptive_avg_pool2d.default",
                vec![("self", image()), ("output_size", pair())],
            ),
            (
                "aten.adaptive_max_pool2d.default",
                vec![("self", image()), ("output_size", pair())],
            ),
            (
                "aten.upsample_nearest2d.default",
                vec![("self", image()), ("output_size", pair())],
            ),
            (
                "aten.constant_pad_nd.default",
                vec![("self", image()), ("pad", pair())],
            ),
            (
                "aten.replication_pad2d.default",
                vec![("self", image()), ("padding", vec![size, 1, 1, 1].into())],
            ),
            ("aten.zeros.default", vec![("size", vec![size, 4].into())]),
            ("aten.eye.default", vec![("n", size.into())]),
            ("aten.arange.default", vec![("end", size.into())]),
            (
                "aten.linspace.default",
                vec![
                    ("start", 0.0.into()),
                    ("end", 1.0.into()),
                    ("steps", size.into()),
                ],
            ),
            (
                "aten.tril_indices.default",
                vec![("row", size.into()), ("col", size.into())],
            ),
            (
                "aten.repeat.default",
                vec![("self", row()), ("repeats", vec![size].into())],
            ),
            (
                "aten.repeat_interleave.self_int",
                vec![("self", row()), ("repeats", size.into())],
            ),
            (
                "aten.tensor_split.sections",
                vec![("self", row()), ("sections", size.into())],
            ),
            (
                "aten.one_hot.default",
                vec![("self", row()), ("num_classes", size.into())],
            ),
            (
                "aten.histc.default",
                vec![("self", row()), ("bins", size.into())],
            ),
            (
                "aten.bincount.default",
                vec![("self", row()), ("minlength", size.into())],
            ),
        ];
        for (target, arguments) in cases {
            assert!(call(target, arguments).is_err(), "{target} of {size}");
        }
    }
}

#[test]
fn what_is_repeated_without_memory_is_counted() {
    let one = ones(&[1]);
    assert!(one.expand(&[1 << 30, 1 << 20]).is_ok());
    let shape = [1 << 40, 1 << 40];
    assert!(matches!(
        one.expand(&shape),
        Err(OperatorError::Shape { .. })
    ));
    assert!(matches!(one.view(&shape), Err(OperatorError::Shape { .. })));
    // A copy of what can be counted may still have no memory.
    let wide = one.expand(&[1 << 30, 1 << 20]).unwrap();
    assert!(matches!(
        Context::default().copied(&wide),
        Err(OperatorError::Memory { .. })
    ));
}

#[test]
fn scalars_have_no_rows_and_no_entries() {
    let scalar = || Value::from(ones(&[]));
    let square = || Value::from(ones(&[2, 2]));
    for (left, right) in [
        (scalar(), square()),
        (square(), scalar()),
        (scalar(), scalar()),
    ] {
        let products = [
            ("aten.mm.default", "self", "mat2"),
            ("aten.matmul.default", "self", "other"),
            ("aten.linear.default", "input", "weight"),
        ];
        for (target, first, second) in products {
            let arguments = vec![(first, left.clone()), (second, right.clone())];
            assert!(call(target, arguments).is_err(), "{target}");
        }
        for (target, first, second) in [
            ("aten.addmm.default", "mat1", "mat2"),
            ("aten.addmv.default", "mat", "vec"),
        ] {
            let arguments = vec![
                ("self", scalar()),
                (first, left.clone()),
                (second, right.clone()),
            ];
            assert!(call(target, arguments).is_err(), "{target}");
        }
    }
    let scalar = ones(&[]);
    assert!(scalar.narrow(0, 0, 0, 1).is_err());
    assert!(scalar.select(0, 0).is_err() && scalar.select(0, usize::MAX).is_err());
    let empty: Value = vec![0i64].into();
    let slice = vec![
        ("self", scalar.into()),
        ("dim", 0.into()),
        ("split_size", empty),
    ];
    assert!(call("aten.split.Tensor", slice).is_err());
}
