//! Every operator against what torch computes: the cases of `operators/generate.py` (`make fixtures` makes them anew).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods
)]

use base64::Engine;
use flate2::read::GzDecoder;
use serde_json::Value as Json;
use std::io::Read;
use std::path::PathBuf;
use weightstream::Dtype;
use weightstream_graph::{Arguments, Context, Tensor, Value, contiguous_strides, ops};

#[test]
fn arithmetic() {
    run("arithmetic");
}
#[test]
fn unary() {
    run("unary");
}
#[test]
fn comparison() {
    run("comparison");
}
#[test]
fn activation() {
    run("activation");
}
#[test]
fn reduction() {
    run("reduction");
}
#[test]
fn matrix() {
    run("matrix");
}
#[test]
fn attention() {
    run("attention");
}
#[test]
fn convolution() {
    run("convolution");
}
#[test]
fn normalisation() {
    run("normalisation");
}
#[test]
fn pooling() {
    run("pooling");
}
#[test]
fn indexing() {
    run("indexing");
}
#[test]
fn shapes() {
    run("shapes");
}
#[test]
fn creation() {
    run("creation");
}
#[test]
fn cast() {
    run("cast");
}
#[test]
fn resampling() {
    run("resampling");
}
#[test]
fn sorting() {
    run("sorting");
}
#[test]
fn columns() {
    run("columns");
}
#[test]
fn diagonals() {
    run("diagonals");
}
#[test]
fn distances() {
    run("distances");
}
#[test]
fn embedding_bag() {
    run("embedding_bag");
}
#[test]
fn joining() {
    run("joining");
}
#[test]
fn linear_algebra() {
    run("linear_algebra");
}
#[test]
fn loss() {
    run("loss");
}
#[test]
fn membership() {
    run("membership");
}
#[test]
fn running() {
    run("running");
}
#[test]
fn statistics() {
    run("statistics");
}
#[test]
fn unpooling() {
    run("unpooling");
}
#[test]
fn complex() {
    run("complex");
}
#[test]
fn fourier() {
    run("fourier");
}
#[test]
fn random() {
    run("random");
}
#[test]
fn recurrent() {
    run("recurrent");
}

/// Core operators that no program which runs forward has, and why.
const MISSING_CORE: [(&str, &str); 9] = [
    ("aten._adaptive_avg_pool2d_backward.default", BACKWARD),
    ("aten.atan2.out", "export gives `aten.atan2.default`"),
    ("aten.avg_pool2d_backward.default", BACKWARD),
    ("aten.convolution_backward.default", BACKWARD),
    ("aten.embedding_dense_backward.default", BACKWARD),
    ("aten.max_pool2d_with_indices_backward.default", BACKWARD),
    ("aten.native_group_norm_backward.default", BACKWARD),
    ("aten.native_layer_norm_backward.default", BACKWARD),
    (
        "aten.resize_.default",
        "export writes a tensor of the new size instead",
    ),
];
const BACKWARD: &str = "part of a backward pass";

/// `WRITE=1 cargo test -p weightstream-graph --test operators documentation` writes the list anew.
#[test]
fn the_documentation_lists_what_is_in_the_table() {
    let mut text = String::from(
        "# Operators of the executor\n\n\
        What `weightstream run` computes, by the names that an exported program has. In-place forms (`aten.add_.Tensor`) \
        of all of them are known too. Each is tested against PyTorch's results in float32, bfloat16 and float16, and \
        where PyTorch has them with integers and booleans; sums are accumulated in float32 and rounded once. A program \
        with an operator that isn't here is refused when it is opened; how to add one is written in \
        `crates/graph/src/lib.rs`. Random numbers are torch's for the same seed (`Program::seed`); dropout in \
        training is refused when it runs.\n",
    );
    for (title, names) in ops::families() {
        text += &format!("\n## {title}\n\n");
        for name in names {
            text += &format!("- `{name}`\n");
        }
    }
    text += "\n## Other names\n\nThese have the overloads and the in-place forms of the names beside them.\n\n";
    for (other, name) in ops::other_names() {
        text += &format!("- `aten.{other}` is `aten.{name}`\n");
    }
    text += "\n## Core operators that aren't there\n\n`run_decompositions()` leaves torch's core operators. All of them \
        are above, but for these (`tests/test_core_operators.py` compares with torch's own list):\n\n";
    for (name, reason) in MISSING_CORE {
        text += &format!("- `{name}`: {reason}\n");
    }
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/operators.md");
    if std::env::var_os("WRITE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), text);
}

/// Runs all cases of a family, and fails with a line for each that went wrong.
fn run(family: &str) {
    let folder = std::env::var_os("WEIGHTSTREAM_OPERATOR_CASES").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/operators"),
        PathBuf::from,
    );
    let file = std::fs::File::open(folder.join(format!("{family}.jsonl.gz"))).unwrap();
    let mut lines = String::new();
    GzDecoder::new(file).read_to_string(&mut lines).unwrap();
    let cases: Vec<Json> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|case| {
            check(case)
                .err()
                .map(|problem| format!("{problem}\n    {}", described(case)))
        })
        .collect();
    assert!(
        wrong.is_empty(),
        "{} of {} cases of {family}:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
}

fn described(case: &Json) -> String {
    let arguments: Vec<String> = case["args"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pair| {
            let value = &pair[1];
            let short = match value.get("tensor") {
                Some(spec) => format!(
                    "{} {} strides {}",
                    spec["dtype"], spec["shape"], spec["strides"]
                ),
                None => value.to_string().chars().take(200).collect(),
            };
            format!("{}: {short}", pair[0].as_str().unwrap())
        })
        .collect();
    format!(
        "{} ({})",
        case["op"].as_str().unwrap(),
        arguments.join(", ")
    )
}

fn check(case: &Json) -> Result<(), String> {
    let context = Context::default();
    let name = case["op"].as_str().unwrap();
    let operator = ops::find(&format!("torch.ops.{name}")).ok_or("it is not in the table")?;
    let mut arguments = Arguments::default();
    for pair in case["args"].as_array().unwrap() {
        arguments.push(pair[0].as_str().unwrap(), value(&context, &pair[1]));
    }
    let results = operator
        .call(&context, arguments)
        .map_err(|error| error.to_string())?;
    let expected = case["results"].as_array().unwrap();
    let tolerance = case.get("tolerance").and_then(Json::as_f64).unwrap_or(1.0);
    if results.len() < expected.len() {
        return Err(format!(
            "{} results, expected {}",
            results.len(),
            expected.len()
        ));
    }
    for (index, (result, expected)) in results.iter().zip(expected).enumerate() {
        compare(&context, result, expected, tolerance)
            .map_err(|problem| format!("result {index}: {problem}"))?;
    }
    Ok(())
}

fn compare(
    context: &Context,
    result: &Value,
    expected: &Json,
    tolerance: f64,
) -> Result<(), String> {
    match result {
        Value::List(results) => {
            let expected = expected.as_array().ok_or("a list")?;
            if results.len() != expected.len() {
                return Err(format!(
                    "{} tensors, expected {}",
                    results.len(),
                    expected.len()
                ));
            }
            results
                .iter()
                .zip(expected)
                .try_for_each(|(result, expected)| compare(context, result, expected, tolerance))
        }
        Value::Tensor(result) => {
            let Value::Tensor(expected) = value(context, expected) else {
                return Err(format!("a tensor, expected {expected}"));
            };
            close(context, result, &expected, tolerance)
        }
        other => Err(other.kind()),
    }
}

/// Whole numbers must be equal; others may differ by some units of what their dtype can tell apart, relative to the
/// value or to the largest of the tensor, whichever is more for sums that cancel.
fn close(
    context: &Context,
    result: &Tensor,
    expected: &Tensor,
    tolerance: f64,
) -> Result<(), String> {
    if result.dtype() != expected.dtype() || result.shape() != expected.shape() {
        return Err(format!(
            "{} {:?}, expected {} {:?}",
            result.dtype(),
            result.shape(),
            expected.dtype(),
            expected.shape()
        ));
    }
    if result.dtype() == Dtype::C64 {
        let [result, expected] = [result, expected].map(|tensor| tensor.as_real().unwrap());
        return close(context, &result, &expected, tolerance);
    }
    let unit = match result.dtype() {
        Dtype::F64 => 1e-14,
        Dtype::F32 => 2.5e-7,
        Dtype::F16 => 1.0 / 1024.0,
        Dtype::BF16 => 1.0 / 128.0,
        _ => 0.0,
    };
    let doubles = |tensor: &Tensor| -> Vec<f64> {
        if tensor.dtype() == Dtype::I64 {
            let tensor = context.contiguous(tensor).unwrap();
            return tensor
                .elements::<i64>()
                .unwrap()
                .iter()
                .map(|&value| value as f64)
                .collect();
        }
        context
            .cast(tensor, Dtype::F64)
            .unwrap()
            .elements::<f64>()
            .unwrap()
            .to_vec()
    };
    let (result, expected) = (doubles(result), doubles(expected));
    let largest = expected
        .iter()
        .filter(|value| value.is_finite())
        .fold(0.0, |a: f64, b| a.max(b.abs()));
    for (place, (&got, &wanted)) in result.iter().zip(&expected).enumerate() {
        let same = got == wanted || (got.is_nan() && wanted.is_nan());
        let allowed =
            unit * tolerance.max(1.0) * wanted.abs() + unit * (tolerance - 1.0) / 4.0 * largest;
        if !same && (got - wanted).abs().partial_cmp(&allowed) != Some(std::cmp::Ordering::Less) {
            return Err(format!(
                "element {place} is {got:e}, expected {wanted:e} (all: {result:?}, {expected:?})"
            )
            .chars()
            .take(400)
            .collect());
        }
    }
    Ok(())
}

fn value(context: &Context, json: &Json) -> Value {
    match json {
        Json::Null => Value::None,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(value) => Value::Int(value.as_i64().unwrap()),
        Json::String(value) => Value::Text(value.clone()),
        Json::Array(values) => {
            Value::List(values.iter().map(|json| value(context, json)).collect())
        }
        Json::Object(_) => {
            if let Some(number) = json.get("float") {
                return Value::Float(match number.as_str() {
                    Some(text) => text.parse().unwrap(),
                    None => number.as_f64().unwrap(),
                });
            }
            if let Some(parts) = json.get("complex") {
                return Value::Complex([0, 1].map(|part: usize| parts[part].as_f64().unwrap()));
            }
            if let Some(name) = json.get("dtype") {
                return Value::Dtype(dtype(name));
            }
            match json.get("tensor") {
                Some(spec) => made(context, spec).into(),
                None => stored(context, &json["stored"]).into(),
            }
        }
    }
}

fn dtype(name: &Json) -> Dtype {
    let name = name.as_str().unwrap();
    Dtype::ALL
        .into_iter()
        .find(|dtype| dtype.name() == name)
        .unwrap()
}

fn sizes(json: &Json) -> Vec<usize> {
    json.as_array()
        .unwrap()
        .iter()
        .map(|size| size.as_u64().unwrap() as usize)
        .collect()
}

fn stored(context: &Context, spec: &Json) -> Tensor {
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(spec["data"].as_str().unwrap())
        .unwrap();
    let (dtype, shape) = (dtype(&spec["dtype"]), sizes(&spec["shape"]));
    let raw = context.tensor::<u8>(&bytes, &[bytes.len()]).unwrap();
    let strides = contiguous_strides(&shape);
    Tensor::new(raw.storage().clone(), dtype, shape, strides, 0).unwrap()
}

/// The tensor that `generate.py` makes of the same seed.
fn made(context: &Context, spec: &Json) -> Tensor {
    let (dtype, shape) = (dtype(&spec["dtype"]), sizes(&spec["shape"]));
    let count = spec
        .get("storage")
        .map_or(shape.iter().product(), |storage| {
            storage.as_u64().unwrap() as usize
        });
    let (seed, low, high) = (
        spec["seed"].as_u64().unwrap(),
        spec["low"].as_f64().unwrap(),
        spec["high"].as_f64().unwrap(),
    );
    let bits = (1..=count as u64).map(|index| {
        let mut z = seed.wrapping_add(index.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) >> 40
    });
    let storage = if matches!(dtype, Dtype::F64 | Dtype::F32 | Dtype::BF16 | Dtype::F16) {
        let mut values: Vec<f64> = bits
            .map(|bits| bits as f64 / f64::from(1 << 24) * (high - low) + low)
            .collect();
        if spec.get("special").is_some() {
            for (value, special) in
                values
                    .iter_mut()
                    .zip([f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0])
            {
                *value = special;
            }
        }
        let wide = context.tensor(&values, &[count]).unwrap();
        let through = if dtype == Dtype::F64 {
            Dtype::F64
        } else {
            Dtype::F32
        };
        context
            .cast(&context.cast(&wide, through).unwrap(), dtype)
            .unwrap()
    } else {
        let (low, high) = (low as i64, high as i64);
        let values: Vec<i64> = bits
            .map(|bits| bits as i64 % (high - low).max(1) + low)
            .collect();
        context
            .cast(&context.tensor(&values, &[count]).unwrap(), dtype)
            .unwrap()
    };
    let (strides, offset) = match spec.get("strides") {
        Some(strides) => (sizes(strides), spec["offset"].as_u64().unwrap() as usize),
        None => (contiguous_strides(&shape), 0),
    };
    storage.as_strided(shape, strides, offset).unwrap()
}
