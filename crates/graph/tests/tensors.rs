//! Tensors, and how operators are called.
#![allow(clippy::unwrap_used, clippy::panic)]

use weightstream_graph::{Arguments, Context, OperatorError, Value, ops};

fn call(context: &Context, name: &str, arguments: Vec<(&str, Value)>) -> Vec<Value> {
    let implementation = ops::find(name).unwrap_or_else(|| panic!("{name} is not in the table"));
    implementation
        .call(context, Arguments::new(arguments))
        .unwrap()
}

fn numbers(value: &Value) -> Vec<f32> {
    match value {
        Value::Tensor(tensor) => tensor.elements::<f32>().unwrap().to_vec(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn operators_are_found_by_the_names_in_a_graph() {
    let context = Context::default();
    let x = context
        .tensor(&[1f32, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3])
        .unwrap();
    let weight = context
        .tensor(&[1f32, 0.0, 1.0, 0.0, 2.0, 0.0], &[2, 3])
        .unwrap();
    let bias = context.tensor(&[10f32, 20.0], &[2]).unwrap();
    let y = call(
        &context,
        "torch.ops.aten.linear.default",
        vec![
            ("input", x.into()),
            ("weight", weight.into()),
            ("bias", bias.into()),
        ],
    );
    assert_eq!(numbers(&y[0]), [14.0, 24.0, 20.0, 30.0]);
    assert!(ops::find("torch.ops.aten.no_such_operator.default").is_none());
}

#[test]
fn in_place_operators_write_through_views() {
    let context = Context::default();
    let x = context.tensor(&[1f32, 2.0, 3.0, 4.0], &[2, 2]).unwrap();
    let column = x.select(1, 1).unwrap();
    call(
        &context,
        "torch.ops.aten.add_.Tensor",
        vec![("self", column.into()), ("other", Value::Int(10))],
    );
    assert_eq!(numbers(&x.into()), [1.0, 12.0, 3.0, 14.0]);
}

#[test]
fn views_are_made_where_no_copy_is_needed() {
    let context = Context::default();
    let x = context
        .tensor(&(0..24i64).collect::<Vec<_>>(), &[2, 3, 4])
        .unwrap();
    let transposed = x.transpose(1, 2).unwrap();
    assert!(transposed.view(&[2, 12]).unwrap().is_none());
    assert_eq!(
        transposed.view(&[2, 2, 2, 3]).unwrap().unwrap().strides(),
        [12, 2, 1, 4]
    );
    assert_eq!(x.view(&[6, 1, 4]).unwrap().unwrap().strides()[0], 4);
    assert_eq!(x.view(&[24]).unwrap().unwrap().strides(), [1]);
    let narrow = x.narrow(2, 1, 4, 2).unwrap();
    assert_eq!(narrow.shape(), [2, 3, 2]);
    assert_eq!(
        *context
            .contiguous(&narrow)
            .unwrap()
            .elements::<i64>()
            .unwrap(),
        [1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23]
    );
}

#[test]
fn memory_is_not_written_while_it_is_read() {
    let context = Context::default();
    let x = context.tensor(&[1f32, 2.0], &[2]).unwrap();
    let reading = x.elements::<f32>().unwrap();
    assert_eq!(x.elements_mut::<f32>().err(), Some(OperatorError::Aliased));
    drop(reading);
    assert!(x.elements_mut::<f32>().is_ok());
    assert!(matches!(
        x.elements::<i64>().err(),
        Some(OperatorError::Dtype { .. })
    ));
}
