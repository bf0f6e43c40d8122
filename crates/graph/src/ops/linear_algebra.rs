//! Norms and inverses of matrices, and products of vectors in space.

use super::operand::{Results, floating, one, wrong_shape};
use super::{call, result_dtype, tensor_of};
use crate::{Arguments, Context, OperatorError, Tensor, Value, broadcast_shapes};
use weightstream::Dtype;

pub(super) const OPERATORS: super::Family = &[
    ("aten.linalg_norm.default", norm),
    ("aten.linalg_norm.ord_str", matrix_norm),
    ("aten.linalg_matrix_norm.default", matrix_norm),
    ("aten.linalg_matrix_norm.str_ord", matrix_norm),
    ("aten.frobenius_norm.dim", frobenius),
    ("aten.linalg_cross.default", |c, a| cross(c, &a, Some(-1))),
    ("aten.cross.default", |c, a| cross(c, &a, None)),
    ("aten.linalg_inv.default", |c, a| {
        let name = if a.get("A").is_some() { "A" } else { "self" };
        one(Solved::new(c, a.tensor(name)?)?.inverse(c)?)
    }),
    ("aten.linalg_inv_ex.default", |c, a| {
        let tensor = a.tensor("A")?;
        let batch = &tensor.shape()[..tensor.rank().saturating_sub(2)];
        let info = c.empty(Dtype::I32, batch)?;
        c.assign(&info, &c.scalar(0i64)?)?;
        Ok(vec![
            Solved::new(c, tensor)?.inverse(c)?.into(),
            info.into(),
        ])
    }),
    ("aten.linalg_det.default", |c, a| {
        let name = if a.get("A").is_some() { "A" } else { "self" };
        one(Solved::new(c, a.tensor(name)?)?.determinant(c)?)
    }),
];

/// Of vectors, or of matrices where an order is given for two dimensions.
fn norm(context: &Context, arguments: Arguments) -> Results {
    let tensor = arguments.tensor("self")?;
    let given = arguments.ints_or("dim", &[])?.len();
    let of_matrix = given == 2 || (given == 0 && tensor.rank() == 2);
    if arguments.get("ord").is_some() && of_matrix {
        return matrix_norm(context, arguments);
    }
    call(
        context,
        "aten.linalg_vector_norm.default",
        vector(&arguments, 2.0.into())?,
    )
}

/// The arguments of a norm of vectors of this order.
fn vector(
    arguments: &Arguments,
    order: Value,
) -> Result<Vec<(&'static str, Value)>, OperatorError> {
    let mut named = vec![("self", arguments.value("self")?.clone())];
    named.push(("ord", arguments.get("ord").cloned().unwrap_or(order)));
    for name in ["dim", "keepdim", "dtype"] {
        if let Some(value) = arguments.get(name) {
            named.push((name, value.clone()));
        }
    }
    Ok(named)
}

fn frobenius(context: &Context, arguments: Arguments) -> Results {
    call(
        context,
        "aten.linalg_vector_norm.default",
        vector(&arguments, 2.0.into())?,
    )
}

fn matrix_norm(context: &Context, arguments: Arguments) -> Results {
    let order = match arguments.get("ord") {
        None => Value::Text("fro".into()),
        Some(order) => order.clone(),
    };
    let unknown = |got: String| OperatorError::Argument {
        argument: "ord",
        expected: "fro, 1, -1 or an infinity",
        got,
    };
    let number = match &order {
        Value::Text(name) if name == "fro" => {
            let mut named = vector(&arguments, 2.0.into())?;
            named.retain(|(name, _)| *name != "ord");
            named.push(("ord", 2.0.into()));
            if arguments.get("dim").is_none() {
                named.push(("dim", vec![-2, -1].into()));
            }
            return call(context, "aten.linalg_vector_norm.default", named);
        }
        Value::Float(number) => *number,
        Value::Int(number) => *number as f64,
        other => return Err(unknown(other.kind())),
    };
    let tensor = arguments.tensor("self")?;
    let dims = arguments.ints_or("dim", &[-2, -1])?;
    let [rows, columns] = dims[..] else {
        return Err(wrong_shape("two dimensions", tensor));
    };
    let (rows, columns) = (tensor.dimension(rows)?, tensor.dimension(columns)?);
    // The highest (or lowest) sum of magnitudes of a column, or of a row.
    let (summed, chosen) = if number.abs() == 1.0 {
        (rows, columns)
    } else if number.is_infinite() {
        (columns, rows)
    } else {
        return Err(unknown(number.to_string()));
    };
    let sums = tensor_of(
        context,
        "aten.linalg_vector_norm.default",
        [
            ("self", tensor.clone().into()),
            ("ord", 1.into()),
            ("dim", vec![summed as i64].into()),
            ("keepdim", true.into()),
        ],
    )?;
    let name = if number > 0.0 {
        "aten.amax.default"
    } else {
        "aten.amin.default"
    };
    let dims = [
        ("self", sums.into()),
        ("dim", vec![chosen as i64].into()),
        ("keepdim", true.into()),
    ];
    let result = tensor_of(context, name, dims)?;
    if arguments.bool_or("keepdim", false)? {
        return one(result);
    }
    one(result
        .squeeze(rows.max(columns))?
        .squeeze(rows.min(columns))?)
}

/// The vector that is normal to two others, along a dimension of three entries.
fn cross(context: &Context, arguments: &Arguments, default: Option<i64>) -> Results {
    let (left, right) = (arguments.tensor("self")?, arguments.tensor("other")?);
    let shape = broadcast_shapes(left.shape(), right.shape())?;
    let (left, right) = (left.expand(&shape)?, right.expand(&shape)?);
    let first = || {
        shape
            .iter()
            .position(|&size| size == 3)
            .map(|dim| dim as i64)
    };
    let dim = arguments.optional_int("dim")?.or(default).or_else(first);
    let dim = left.dimension(dim.unwrap_or(-1))?;
    if shape.get(dim) != Some(&3) {
        return Err(wrong_shape("a dimension of three entries", &left));
    }
    let result = context.empty(
        result_dtype([&left.clone().into(), &right.clone().into()]),
        &shape,
    )?;
    let times = |a: &Tensor, b: &Tensor| {
        tensor_of(
            context,
            "aten.mul.Tensor",
            [("self", a.clone().into()), ("other", b.clone().into())],
        )
    };
    for entry in 0..3 {
        let (next, after) = ((entry + 1) % 3, (entry + 2) % 3);
        let first = times(&left.select(dim, next)?, &right.select(dim, after)?)?;
        let second = times(&left.select(dim, after)?, &right.select(dim, next)?)?;
        let value = tensor_of(
            context,
            "aten.sub.Tensor",
            [("self", first.into()), ("other", second.into())],
        )?;
        context.assign(&result.select(dim, entry)?, &value)?;
    }
    one(result)
}

/// Square matrices, eliminated in float64 with the largest pivots.
struct Solved {
    dtype: Dtype,
    batch: Vec<usize>,
    side: usize,
    inverses: Vec<f64>,
    determinants: Vec<f64>,
}

impl Solved {
    fn new(context: &Context, tensor: &Tensor) -> Result<Self, OperatorError> {
        let (batch, side) = match tensor.shape() {
            [batch @ .., rows, columns] if rows == columns => (batch.to_vec(), *rows),
            _ => return Err(wrong_shape("square matrices", tensor)),
        };
        let wide = context.cast(tensor, Dtype::F64)?;
        let mut solved = Self {
            dtype: floating(tensor.dtype()),
            batch,
            side,
            inverses: Vec::new(),
            determinants: Vec::new(),
        };
        for matrix in wide.elements::<f64>()?.chunks((side * side).max(1)) {
            let (inverse, determinant) = eliminated(matrix, side);
            solved.inverses.extend(inverse);
            solved.determinants.push(determinant);
        }
        Ok(solved)
    }

    /// # Errors
    /// A matrix has none.
    fn inverse(&self, context: &Context) -> Result<Tensor, OperatorError> {
        if self.determinants.contains(&0.0) {
            return Err(OperatorError::Unsupported(
                "expected matrices that have an inverse, got a singular one".into(),
            ));
        }
        let mut shape = self.batch.clone();
        shape.extend([self.side; 2]);
        context.cast(&context.tensor(&self.inverses, &shape)?, self.dtype)
    }

    fn determinant(&self, context: &Context) -> Result<Tensor, OperatorError> {
        context.cast(
            &context.tensor(&self.determinants, &self.batch)?,
            self.dtype,
        )
    }
}

/// The inverse and the determinant, 0 where there is no inverse.
fn eliminated(matrix: &[f64], side: usize) -> (Vec<f64>, f64) {
    let mut left = matrix.to_vec();
    let mut right: Vec<f64> = (0..side * side)
        .map(|place| f64::from(u8::from(place / side == place % side)))
        .collect();
    let mut determinant = 1.0;
    for column in 0..side {
        let size = |row: usize| left[row * side + column].abs();
        let pivot = (column..side)
            .max_by(|&a, &b| size(a).total_cmp(&size(b)))
            .unwrap_or(column);
        if pivot != column {
            determinant = -determinant;
            for place in 0..side {
                left.swap(pivot * side + place, column * side + place);
                right.swap(pivot * side + place, column * side + place);
            }
        }
        let divisor = left[column * side + column];
        determinant *= divisor;
        if divisor == 0.0 {
            return (right, 0.0);
        }
        for row in 0..side {
            let own = row == column;
            let factor = if own {
                0.0
            } else {
                left[row * side + column] / divisor
            };
            for place in 0..side {
                for matrix in [&mut left, &mut right] {
                    if !own {
                        matrix[row * side + place] -= factor * matrix[column * side + place];
                    }
                }
            }
        }
        for place in 0..side {
            left[column * side + place] /= divisor;
            right[column * side + place] /= divisor;
        }
    }
    (right, determinant)
}
