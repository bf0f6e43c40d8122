//! Operators that torch has under several names.

use std::borrow::Cow;

/// Another name, and the one that the tables have. Overloads and in-place forms go with it.
const OTHER_NAMES: &[(&str, &str)] = &[
    ("__iand__", "bitwise_and_"),
    ("__ior__", "bitwise_or_"),
    ("__ixor__", "bitwise_xor_"),
    ("__and__", "bitwise_and"),
    ("__or__", "bitwise_or"),
    ("__xor__", "bitwise_xor"),
    ("_adaptive_avg_pool2d", "adaptive_avg_pool2d"),
    ("_adaptive_avg_pool3d", "adaptive_avg_pool3d"),
    ("_cdist_forward", "cdist"),
    ("_embedding_bag_forward_only", "_embedding_bag"),
    ("_pdist_forward", "pdist"),
    ("_reshape_alias", "reshape"),
    ("absolute", "abs"),
    ("adjoint", "mT"),
    ("arccos", "acos"),
    ("arccosh", "acosh"),
    ("arcsin", "asin"),
    ("arcsinh", "asinh"),
    ("arctan", "atan"),
    ("arctan2", "atan2"),
    ("arctanh", "atanh"),
    ("clip", "clamp"),
    ("concat", "cat"),
    ("concatenate", "cat"),
    ("det", "linalg_det"),
    ("divide", "div"),
    ("fix", "trunc"),
    ("ger", "outer"),
    ("greater", "gt"),
    ("greater_equal", "ge"),
    ("inverse", "linalg_inv"),
    ("less", "lt"),
    ("less_equal", "le"),
    ("linalg_matmul", "matmul"),
    ("moveaxis", "movedim"),
    ("multiply", "mul"),
    ("negative", "neg"),
    ("not_equal", "ne"),
    ("resolve_conj", "alias"),
    ("resolve_neg", "alias"),
    ("row_stack", "vstack"),
    ("special_erf", "erf"),
    ("special_erfc", "erfc"),
    ("special_erfinv", "erfinv"),
    ("special_exp2", "exp2"),
    ("special_expit", "sigmoid"),
    ("special_expm1", "expm1"),
    ("special_gammaln", "lgamma"),
    ("special_log1p", "log1p"),
    ("special_log_softmax", "log_softmax"),
    ("special_logit", "logit"),
    ("special_logsumexp", "logsumexp"),
    ("special_round", "round"),
    ("special_sinc", "sinc"),
    ("special_softmax", "softmax"),
    ("special_xlogy", "xlogy"),
    ("subtract", "sub"),
    ("true_divide", "div"),
    ("unsafe_chunk", "chunk"),
    ("unsafe_split", "split"),
    ("unsafe_split_with_sizes", "split_with_sizes"),
];

/// Each other name and the usual one, without `aten.`.
pub fn other_names() -> &'static [(&'static str, &'static str)] {
    OTHER_NAMES
}

/// The name in the tables of what a graph calls `target`: `torch.ops.aten.divide_.Tensor` is `aten.div_.Tensor`.
pub fn usual(target: &str) -> Cow<'_, str> {
    let name = target.strip_prefix("torch.ops.").unwrap_or(target);
    let parts = name
        .strip_prefix("aten.")
        .and_then(|rest| rest.split_once('.'));
    let Some((operator, overload)) = parts else {
        return name.into();
    };
    let find = |wanted: &str| {
        OTHER_NAMES
            .iter()
            .find(|(other, _)| *other == wanted)
            .map(|(_, usual)| *usual)
    };
    let in_place = || find(operator.strip_suffix('_')?).map(|usual| (usual, "_"));
    match find(operator).map(|usual| (usual, "")).or_else(in_place) {
        Some((usual, suffix)) => format!("aten.{usual}{suffix}.{overload}").into(),
        None => name.into(),
    }
}
