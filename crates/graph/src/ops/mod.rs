//! What operators compute, one file per family, and the table that finds them by name.

mod activation;
mod alignment_loss;
mod arithmetic;
mod attention;
mod cast;
mod columns;
mod comparison;
mod complex;
mod convolution;
mod creation;
mod diagonals;
mod distance;
mod einsum;
mod embedding_bag;
mod fourier;
mod indexing;
mod joining;
mod linear_algebra;
mod loss;
mod matrix;
mod membership;
mod names;
mod normalisation;
mod operand;
mod pooling;
mod promotion;
mod random;
mod recurrent;
mod reduction;
mod resampling;
mod running;
mod shape;
mod sorting;
mod statistics;
mod symbolic;
mod unary;
mod unpooling;

pub use names::{other_names, usual as usual_name};
pub use promotion::result_dtype;

use crate::{Arguments, Context, OperatorError, Value};

/// Computes one node. The results are those of the schema, in order; a list is one [`Value::List`].
pub type Operator = fn(&Context, Arguments) -> Result<Vec<Value>, OperatorError>;

/// The names of a family's operators, without `torch.ops.`, and what computes them.
type Family = &'static [(&'static str, Operator)];

/// What each family is called, and its operators.
const FAMILIES: &[(&str, Family)] = &[
    ("Activations", activation::OPERATORS),
    ("Arithmetic", arithmetic::OPERATORS),
    ("Attention", attention::OPERATORS),
    ("Dtypes and copies", cast::OPERATORS),
    ("Comparisons, logic, choices", comparison::OPERATORS),
    ("Complex numbers", complex::OPERATORS),
    ("Convolutions", convolution::OPERATORS),
    ("Creation", creation::OPERATORS),
    ("Diagonals", diagonals::OPERATORS),
    ("Distances", distance::OPERATORS),
    ("Sums of an embedding's rows", embedding_bag::OPERATORS),
    ("Fourier transforms", fourier::OPERATORS),
    ("Indexing", indexing::OPERATORS),
    ("Joining", joining::OPERATORS),
    ("Linear algebra", linear_algebra::OPERATORS),
    ("Losses", loss::OPERATORS),
    ("Losses of alignments", alignment_loss::OPERATORS),
    ("Matrix products", matrix::OPERATORS),
    ("Which values there are", membership::OPERATORS),
    ("Normalisation", normalisation::OPERATORS),
    ("Pooling", pooling::OPERATORS),
    ("Random numbers", random::OPERATORS),
    ("Recurrent layers and experts", recurrent::OPERATORS),
    ("Reductions", reduction::OPERATORS),
    ("Resampling and padding", resampling::OPERATORS),
    ("Running totals", running::OPERATORS),
    ("Shapes", shape::OPERATORS),
    ("Order and counts", sorting::OPERATORS),
    ("Medians and quantiles", statistics::OPERATORS),
    ("Sizes and assertions", symbolic::OPERATORS),
    ("Functions of one number", unary::OPERATORS),
    ("Unpooling", unpooling::OPERATORS),
    ("Windows as columns", columns::OPERATORS),
];

/// How a target is computed.
#[derive(Clone, Copy, Debug)]
pub enum Implementation {
    /// By this operator.
    Direct(Forms),
    /// By this operator, whose result is then written into the memory of the first argument.
    InPlace(Forms),
}

/// An operator, and what computes it instead where an argument is complex.
#[derive(Clone, Copy, Debug)]
pub struct Forms {
    real: Operator,
    complex: Option<Operator>,
}

impl Forms {
    fn call(self, context: &Context, arguments: Arguments) -> Result<Vec<Value>, OperatorError> {
        match self.complex {
            _ if !complex::is_among(&arguments) => (self.real)(context, arguments),
            Some(complex) => complex(context, arguments),
            None => Err(OperatorError::Unsupported(
                "expected real numbers, got complex ones".into(),
            )),
        }
    }
}

/// What computes `target`, a name as the graph has it: `torch.ops.aten.linear.default`, `_operator.add`. The in-place
/// form of an operator (`aten.add_.Tensor`) is made from the other one where the table doesn't name it.
pub fn find(target: &str) -> Option<Implementation> {
    let name = &*names::usual(target);
    if let Some(operator) = lookup(name) {
        return Some(Implementation::Direct(operator));
    }
    let (operator, overload) = name.rsplit_once('.')?;
    let out_of_place = format!("{}.{overload}", operator.strip_suffix('_')?);
    lookup(&out_of_place).map(Implementation::InPlace)
}

fn lookup(name: &str) -> Option<Forms> {
    FAMILIES
        .iter()
        .flat_map(|(_, family)| family.iter())
        .find(|(other, _)| *other == name)
        .map(|(_, operator)| Forms {
            real: *operator,
            complex: complex::form(name, *operator),
        })
}

/// Computes another operator of the table: composite ones are written as what they are made of.
fn call<'n>(
    context: &Context,
    name: &'static str,
    arguments: impl IntoIterator<Item = (&'n str, Value)>,
) -> Result<Vec<Value>, OperatorError> {
    let operator = find(name).ok_or_else(|| OperatorError::Unsupported(name.into()))?;
    operator.call(context, Arguments::new(arguments))
}

/// As [`call`], of an operator with one result.
fn tensor_of<'n>(
    context: &Context,
    name: &'static str,
    arguments: impl IntoIterator<Item = (&'n str, Value)>,
) -> Result<crate::Tensor, OperatorError> {
    match call(context, name, arguments)?.into_iter().next() {
        Some(Value::Tensor(tensor)) => Ok(tensor),
        _ => Err(OperatorError::Unsupported(format!("{name} gave no tensor"))),
    }
}

/// The names of all operators, sorted.
pub fn names() -> Vec<&'static str> {
    let mut names: Vec<_> = FAMILIES
        .iter()
        .flat_map(|(_, family)| family.iter().map(|(name, _)| *name))
        .collect();
    names.sort_unstable();
    names
}

/// What each family is called, and the names of its operators, sorted.
pub fn families() -> Vec<(&'static str, Vec<&'static str>)> {
    FAMILIES
        .iter()
        .map(|(title, family)| {
            let mut names: Vec<_> = family.iter().map(|(name, _)| *name).collect();
            names.sort_unstable();
            (*title, names)
        })
        .collect()
}

impl Implementation {
    /// Computes the results for `arguments`.
    ///
    /// # Errors
    /// Arguments that the operator can't compute with, or no memory.
    pub fn call(
        self,
        context: &Context,
        arguments: Arguments,
    ) -> Result<Vec<Value>, OperatorError> {
        match self {
            Self::Direct(operator) => operator.call(context, arguments),
            Self::InPlace(operator) => {
                let target = match arguments.iter().next() {
                    Some((_, Value::Tensor(tensor))) => tensor.clone(),
                    _ => arguments.tensor("self")?.clone(),
                };
                for result in operator.call(context, arguments)? {
                    if let Value::Tensor(result) = result
                        && !result.is_same(&target)
                    {
                        context.assign(&target, &result)?;
                    }
                }
                Ok(vec![target.into()])
            }
        }
    }
}
