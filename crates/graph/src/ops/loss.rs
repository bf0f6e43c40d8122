//! Losses: what separates a prediction from a target, for each element or as one number.

use super::operand::{Results, is_floating, one, wrong_shape};
use super::{call, result_dtype, tensor_of};
use crate::kernels::{exp, map2, map3};
use crate::{Arguments, Context, OperatorError, Tensor, broadcast_shapes};
use weightstream::Dtype;

/// The loss of each pair of elements, computed in float32, and then what the reduction says.
macro_rules! pairwise {
    ($left:literal, $right:literal; $($number:ident = $default:literal),*; |$a:ident, $b:ident| $loss:expr) => {
        |context, arguments| {
            $(let $number = arguments.float_or(stringify!($number), $default)? as f32;)*
            let (left, right) = (arguments.tensor($left)?, arguments.tensor($right)?);
            let losses = of_pairs(context, left, right, #[inline(always)] |$a, $b| $loss)?;
            reduced(context, &arguments, losses)
        }
    };
    ($($number:ident = $default:literal),*; |$a:ident, $b:ident| $loss:expr) => {
        pairwise!("self", "target"; $($number = $default),*; |$a, $b| $loss)
    };
}

pub(super) const OPERATORS: super::Family = &[
    (
        "aten.mse_loss.default",
        pairwise!(; |a, b| (a - b) * (a - b)),
    ),
    ("aten.l1_loss.default", pairwise!(; |a, b| (a - b).abs())),
    (
        "aten.smooth_l1_loss.default",
        pairwise!(beta = 1.0; |a, b| {
            let distance = (a - b).abs();
            if distance < beta { 0.5 * distance * distance / beta } else { distance - 0.5 * beta }
        }),
    ),
    (
        "aten.huber_loss.default",
        pairwise!(delta = 1.0; |a, b| {
            let distance = (a - b).abs();
            if distance <= delta { 0.5 * distance * distance } else { delta * (distance - 0.5 * delta) }
        }),
    ),
    (
        "aten.soft_margin_loss.default",
        pairwise!(; |a, b| exp(-b * a).ln_1p()),
    ),
    (
        "aten.hinge_embedding_loss.default",
        pairwise!(margin = 1.0; |a, b| {
            let apart = if b == 1.0 { 0.0 } else { (margin - a).max(0.0) };
            let near = if b == -1.0 { 0.0 } else { a };
            apart + near
        }),
    ),
    ("aten.kl_div.default", kl_divergence),
    ("aten.poisson_nll_loss.default", poisson),
    ("aten.binary_cross_entropy.default", |c, a| {
        let losses = of_pairs(c, a.tensor("self")?, a.tensor("target")?, |x, t| {
            (t - 1.0) * (-x).ln_1p().max(-100.0) - t * x.ln().max(-100.0)
        })?;
        weighed(c, &a, losses)
    }),
    (
        "aten.binary_cross_entropy_with_logits.default",
        binary_with_logits,
    ),
    ("aten.margin_ranking_loss.default", margin_ranking),
    ("aten.cosine_embedding_loss.default", cosine_embedding),
    ("aten.triplet_margin_loss.default", triplet_margin),
    ("aten.multi_margin_loss.default", multi_margin),
    ("aten.multilabel_margin_loss.default", |c, a| {
        Ok(multilabel_margin(c, &a)?.into_iter().take(1).collect())
    }),
    ("aten.multilabel_margin_loss_forward.default", |c, a| {
        multilabel_margin(c, &a)
    }),
    ("aten.nll_loss.default", |c, a| {
        Ok(likelihood(c, &a)?.into_iter().take(1).collect())
    }),
    ("aten.nll_loss2d.default", |c, a| {
        Ok(likelihood(c, &a)?.into_iter().take(1).collect())
    }),
    ("aten.nll_loss_nd.default", |c, a| {
        Ok(likelihood(c, &a)?.into_iter().take(1).collect())
    }),
    ("aten.nll_loss_forward.default", |c, a| likelihood(c, &a)),
    ("aten.nll_loss2d_forward.default", |c, a| likelihood(c, &a)),
    ("aten.cross_entropy_loss.default", cross_entropy),
];

/// What torch numbers 0, 1 and 2.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Reduction {
    None,
    Mean,
    Sum,
}

pub(super) fn reduction(arguments: &Arguments) -> Result<Reduction, OperatorError> {
    match arguments.int_or("reduction", 1)? {
        0 => Ok(Reduction::None),
        1 => Ok(Reduction::Mean),
        2 => Ok(Reduction::Sum),
        other => Err(OperatorError::Argument {
            argument: "reduction",
            expected: "0 (none), 1 (mean) or 2 (sum)",
            got: other.to_string(),
        }),
    }
}

/// The losses, their mean or their sum.
pub(super) fn reduced(context: &Context, arguments: &Arguments, losses: Tensor) -> Results {
    match reduction(arguments)? {
        Reduction::None => one(losses),
        Reduction::Mean => call(context, "aten.mean.default", [("self", losses.into())]),
        Reduction::Sum => call(context, "aten.sum.default", [("self", losses.into())]),
    }
}

fn of_pairs(
    context: &Context,
    left: &Tensor,
    right: &Tensor,
    loss: impl Fn(f32, f32) -> f32 + Sync,
) -> Result<Tensor, OperatorError> {
    let dtype = result_dtype([&left.clone().into(), &right.clone().into()]);
    let shape = broadcast_shapes(left.shape(), right.shape())?;
    map2::<f32, f32>(context, dtype, &shape, [left, right], loss)
}

/// Losses times the weights that some have, reduced.
fn weighed(context: &Context, arguments: &Arguments, losses: Tensor) -> Results {
    let losses = match arguments.optional_tensor("weight")? {
        Some(weight) => of_pairs(context, &losses, weight, |loss, weight| loss * weight)?,
        None => losses,
    };
    reduced(context, arguments, losses)
}

fn kl_divergence(context: &Context, arguments: Arguments) -> Results {
    let logarithms = arguments.bool_or("log_target", false)?;
    let losses = of_pairs(
        context,
        arguments.tensor("self")?,
        arguments.tensor("target")?,
        |a, b| {
            if logarithms {
                exp(b) * (b - a)
            } else if b == 0.0 {
                0.0
            } else {
                b * (b.ln() - a)
            }
        },
    )?;
    reduced(context, &arguments, losses)
}

fn poisson(context: &Context, arguments: Arguments) -> Results {
    let logarithms = arguments.bool_or("log_input", true)?;
    let full = arguments.bool_or("full", false)?;
    let eps = arguments.float_or("eps", 1e-8)? as f32;
    let losses = of_pairs(
        context,
        arguments.tensor("input")?,
        arguments.tensor("target")?,
        |a, b| {
            let loss = if logarithms {
                exp(a) - b * a
            } else {
                a - b * (a + eps).ln()
            };
            // Stirling's approximation of the target's factorial.
            if full && b > 1.0 {
                loss + b * b.ln() - b + 0.5 * (std::f32::consts::TAU * b).ln()
            } else {
                loss
            }
        },
    )?;
    reduced(context, &arguments, losses)
}

fn binary_with_logits(context: &Context, arguments: Arguments) -> Results {
    let (input, target) = (arguments.tensor("self")?, arguments.tensor("target")?);
    let ones = context.scalar(1f32)?;
    let positive = arguments.optional_tensor("pos_weight")?.unwrap_or(&ones);
    let shape = broadcast_shapes(
        input.shape(),
        &broadcast_shapes(target.shape(), positive.shape())?,
    )?;
    let losses = map3::<f32, f32>(
        context,
        input.dtype(),
        &shape,
        [input, target, positive],
        #[inline(always)]
        |x, t, p| {
            let softplus = exp(-x.abs()).ln_1p() + (-x).max(0.0);
            (1.0 - t) * x + (1.0 + (p - 1.0) * t) * softplus
        },
    )?;
    weighed(context, &arguments, losses)
}

fn margin_ranking(context: &Context, arguments: Arguments) -> Results {
    let (first, second) = (arguments.tensor("input1")?, arguments.tensor("input2")?);
    let target = arguments.tensor("target")?;
    let margin = arguments.float_or("margin", 0.0)? as f32;
    let shape = broadcast_shapes(
        target.shape(),
        &broadcast_shapes(first.shape(), second.shape())?,
    )?;
    let losses = map3::<f32, f32>(
        context,
        first.dtype(),
        &shape,
        [first, second, target],
        #[inline(always)]
        |a, b, t| (margin - t * (a - b)).max(0.0),
    )?;
    reduced(context, &arguments, losses)
}

/// 1 - cos for pairs that belong together, what cos exceeds the margin by for others.
fn cosine_embedding(context: &Context, arguments: Arguments) -> Results {
    let (first, second) = (arguments.tensor("input1")?, arguments.tensor("input2")?);
    let margin = arguments.float_or("margin", 0.0)? as f32;
    let last = (first.rank() as i64 - 1).max(0);
    let dot = |left: &Tensor, right: &Tensor| {
        let product = of_pairs(context, left, right, |a, b| a * b)?;
        let dims = vec![last].into();
        let arguments = [("self", product.into()), ("dim", dims)];
        tensor_of(context, "aten.sum.dim_IntList", arguments)
    };
    let lengths = map2::<f32, f32>(
        context,
        Dtype::F32,
        dot(first, first)?.shape(),
        [&dot(first, first)?, &dot(second, second)?],
        |a, b| ((a + 1e-12) * (b + 1e-12)).sqrt(),
    )?;
    let cosine = of_pairs(context, &dot(first, second)?, &lengths, |a, b| a / b)?;
    let losses = of_pairs(
        context,
        &cosine,
        arguments.tensor("target")?,
        |cosine, target| {
            if target == 1.0 {
                1.0 - cosine
            } else if target == -1.0 {
                (cosine - margin).max(0.0)
            } else {
                0.0
            }
        },
    )?;
    reduced(context, &arguments, context.cast(&losses, first.dtype())?)
}

fn triplet_margin(context: &Context, arguments: Arguments) -> Results {
    let [anchor, positive, negative] =
        ["anchor", "positive", "negative"].map(|name| arguments.tensor(name));
    let (anchor, positive, negative) = (anchor?, positive?, negative?);
    let margin = arguments.float_or("margin", 1.0)? as f32;
    let distance = |left: &Tensor, right: &Tensor| {
        let named = [
            ("x1", left.clone().into()),
            ("x2", right.clone().into()),
            ("p", arguments.float_or("p", 2.0)?.into()),
            ("eps", arguments.float_or("eps", 1e-6)?.into()),
        ];
        tensor_of(context, "aten.pairwise_distance.default", named)
    };
    let near = distance(anchor, positive)?;
    let mut far = distance(anchor, negative)?;
    if arguments.bool_or("swap", false)? {
        far = of_pairs(context, &far, &distance(positive, negative)?, f32::min)?;
    }
    let losses = of_pairs(context, &near, &far, |near, far| {
        (margin + near - far).max(0.0)
    })?;
    reduced(context, &arguments, losses)
}

/// A matrix of float32 with a row for each sample; one of a single dimension is one row.
fn rows(context: &Context, tensor: &Tensor) -> Result<(Tensor, usize, usize), OperatorError> {
    let (samples, classes) = match *tensor.shape() {
        [] => (1, 1),
        [classes] => (1, classes),
        [samples, classes] => (samples, classes),
        _ => return Err(wrong_shape("(sample, class) or (class)", tensor)),
    };
    Ok((context.cast(tensor, Dtype::F32)?, samples, classes))
}

fn multi_margin(context: &Context, arguments: Arguments) -> Results {
    let input = arguments.tensor("self")?;
    let (wide, samples, classes) = rows(context, input)?;
    let targets = context.cast(arguments.tensor("target")?, Dtype::I64)?;
    let (power, margin) = (
        arguments.int_or("p", 1)? as i32,
        arguments.float_or("margin", 1.0)? as f32,
    );
    let weight = arguments.optional_tensor("weight")?;
    let weight = weight
        .map(|weight| context.cast(weight, Dtype::F32))
        .transpose()?;
    let weight = weight.as_ref().map(Tensor::elements::<f32>).transpose()?;
    let (values, targets) = (wide.elements::<f32>()?, targets.elements::<i64>()?);
    let mut losses = Vec::with_capacity(samples);
    for (row, &target) in values.chunks(classes.max(1)).zip(targets.iter()) {
        let target = super::shape::index(target, classes)?;
        let factor = weight
            .as_ref()
            .map_or(1.0, |weight| weight.get(target).copied().unwrap_or(1.0));
        let total: f32 = (0..classes)
            .filter(|&class| class != target)
            .map(|class| (margin - row[target] + row[class]).max(0.0).powi(power) * factor)
            .sum();
        losses.push(total / classes as f32);
    }
    let shape: &[usize] = if input.rank() < 2 { &[] } else { &[samples] };
    let losses = context.cast(&context.tensor(&losses, shape)?, input.dtype())?;
    reduced(context, &arguments, losses)
}

fn multilabel_margin(context: &Context, arguments: &Arguments) -> Results {
    let input = arguments.tensor("self")?;
    let (wide, samples, classes) = rows(context, input)?;
    let targets = context.cast(arguments.tensor("target")?, Dtype::I64)?;
    let (values, wanted) = (wide.elements::<f32>()?, targets.elements::<i64>()?);
    let mut losses = Vec::with_capacity(samples);
    let mut marks = vec![0f32; samples * classes];
    for (sample, row) in values.chunks(classes.max(1)).enumerate() {
        let listed = wanted.iter().skip(sample * classes).take(classes);
        // The list of targets ends at the first negative one.
        let listed = listed
            .take_while(|&&target| target >= 0)
            .map(|&target| super::shape::index(target, classes))
            .collect::<Result<Vec<_>, _>>()?;
        let marks = &mut marks[sample * classes..(sample + 1) * classes];
        listed.iter().for_each(|&target| marks[target] = 1.0);
        let total: f32 = listed
            .iter()
            .flat_map(|&target| {
                (0..classes)
                    .filter(|&class| marks[class] == 0.0)
                    .map(move |class| (1.0 - row[target] + row[class]).max(0.0))
            })
            .sum();
        losses.push(total / classes as f32);
    }
    let shape: &[usize] = if input.rank() < 2 { &[] } else { &[samples] };
    let losses = context.cast(&context.tensor(&losses, shape)?, input.dtype())?;
    let mut results = reduced(context, arguments, losses)?;
    let marks = context.tensor(&marks, arguments.tensor("target")?.shape())?;
    results.push(context.cast(&marks, input.dtype())?.into());
    Ok(results)
}

/// For each target: its class' logarithm of probability, negative and times the class' weight. Also their weight.
struct Likelihoods {
    losses: Vec<f32>,
    weights: Vec<f32>,
}

impl Likelihoods {
    /// `logarithms` of shape (sample, class, …) or (class).
    fn new(
        context: &Context,
        arguments: &Arguments,
        logarithms: &Tensor,
        target: &Tensor,
    ) -> Result<Self, OperatorError> {
        let (classes, inner) = match logarithms.shape() {
            [] => return Err(wrong_shape("classes", logarithms)),
            [classes] => (*classes, 1),
            [_, classes, inner @ ..] => (*classes, inner.iter().product::<usize>()),
        };
        let ignored = arguments.int_or("ignore_index", -100)?;
        let wide = context.cast(logarithms, Dtype::F32)?;
        let targets = context.cast(target, Dtype::I64)?;
        if targets.count() * classes != wide.count() {
            return Err(wrong_shape(
                format!("a target for each sample of {:?}", logarithms.shape()),
                target,
            ));
        }
        let weight = class_weight(context, arguments, classes)?;
        let values = wide.elements::<f32>()?;
        let mut likelihoods = Self {
            losses: Vec::with_capacity(targets.count()),
            weights: Vec::with_capacity(targets.count()),
        };
        for (place, &class) in targets.elements::<i64>()?.iter().enumerate() {
            if class == ignored {
                likelihoods.losses.push(0.0);
                likelihoods.weights.push(0.0);
                continue;
            }
            let class = super::shape::index(class, classes)?;
            let (sample, rest) = (place / inner.max(1), place % inner.max(1));
            let value = values[(sample * classes + class) * inner + rest];
            likelihoods.losses.push(-value * weight[class]);
            likelihoods.weights.push(weight[class]);
        }
        Ok(likelihoods)
    }

    /// The losses as the reduction says; the mean is over the weights.
    fn reduced(
        &self,
        context: &Context,
        reduction: Reduction,
        shape: &[usize],
        dtype: Dtype,
    ) -> Result<Tensor, OperatorError> {
        let (sum, weight) = (total(&self.losses), total(&self.weights));
        let result = match reduction {
            Reduction::None => context.tensor(&self.losses, shape)?,
            Reduction::Mean => context.scalar((sum / weight) as f32)?,
            Reduction::Sum => context.scalar(sum as f32)?,
        };
        context.cast(&result, dtype)
    }
}

fn total(values: &[f32]) -> f64 {
    values.iter().map(|&value| f64::from(value)).sum()
}

/// The weight of each class, 1 by default.
fn class_weight(
    context: &Context,
    arguments: &Arguments,
    classes: usize,
) -> Result<Vec<f32>, OperatorError> {
    let Some(weight) = arguments.optional_tensor("weight")? else {
        return Ok(vec![1.0; classes]);
    };
    if weight.count() != classes {
        return Err(wrong_shape(format!("{classes} weights"), weight));
    }
    Ok(context
        .cast(weight, Dtype::F32)?
        .elements::<f32>()?
        .to_vec())
}

/// The negative logarithm of the likelihood of targets, and the weight of all.
fn likelihood(context: &Context, arguments: &Arguments) -> Results {
    let (input, target) = (arguments.tensor("self")?, arguments.tensor("target")?);
    let likelihoods = Likelihoods::new(context, arguments, input, target)?;
    let loss = likelihoods.reduced(
        context,
        reduction(arguments)?,
        target.shape(),
        input.dtype(),
    )?;
    let weight = match reduction(arguments)? {
        Reduction::None => 0.0,
        _ => total(&likelihoods.weights) as f32,
    };
    let weight = context.cast(&context.scalar(weight)?, input.dtype())?;
    Ok(vec![loss.into(), weight.into()])
}

fn cross_entropy(context: &Context, arguments: Arguments) -> Results {
    let (input, target) = (arguments.tensor("self")?, arguments.tensor("target")?);
    let dim = i64::from(input.rank() > 1);
    let logarithms = tensor_of(
        context,
        "aten.log_softmax.int",
        [("self", input.clone().into()), ("dim", dim.into())],
    )?;
    let classes = input.shape().get(dim as usize).copied().unwrap_or(1);
    let smoothing = arguments.float_or("label_smoothing", 0.0)?;
    let weight = context.tensor(&class_weight(context, &arguments, classes)?, &[classes])?;
    // Beside the classes, whatever comes after them.
    let mut shape = vec![1; input.rank().max(1) - dim as usize];
    shape[0] = classes;
    let weight = weight.view(&shape)?.unwrap_or(weight);
    let over_classes = |losses: Tensor| {
        let arguments = [("self", losses.into()), ("dim", vec![dim].into())];
        tensor_of(context, "aten.sum.dim_IntList", arguments)
    };
    if is_floating(target.dtype()) && target.shape() == input.shape() {
        let (kept, spread) = (1.0 - smoothing as f32, smoothing as f32 / classes as f32);
        let weighed = map3::<f32, f32>(
            context,
            input.dtype(),
            input.shape(),
            [&logarithms, target, &weight],
            #[inline(always)]
            |logarithm, target, weight| -logarithm * (target * kept + spread) * weight,
        )?;
        let losses = over_classes(weighed)?;
        // The mean is over samples, whatever their weights.
        return reduced(context, &arguments, losses);
    }
    let likelihoods = Likelihoods::new(context, &arguments, &logarithms, target)?;
    let (kind, dtype) = (reduction(&arguments)?, input.dtype());
    let loss = likelihoods.reduced(context, kind, target.shape(), dtype)?;
    if smoothing == 0.0 {
        return one(loss);
    }
    let spread = over_classes(of_pairs(
        context,
        &logarithms,
        &weight,
        |logarithm, weight| -logarithm * weight,
    )?)?;
    let spread = context.cast(&spread, Dtype::F32)?;
    let losses = spread.elements::<f32>()?;
    let ignored = arguments.int_or("ignore_index", -100)?;
    let targets = context.cast(target, Dtype::I64)?;
    let smooth = Likelihoods {
        losses: losses
            .iter()
            .zip(targets.elements::<i64>()?.iter())
            .map(|(&loss, &target)| if target == ignored { 0.0 } else { loss })
            .collect(),
        weights: likelihoods.weights,
    };
    let smooth = smooth.reduced(context, kind, target.shape(), dtype)?;
    let spread = smoothing as f32 / classes as f32;
    let smoothing = smoothing as f32;
    one(of_pairs(context, &loss, &smooth, |loss, smooth| {
        (1.0 - smoothing) * loss + spread * smooth
    })?)
}
