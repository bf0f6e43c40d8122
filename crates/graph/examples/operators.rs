//! Times operators on random arguments; `bench/operators.py` runs it beside torch and prints ratios.
//!
//! A line of standard input is a case, `name dtype shapes…` as `bench/operators.py` writes them; the answer is the least
//! time of a call in microseconds.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::time::Instant;
use weightstream_graph::{Arguments, Context, Tensor, Value, ops};

fn main() {
    let context = Context::default();
    for line in std::io::stdin().lines() {
        let case: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
        let operator = ops::find(case["op"].as_str().unwrap()).unwrap();
        let mut arguments = Arguments::default();
        for pair in case["args"].as_array().unwrap() {
            arguments.push(pair[0].as_str().unwrap(), value(&context, &pair[1]));
        }
        let (mut best, mut spent, mut calls) = (f64::MAX, 0.0, 0);
        while spent < 0.25 && calls < 200 {
            let given = arguments.clone();
            let start = Instant::now();
            let results = operator.call(&context, given).unwrap();
            let seconds = start.elapsed().as_secs_f64();
            drop(results);
            (best, spent, calls) = (seconds.min(best), spent + seconds, calls + 1);
        }
        println!("{}", best * 1e6);
    }
}

fn value(context: &Context, json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::None,
        serde_json::Value::Bool(value) => Value::Bool(*value),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(value) => Value::Int(value),
            None => Value::Float(number.as_f64().unwrap()),
        },
        serde_json::Value::String(text) => Value::Text(text.clone()),
        serde_json::Value::Array(values) => {
            Value::List(values.iter().map(|json| value(context, json)).collect())
        }
        serde_json::Value::Object(spec) => {
            let shape: Vec<usize> = spec["shape"]
                .as_array()
                .unwrap()
                .iter()
                .map(|size| size.as_u64().unwrap() as usize)
                .collect();
            random(context, &shape, spec["dtype"].as_str().unwrap()).into()
        }
    }
}

fn random(context: &Context, shape: &[usize], dtype: &str) -> Tensor {
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count as u32)
        .map(|index| (index.wrapping_mul(2_654_435_761) >> 8) as f32 / 8_388_608.0 - 1.0)
        .collect();
    let tensor = context.tensor(&values, shape).unwrap();
    let dtype = weightstream::Dtype::ALL
        .into_iter()
        .find(|known| known.name() == dtype)
        .unwrap();
    context.cast(&tensor, dtype).unwrap()
}
