"""Makes the cases that `tests/operators.rs` runs: what torch's operators give for random arguments.

    make fixtures

A case is a line of JSON. Tensors that are arguments are not stored: both sides make them of a seed. Results
are stored as they are, so the files stay small. The same version of torch gives the same cases on every run.
"""

import base64
import gzip
import json
import math
import random
import sys
import warnings
from pathlib import Path

import numpy as np
import torch

DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
REALS = [torch.float32, torch.float32, torch.bfloat16, torch.float16]
INTEGERS = [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8]
MASK = (1 << 64) - 1


def uniform(seed, count):
    """`count` integers of 24 random bits (the SplitMix64 generator)."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed & MASK) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return (z ^ (z >> np.uint64(31))) >> np.uint64(40)


class Argument:
    """A tensor made from a seed: elements of storage between `low` and `high`, seen with strides."""

    def __init__(self, dtype, shape, low, high, strides=None, offset=0, storage=None, special=False):
        self.dtype, self.shape, self.low, self.high = dtype, list(shape), low, high
        self.strides, self.offset = strides, offset
        self.storage = math.prod(shape) if storage is None else storage
        self.special = special
        self.seed = rng.getrandbits(32)

    def tensor(self):
        bits = uniform(self.seed, self.storage)
        if self.dtype.is_floating_point:
            values = bits.astype(np.float64) / (1 << 24) * (self.high - self.low) + self.low
            if self.special:
                for place, value in enumerate([math.nan, math.inf, -math.inf, 0.0]):
                    if place < len(values):
                        values[place] = value
            flat = torch.from_numpy(values).to(
                torch.float32 if self.dtype != torch.float64 else torch.float64
            )
        else:
            values = bits.astype(np.int64) % max(1, self.high - self.low) + self.low
            flat = torch.from_numpy(values)
        flat = flat.to(self.dtype)
        if self.strides is None:
            return flat.reshape(self.shape)
        return torch.as_strided(flat, self.shape, self.strides, self.offset)

    def json(self):
        spec = {
            "dtype": DTYPES[self.dtype],
            "shape": self.shape,
            "seed": self.seed,
            "low": self.low,
            "high": self.high,
        }
        if self.strides is not None:
            spec |= {"strides": self.strides, "offset": self.offset, "storage": self.storage}
        if self.special:
            spec["special"] = True
        return {"tensor": spec}


class Values:
    """A tensor of the values given."""

    def __init__(self, values, dtype):
        self.value = torch.tensor(values, dtype=dtype)

    def tensor(self):
        return self.value

    def json(self):
        return stored(self.value)


def stored(tensor):
    flat = torch.empty(tensor.numel(), dtype=tensor.dtype).copy_(tensor.detach().reshape(-1))
    raw = flat.view(torch.uint8) if flat.numel() else torch.empty(0, dtype=torch.uint8)
    data = base64.b64encode(raw.numpy().tobytes()).decode()
    return {"stored": {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data": data}}


def as_torch(value):
    if isinstance(value, (Argument, Values)):
        return value.tensor()
    if isinstance(value, (list, tuple)):
        return [as_torch(item) for item in value]
    return value


def as_json(value):
    if isinstance(value, (Argument, Values)):
        return value.json()
    if isinstance(value, torch.dtype):
        return {"dtype": DTYPES[value]}
    if isinstance(value, float):
        return {"float": value if math.isfinite(value) else str(value)}
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    return value


def results_json(value):
    if isinstance(value, torch.Tensor):
        return stored(value)
    if isinstance(value, (list, tuple)):
        return [results_json(item) for item in value]
    return as_json(value)


rng = random.Random(0)
families = {}
current = None


def family(function):
    families[function.__name__] = function
    return function


def case(name, *args, tolerance=1.0, results=None, **kwargs):
    """Runs an operator and keeps what it gave. `results`: how many of its results are compared."""
    packet, overload = name.rsplit(".", 1)
    operator = getattr(getattr(torch.ops.aten, packet), overload)
    names = [argument.name for argument in operator._schema.arguments]
    named = dict(zip(names, args, strict=False)) | kwargs
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        given = operator(**{key: as_torch(value) for key, value in named.items()})
    if not isinstance(given, (list, tuple)) or str(operator._schema.returns[0].type) == "List[Tensor]":
        given = [given]
    given = list(given)[:results]
    line = {"op": f"aten.{name}", "args": [[key, as_json(value)] for key, value in named.items()]}
    line["results"] = [results_json(result) for result in given]
    if tolerance != 1.0:
        line["tolerance"] = tolerance
    current.append(json.dumps(line, separators=(",", ":")))


def shape(least=0, most=4, largest=5):
    return [rng.randint(1, largest) for _ in range(rng.randint(least, most))]


def tensor(dtype=None, size=None, low=-2.0, high=2.0, strided=True, special=False, expanded=True):
    """A tensor, one time in three with its own strides (transposed, every second element, or expanded)."""
    dtype = dtype or rng.choice(REALS)
    size = shape() if size is None else size
    if not dtype.is_floating_point:
        low, high = int(low) if low != -2.0 else -5, int(high) if high != 2.0 else 6
        if dtype == torch.uint8:
            low = max(low, 0)
        if dtype == torch.bool:
            low, high = 0, 2
    kind = rng.randrange(9) if strided and len(size) > 0 else 9
    if kind == 0 and len(size) > 1:
        order = list(range(len(size)))
        rng.shuffle(order)
        strides, step = [0] * len(size), 1
        for dim in order:
            strides[dim] = step
            step *= size[dim]
        return Argument(dtype, size, low, high, strides, 0, step, special)
    if kind == 1:
        strides, step = [0] * len(size), 2
        for dim in reversed(range(len(size))):
            strides[dim] = step
            step *= size[dim]
        return Argument(dtype, size, low, high, strides, 1, step + 1, special)
    if kind == 2 and expanded:
        gone = rng.randrange(len(size))
        strides, step = [0] * len(size), 1
        for dim in reversed(range(len(size))):
            if dim != gone:
                strides[dim] = step
                step *= size[dim]
        return Argument(dtype, size, low, high, strides, 0, step, special)
    return Argument(dtype, size, low, high, special=special)


def indices(size, low, high, dtype=torch.int64):
    """Integers from `low` up to but not including `high`."""
    return Argument(dtype, size, low, high)


def broadcast_pair(dtype=None, other=None, low=-2.0, high=2.0):
    """Two tensors whose shapes broadcast."""
    whole = shape()

    def part(of):
        cut = list(of[rng.randint(0, len(of)) :]) if rng.random() < 0.3 else list(of)
        return [1 if rng.random() < 0.2 else size for size in cut]

    return tensor(dtype, part(whole), low, high), tensor(other or dtype, part(whole), low, high)


def any_dim(rank):
    return rng.randrange(-rank, rank) if rank else 0


@family
def arithmetic():
    pairs = [(torch.float32, None)] * 6 + [(torch.bfloat16, None), (torch.float16, None), (torch.int64, None)]
    pairs += [(torch.float32, torch.int64), (torch.bfloat16, torch.float32), (torch.int32, torch.int64)]
    pairs += [(torch.int64, torch.float32), (torch.bool, torch.float32), (torch.float64, torch.float32)]
    for name in [
        "add.Tensor",
        "sub.Tensor",
        "mul.Tensor",
        "div.Tensor",
        "maximum.default",
        "minimum.default",
    ]:
        for _ in range(30):
            first, second = broadcast_pair(*rng.choice(pairs))
            if name.startswith("sub") and torch.bool in (first.dtype, second.dtype):
                continue
            alpha = {"alpha": 2} if name[:3] in ("add", "sub") and rng.random() < 0.3 else {}
            case(name, first, second, **alpha)
    for name in ["add.Tensor", "mul.Tensor", "div.Tensor", "sub.Tensor"]:
        for dtype in REALS + INTEGERS[:2]:
            case(name, tensor(dtype), rng.choice([3, 0.3, -1.7]))
    for name in ["add.Scalar", "mul.Scalar", "div.Scalar", "rsub.Scalar"]:
        for dtype in [*REALS, torch.int64]:
            case(name, tensor(dtype), rng.choice([3, 0.3]))
    for name in ["remainder.Tensor", "fmod.Tensor", "floor_divide.default"]:
        for dtype in REALS:
            case(name, tensor(dtype, [3, 4]), tensor(dtype, [3, 4], 0.3, 2.0), tolerance=20)
        for dtype in [torch.int64, torch.int32]:
            case(name, tensor(dtype, [3, 4]), tensor(dtype, [3, 4], 1, 4))
            case(name, tensor(dtype, [3, 4]), tensor(dtype, [3, 4], -4, 0))
    for name in ["remainder.Scalar", "fmod.Scalar"]:
        for divisor in [3, -3]:
            case(name, tensor(torch.int64), divisor)
        case(name, tensor(torch.float32), 1.25, tolerance=20)
    for mode in [None, "floor", "trunc"]:
        for dtype in [torch.float32, torch.int64, torch.bfloat16]:
            case("div.Tensor_mode", tensor(dtype, [4, 3]), tensor(dtype, [3], 1, 4), rounding_mode=mode)
            case("div.Scalar_mode", tensor(dtype, [4, 3]), 2, rounding_mode=mode)
    for exponent in [2, 3, 0.5, -0.5, -1, -2, 1.7, 0, 1, 2.0]:
        for dtype in REALS:
            case("pow.Tensor_Scalar", tensor(dtype, low=0.1), exponent, tolerance=2)
    for exponent in [0, 1, 2, 3]:
        case("pow.Tensor_Scalar", tensor(torch.int64), exponent)
    for dtype in REALS:
        case("pow.Tensor_Tensor", tensor(dtype, [3, 4], 0.1), tensor(dtype, [4]), tolerance=2)
        case("pow.Scalar", 10000.0, tensor(dtype, [6]), tolerance=4)
        case("atan2.default", tensor(dtype, [3, 4]), tensor(dtype, [4]))
        case("addcmul.default", tensor(dtype, [3, 4]), tensor(dtype, [4]), tensor(dtype, [3, 1]), value=0.5)
        case(
            "addcdiv.default",
            tensor(dtype, [3, 4]),
            tensor(dtype, [4]),
            tensor(dtype, [3, 1], 0.5),
            value=0.5,
            tolerance=2,
        )
        case("lerp.Scalar", tensor(dtype, [3, 4]), tensor(dtype, [3, 4]), 0.3)
        case("lerp.Tensor", tensor(dtype, [3, 4]), tensor(dtype, [3, 4]), tensor(dtype, [3, 4], 0.0, 1.0))
    for name in ["maximum.default", "minimum.default"]:
        case(name, tensor(torch.float32, [5], special=True, strided=False), tensor(torch.float32, [5]))
    case("add.Tensor", tensor(torch.float32, [0, 3]), tensor(torch.float32, [3]))


@family
def unary():
    real = "exp expm1 sqrt rsqrt reciprocal sin cos tan tanh sigmoid erf atan sinh cosh asinh exp2"
    real += " log log2 log10 log1p"
    for name in (real + " neg abs sign square floor ceil trunc round frac").split():
        positive = name in ("sqrt", "rsqrt", "reciprocal", "log", "log2", "log10", "log1p")
        for dtype in [*REALS, torch.float32, torch.bfloat16, torch.float64]:
            case(f"{name}.default", tensor(dtype, low=0.1 if positive else -2.0), tolerance=2)
        if name not in ("frac", "sin", "cos", "tan"):
            special = tensor(torch.float32, [9], low=0.1 if positive else -2.0, special=True, strided=False)
            case(f"{name}.default", special, tolerance=2)
        if name not in ("frac", "trunc"):
            case(f"{name}.default", tensor(torch.int64, low=1, high=5), tolerance=2)
    for name in ["asin", "acos", "atanh"]:
        for dtype in REALS:
            case(f"{name}.default", tensor(dtype, low=-0.9, high=0.9), tolerance=2)
    for dtype in REALS:
        case("acosh.default", tensor(dtype, low=1.1, high=3.0), tolerance=2)
        case("logit.default", tensor(dtype, low=0.1, high=0.9), tolerance=4)
    for dtype in [*REALS, torch.int64]:
        for low, high in [(-1, 1), (None, 1), (-1, None), (0, None)]:
            case("clamp.default", tensor(dtype), low, high)
        case("clamp.default", tensor(dtype), -0.5 if dtype.is_floating_point else -1, 3)
        case("clamp_min.default", tensor(dtype), 0)
        case("clamp_max.default", tensor(dtype), 1)
        case("clamp.Tensor", tensor(dtype, [3, 4]), tensor(dtype, [4]), None)
    for dtype in REALS:
        case("nan_to_num.default", tensor(dtype, [8], special=True, strided=False))
        case("nan_to_num.default", tensor(dtype, [8], special=True, strided=False), 1.0, 2.0, 3.0)
    for name in ["exp", "tanh", "erf", "sigmoid"]:
        case(f"{name}.default", tensor(torch.float32, [200], -20.0, 20.0), tolerance=2)


@family
def comparison():
    dtypes = [*REALS, torch.int64, torch.bool, torch.float64]
    for name in ["eq", "ne", "lt", "le", "gt", "ge"]:
        for _ in range(15):
            dtype = rng.choice(dtypes)
            case(f"{name}.Tensor", *broadcast_pair(dtype, rng.choice([dtype, torch.int64, torch.float32])))
        for dtype in [torch.float32, torch.bfloat16, torch.int64]:
            case(f"{name}.Scalar", tensor(dtype), rng.choice([1, 0, 0.5]))
    for name in ["logical_and", "logical_or", "logical_xor"]:
        for _ in range(6):
            case(f"{name}.default", *broadcast_pair(rng.choice([torch.bool, torch.float32, torch.int64])))
    for name in ["bitwise_and", "bitwise_or", "bitwise_xor", "__and__", "__or__", "__xor__"]:
        for dtype in [torch.bool, torch.int64, torch.int32, torch.uint8]:
            case(f"{name}.Tensor", *broadcast_pair(dtype))
    for dtype in [torch.bool, torch.int64, torch.int8]:
        case("bitwise_not.default", tensor(dtype))
        case("logical_not.default", tensor(dtype))
    for name in ["isnan", "isinf", "isposinf", "isneginf"]:
        case(f"{name}.default", tensor(torch.float32, [7], special=True, strided=False))
    for _ in range(25):
        dtype = rng.choice([torch.float32, torch.bfloat16, torch.int64, torch.bool])
        first, second = broadcast_pair(dtype)
        whole = torch.broadcast_shapes(tuple(first.shape), tuple(second.shape))
        case("where.self", tensor(torch.bool, list(whole)), first, second)
    for dtype in [torch.float32, torch.bfloat16, torch.int64]:
        case("where.ScalarOther", tensor(torch.bool, [3, 4]), tensor(dtype, [3, 4]), -1)
        case("where.ScalarSelf", tensor(torch.bool, [3, 4]), 0.5, tensor(dtype, [4]))
        case("masked_fill.Scalar", tensor(dtype, [3, 4]), tensor(torch.bool, [4]), 7)
        case("masked_fill.Tensor", tensor(dtype, [3, 4]), tensor(torch.bool, [4]), tensor(dtype, []))
    case("masked_fill.Scalar", tensor(torch.float32, [3, 4]), tensor(torch.bool, [3, 4]), -math.inf)


@family
def activation():
    names = (
        "relu relu6 silu mish hardswish hardsigmoid selu softplus log_sigmoid leaky_relu elu celu hardtanh"
    )
    for name in names.split():
        for dtype in REALS * 2:
            case(f"{name}.default", tensor(dtype, low=-6.0, high=6.0), tolerance=2)
    for approximate in ["none", "tanh"]:
        for dtype in REALS * 3:
            case("gelu.default", tensor(dtype, low=-5.0, high=5.0), approximate=approximate, tolerance=8)
    for dtype in REALS:
        case("leaky_relu.default", tensor(dtype), 0.2)
        case("elu.default", tensor(dtype), 0.7, tolerance=2)
        case("softplus.default", tensor(dtype, high=30.0), 0.5, 10, tolerance=2)
        case("threshold.default", tensor(dtype), 0.5, 2)
        case("prelu.default", tensor(dtype, [2, 3, 4]), tensor(dtype, [3], strided=False))
        case("prelu.default", tensor(dtype, [2, 3]), tensor(dtype, [1], strided=False))
        case("glu.default", tensor(dtype, [3, 4, 6]), rng.choice([-1, 2, 1]), tolerance=2)
        case("glu.default", tensor(dtype, [3, 4, 6]), 1, tolerance=2)
    case("relu.default", tensor(torch.int64))
    for dtype in REALS * 8:
        size = shape(1, 4, 7)
        dim = any_dim(len(size))
        case("softmax.int", tensor(dtype, size, -6.0, 6.0), dim, tolerance=2)
        case("_softmax.default", tensor(dtype, size, -6.0, 6.0), dim, False, tolerance=2)
        case("log_softmax.int", tensor(dtype, size, -6.0, 6.0), dim, tolerance=2)
    case("softmax.int", tensor(torch.bfloat16, [3, 70]), -1, torch.float32)
    case("softmax.int", tensor(torch.float32, [2, 1500], -9.0, 9.0), -1, tolerance=2)
    case("_log_softmax.default", tensor(torch.float32, [2, 150], -9.0, 9.0), -1, False, tolerance=2)
    case(
        "_safe_softmax.default",
        Values([[-math.inf] * 3, [0.0, 1.0, -math.inf]], torch.float32),
        -1,
        tolerance=2,
    )
    case("dropout.default", tensor(torch.float32), 0.1, False)


@family
def reduction():
    def dims(rank):
        count = rng.randint(0, rank)
        return [dim - rank if rng.random() < 0.3 else dim for dim in rng.sample(range(rank), count)]

    for name in ["sum.dim_IntList", "mean.dim", "amax.default", "amin.default"]:
        for _ in range(25):
            size = shape(1, 4)
            dtype = rng.choice([*REALS, *([torch.int64, torch.bool] if name[:3] == "sum" else [])])
            case(name, tensor(dtype, size), dims(len(size)), rng.random() < 0.5, tolerance=8)
    for name in ["sum.default", "mean.default", "max.default", "min.default"]:
        for dtype in REALS + ([torch.int64] if name != "mean.default" else []):
            case(name, tensor(dtype), tolerance=2)
    case("sum.dim_IntList", tensor(torch.bfloat16, [3, 4]), [1], False, dtype=torch.float32)
    case("sum.default", tensor(torch.float32, [3000], 0.0), tolerance=4)
    case("mean.dim", tensor(torch.float32, [3, 1000, 4]), [1], tolerance=4)
    for name in ["max.dim", "min.dim"]:
        for dtype in [*REALS, torch.int64, torch.float32]:
            size = shape(1, 4)
            case(name, tensor(dtype, size), any_dim(len(size)), rng.random() < 0.5)
    for name in ["argmax.default", "argmin.default"]:
        for dtype in [*REALS, torch.int64]:
            size = shape(1, 4)
            case(name, tensor(dtype, size), any_dim(len(size)), rng.random() < 0.5)
            case(name, tensor(dtype, size))
    case("argmax.default", tensor(torch.float32, [6], special=True, strided=False))
    for name in ["any", "all"]:
        for dtype in [torch.bool, torch.float32, torch.int64]:
            size = shape(1, 4)
            case(f"{name}.default", tensor(dtype, size))
            case(f"{name}.dim", tensor(dtype, size, -1, 2), any_dim(len(size)), rng.random() < 0.5)
    for dtype in [*REALS, torch.float64]:
        for unbiased in [True, False]:
            case("var.dim", tensor(dtype, [3, 4, 5]), [1], unbiased, tolerance=4)
            case("std.dim", tensor(dtype, [3, 4, 5]), [0, 2], unbiased, True, tolerance=4)
        case("var.correction", tensor(dtype, [3, 4, 5]), [2], correction=0, keepdim=True, tolerance=4)
        case("var_mean.correction", tensor(dtype, [3, 4, 5]), [-1], correction=1, keepdim=True, tolerance=4)
        case("logsumexp.default", tensor(dtype, [3, 4, 5]), [1], tolerance=4)
        for order in [2, 1, 0, math.inf, 3]:
            case("linalg_vector_norm.default", tensor(dtype, [3, 4, 5]), order, [1], tolerance=4)
        case("norm.ScalarOpt_dim", tensor(dtype, [3, 4]), 2, [1], True, tolerance=4)
        case("prod.dim_int", tensor(dtype, [3, 4]), 1, tolerance=4)
    case("prod.default", tensor(torch.int64, [4], 1, 4))
    case("count_nonzero.default", tensor(torch.int64, [4, 5]))
    case("mean.dim", tensor(torch.bfloat16, [3, 4]), [0], dtype=torch.float32)


@family
def matrix():
    for dtype in REALS * 6:
        m, k, n = (rng.choice([1, 2, 3, 5, 8, 17]) for _ in range(3))
        case("mm.default", tensor(dtype, [m, k]), tensor(dtype, [k, n]), tolerance=4)
        case("linear.default", tensor(dtype, [*shape(0, 2), k]), tensor(dtype, [n, k]), None, tolerance=4)
        case("linear.default", tensor(dtype, [m, k]), tensor(dtype, [n, k]), tensor(dtype, [n]), tolerance=4)
        case("addmm.default", tensor(dtype, [n]), tensor(dtype, [m, k]), tensor(dtype, [k, n]), tolerance=4)
        case("bmm.default", tensor(dtype, [3, m, k]), tensor(dtype, [3, k, n]), tolerance=4)
        pair = rng.choice(
            [
                ([k], [k]),
                ([m, k], [k]),
                ([k], [k, n]),
                ([2, 1, m, k], [3, k, n]),
                ([2, 3, m, k], [k, n]),
                ([m, k], [2, k, n]),
            ]
        )
        case("matmul.default", tensor(dtype, pair[0]), tensor(dtype, pair[1]), tolerance=4)
    for dtype in REALS:
        case(
            "addmm.default",
            tensor(dtype, [3, 4]),
            tensor(dtype, [3, 5]),
            tensor(dtype, [5, 4]),
            beta=0.5,
            alpha=2,
            tolerance=6,
        )
        case(
            "baddbmm.default",
            tensor(dtype, [2, 3, 4]),
            tensor(dtype, [2, 3, 5]),
            tensor(dtype, [2, 5, 4]),
            beta=0.5,
            alpha=2,
            tolerance=6,
        )
        case(
            "baddbmm.default",
            tensor(dtype, [1, 3, 4]),
            tensor(dtype, [2, 3, 5]),
            tensor(dtype, [2, 5, 4]),
            beta=0,
            tolerance=6,
        )
        case("mv.default", tensor(dtype, [3, 4]), tensor(dtype, [4]), tolerance=4)
        case("dot.default", tensor(dtype, [4]), tensor(dtype, [4]), tolerance=4)
        case("outer.default", tensor(dtype, [4]), tensor(dtype, [3]))
        case(
            "linear.default",
            tensor(dtype, [3, 700]),
            tensor(dtype, [5, 700]),
            tensor(dtype, [5]),
            tolerance=12,
        )
        case(
            "linear.default",
            tensor(dtype, [12, 700]),
            tensor(dtype, [5, 700]),
            tensor(dtype, [5]),
            tolerance=12,
        )
        case(
            "linear.default",
            tensor(dtype, [7, 40]),
            tensor(dtype, [150, 40]),
            tensor(dtype, [150]),
            tolerance=6,
        )
        for equation, sizes in [
            ("ij,jk->ik", ([3, 4], [4, 5])),
            ("bhid,bhjd->bhij", ([2, 3, 4, 5], [2, 3, 6, 5])),
            ("i,j->ij", ([3], [4])),
            ("bchw,bdhw->bcd", ([2, 3, 4, 5], [2, 4, 4, 5])),
            ("...ij,...jk->...ik", ([2, 3, 4], [2, 4, 5])),
            ("ij->ji", ([3, 4],)),
            ("ii->i", ([3, 3],)),
            ("bi,bi->b", ([2, 3], [2, 3])),
            ("ij,jk", ([3, 4], [4, 5])),
            ("bijc,cd->bijd", ([2, 3, 2, 4], [4, 5])),
            ("ij,jk,kl->il", ([2, 3], [3, 4], [4, 2])),
        ]:
            case("einsum.default", equation, [tensor(dtype, size) for size in sizes], tolerance=6)
    case("mm.default", tensor(torch.float64, [3, 4]), tensor(torch.float64, [4, 5]))
    case("mm.default", tensor(torch.float32, [0, 4]), tensor(torch.float32, [4, 5]))
    case("mm.default", tensor(torch.float32, [3, 0]), tensor(torch.float32, [0, 5]))


@family
def attention():
    name = "scaled_dot_product_attention.default"
    for dtype in REALS * 12:
        batch, heads, length, keys, depth = (rng.choice([1, 2, 3, 5]) for _ in range(5))
        query = tensor(dtype, [batch, heads, length, depth])
        key, value = tensor(dtype, [batch, heads, keys, depth]), tensor(dtype, [batch, heads, keys, depth])
        kind = rng.randrange(5)
        options = {}
        if kind == 1:
            options = {"is_causal": True}
        elif kind == 2:
            options = {
                "attn_mask": tensor(
                    dtype, rng.choice([[length, keys], [batch, 1, length, keys], [1, 1, 1, keys]])
                )
            }
        elif kind == 3:
            options = {
                "attn_mask": tensor(torch.bool, rng.choice([[length, keys], [batch, heads, length, keys]]))
            }
        if rng.random() < 0.3:
            options["scale"] = 0.7
        case(name, query, key, value, **options, tolerance=6)
    for dtype in REALS:
        grouped = [tensor(dtype, [2, 4, 3, 5]), tensor(dtype, [2, 2, 6, 5]), tensor(dtype, [2, 2, 6, 5])]
        case(name, *grouped, enable_gqa=True, tolerance=6)
        case(name, tensor(dtype, [3, 4, 5]), tensor(dtype, [3, 6, 5]), tensor(dtype, [3, 6, 5]), tolerance=6)
        case(name, tensor(dtype, [4, 5]), tensor(dtype, [6, 5]), tensor(dtype, [6, 5]), tolerance=6)
        case(
            name,
            tensor(dtype, [1, 1, 2, 4]),
            tensor(dtype, [1, 1, 1100, 4]),
            tensor(dtype, [1, 1, 1100, 4]),
            tolerance=8,
        )
        case(
            name,
            tensor(dtype, [1, 1, 90, 2]),
            tensor(dtype, [1, 1, 90, 2]),
            tensor(dtype, [1, 1, 90, 2]),
            is_causal=True,
            tolerance=8,
        )


@family
def convolution():
    def forward(dims, dtype):
        groups = rng.choice([1, 1, 1, 2, 3])
        channels, outputs = groups * rng.randint(1, 3), groups * rng.randint(1, 3)
        if rng.random() < 0.25:
            groups = outputs = channels
        kernel = [rng.randint(1, 3) for _ in range(dims)]
        padding = [rng.randint(0, 2) for _ in range(dims)]
        dilation = [rng.choice([1, 1, 2]) for _ in range(dims)]
        stride = [rng.choice([1, 1, 2, 3]) for _ in range(dims)]
        places = [
            max(1, d * (k - 1) + 1 - 2 * p) + rng.randint(0, 4)
            for k, p, d in zip(kernel, padding, dilation, strict=False)
        ]
        source = tensor(dtype, [rng.randint(1, 2), channels, *places])
        weight = tensor(dtype, [outputs, channels // groups, *kernel])
        bias = tensor(dtype, [outputs]) if rng.random() < 0.5 else None
        return source, weight, bias, stride, padding, dilation, groups

    for dims, count in [(1, 25), (2, 60), (3, 15)]:
        for _ in range(count):
            dtype = rng.choice(REALS)
            case(f"conv{dims}d.default", *forward(dims, dtype), tolerance=6)
        for _ in range(count // 4):
            source, weight, bias, stride, padding, dilation, groups = forward(dims, rng.choice(REALS))
            case(
                "convolution.default",
                source,
                weight,
                bias,
                stride,
                padding,
                dilation,
                False,
                [0] * dims,
                groups,
                tolerance=6,
            )
    for dims in (1, 2):
        for padding in ("same", "valid"):
            for kernel in (2, 3):
                source, weight = [2, 2, *[6] * dims], [3, 2, *[kernel] * dims]
                case(
                    f"conv{dims}d.padding",
                    tensor(torch.float32, source),
                    tensor(torch.float32, weight),
                    None,
                    [1],
                    padding,
                    tolerance=6,
                )
    for dtype in REALS * 8:
        dims = rng.choice([1, 2, 2, 3])
        groups = rng.choice([1, 1, 2])
        channels, outputs = groups * rng.randint(1, 3), rng.randint(1, 3)
        kernel, stride = (
            [rng.randint(1, 3) for _ in range(dims)],
            [rng.choice([1, 2, 3]) for _ in range(dims)],
        )
        padding, extra = [rng.randint(0, k // 2) for k in kernel], [rng.randint(0, s - 1) for s in stride]
        places = [rng.randint(2, 4) for _ in range(dims)]
        name = f"conv_transpose{dims}d." + ("default" if dims == 1 else "input")
        bias = tensor(dtype, [outputs * groups]) if rng.random() < 0.5 else None
        source, weight = tensor(dtype, [2, channels, *places]), tensor(dtype, [channels, outputs, *kernel])
        case(name, source, weight, bias, stride, padding, extra, groups, [1] * dims, tolerance=6)
    for dtype in REALS:
        case(
            "conv2d.default",
            tensor(dtype, [1, 3, 20, 21]),
            tensor(dtype, [2, 3, 3, 3]),
            None,
            [1, 1],
            [1, 1],
            tolerance=8,
        )
        case(
            "conv2d.default",
            tensor(dtype, [1, 2, 12, 13]),
            tensor(dtype, [2, 1, 7, 7]),
            tensor(dtype, [2]),
            [1, 1],
            [3, 3],
            [1, 1],
            2,
            tolerance=8,
        )
        case("conv2d.default", tensor(dtype, [3, 8, 8]), tensor(dtype, [2, 3, 3, 3]), tolerance=8)


@family
def normalisation():
    for dtype in REALS * 5:
        size = shape(2, 4, 6)
        count = rng.randint(1, len(size) - 1)
        tail = size[-count:]
        weight = tensor(dtype, tail) if rng.random() < 0.7 else None
        bias = tensor(dtype, tail) if weight is not None and rng.random() < 0.7 else None
        case("layer_norm.default", tensor(dtype, size, expanded=False), tail, weight, bias, 1e-5, tolerance=8)
        case(
            "native_layer_norm.default",
            tensor(dtype, size, expanded=False),
            tail,
            weight,
            bias,
            1e-5,
            tolerance=8,
            results=1,
        )
        case(
            "rms_norm.default",
            tensor(dtype, size, expanded=False),
            tail,
            weight,
            rng.choice([None, 1e-6]),
            tolerance=8,
        )
    for dtype in REALS * 5:
        groups, channels = rng.choice([(1, 4), (2, 4), (3, 6), (4, 4)])
        size = [2, channels, rng.randint(2, 5), *shape(0, 1)]
        weight, bias = (
            (tensor(dtype, [channels]), tensor(dtype, [channels])) if rng.random() < 0.7 else (None, None)
        )
        case("group_norm.default", tensor(dtype, size, expanded=False), groups, weight, bias, tolerance=8)
        source = tensor(dtype, size, strided=False)
        case(
            "native_group_norm.default",
            source,
            weight,
            bias,
            2,
            channels,
            math.prod(size[2:]),
            groups,
            1e-5,
            tolerance=8,
            results=1,
        )
        mean, var = (
            tensor(dtype, [channels], strided=False),
            tensor(dtype, [channels], 0.2, 2.0, strided=False),
        )
        case(
            "batch_norm.default",
            tensor(dtype, size, expanded=False),
            weight,
            bias,
            mean,
            var,
            False,
            0.1,
            1e-5,
            True,
            tolerance=8,
        )
        case(
            "_native_batch_norm_legit_no_training.default",
            tensor(dtype, size, expanded=False),
            weight,
            bias,
            mean,
            var,
            0.1,
            1e-5,
            tolerance=8,
            results=1,
        )
    for dtype in [torch.float32] * 4:
        weight, bias = tensor(dtype, [3]), tensor(dtype, [3])
        case(
            "instance_norm.default",
            tensor(dtype, [2, 3, 4, 5], expanded=False),
            weight,
            bias,
            None,
            None,
            True,
            0.1,
            1e-5,
            True,
            tolerance=8,
        )
        case(
            "batch_norm.default",
            tensor(dtype, [2, 3, 4], expanded=False),
            weight,
            bias,
            None,
            None,
            True,
            0.1,
            1e-5,
            True,
            tolerance=8,
        )


@family
def pooling():
    for dims in (1, 2, 3):
        for _ in range(14):
            dtype = rng.choice(REALS[: 2 if dims == 3 else 3])
            kernel = [rng.randint(1, 3) for _ in range(dims)]
            padding = [rng.randint(0, k // 2) for k in kernel]
            stride = [rng.choice([1, 2]) for _ in range(dims)]
            size = [2, 3, *[rng.randint(5, 7) for _ in range(dims)]]
            ceil = rng.random() < 0.4
            case(
                f"max_pool{dims}d.default",
                tensor(dtype, size),
                kernel,
                stride,
                padding,
                [rng.choice([1, 1, 2])] * dims,
                ceil,
            )
            case(
                f"avg_pool{dims}d.default",
                tensor(dtype, size),
                kernel,
                stride,
                padding,
                ceil,
                rng.random() < 0.5,
                tolerance=4,
            )
            if dims == 2:
                case(
                    "max_pool2d_with_indices.default",
                    tensor(dtype, size),
                    kernel,
                    stride,
                    padding,
                    [1, 1],
                    ceil,
                )
                case(
                    "avg_pool2d.default",
                    tensor(dtype, size),
                    kernel,
                    stride,
                    padding,
                    ceil,
                    True,
                    5,
                    tolerance=4,
                )
    for _ in range(12):
        dtype = rng.choice(REALS[:3])
        case("adaptive_avg_pool1d.default", tensor(dtype, [2, 3, 7]), [rng.randint(1, 9)], tolerance=4)
        wanted = [rng.randint(1, 5), rng.randint(1, 8)]
        case("adaptive_avg_pool2d.default", tensor(dtype, [2, 3, 5, 6]), wanted, tolerance=4)
        case("adaptive_max_pool2d.default", tensor(dtype, [2, 3, 5, 6]), wanted)
        case("adaptive_avg_pool3d.default", tensor(torch.float32, [2, 3, 4, 5, 6]), [2, 1, 3], tolerance=4)


@family
def indexing():
    dtypes = [torch.float32, torch.bfloat16, torch.int64, torch.bool]
    for _ in range(12):
        dtype = rng.choice(dtypes)
        case("embedding.default", tensor(dtype, [7, 3]), indices(shape(0, 3), 0, 7))
    for _ in range(60):
        size = shape(1, 4)
        count = rng.randint(1, len(size))
        common = shape(0, 2, 3)
        given = []
        for dim in range(count):
            kind = rng.randrange(4)
            if kind == 0 and any(item is not None for item in given):
                given.append(None)
            else:
                part = [1 if rng.random() < 0.2 else entries for entries in common]
                given.append(indices(part, -size[dim], size[dim]))
        case("index.Tensor", tensor(rng.choice(dtypes), size), given)
    for _ in range(10):
        size = shape(2, 3)
        case("index.Tensor", tensor(torch.float32, size), [tensor(torch.bool, size[:1], strided=False)])
        case("index.Tensor", tensor(torch.float32, size), [tensor(torch.bool, size[:2], strided=False)])
        case("index.Tensor", tensor(torch.float32, size), [None, indices([2], 0, size[1])])
        case("nonzero.default", tensor(rng.choice(dtypes), size, -1, 2))
        case("masked_select.default", tensor(torch.float32, size), tensor(torch.bool, size))
    for _ in range(20):
        size = shape(1, 3)
        dim = any_dim(len(size))
        dtype = rng.choice(dtypes)
        case("index_select.default", tensor(dtype, size), dim, indices([rng.randint(1, 5)], 0, size[dim]))
        wanted = [rng.randint(1, entries) for entries in size]
        wanted[dim] = rng.randint(1, 6)
        case("gather.default", tensor(dtype, size), dim, indices(wanted, 0, size[dim]))
        entries = rng.sample(range(size[dim]), rng.randint(1, size[dim]))
        source = [*size]
        source[dim] = len(entries)
        case(
            "index_copy.default",
            tensor(dtype, size, strided=False),
            dim,
            Values(entries, torch.int64),
            tensor(dtype, source),
        )
        places = [*size]
        places[dim] = 1
        case(
            "scatter.src",
            tensor(dtype, size, strided=False),
            dim,
            indices(places, 0, size[dim]),
            tensor(dtype, size),
        )
        case("scatter.value", tensor(dtype, size, strided=False), dim, indices(places, 0, size[dim]), 1)
        start, end = sorted((rng.randint(-size[dim], size[dim]), rng.randint(-size[dim], size[dim])))
        part = as_torch(tensor(dtype, size)).transpose(0, dim)[start:end].transpose(0, dim).shape
        if 0 not in part:
            case(
                "slice_scatter.default",
                tensor(dtype, size, strided=False),
                tensor(dtype, list(part)),
                dim,
                start,
                end,
            )
        one = [*size]
        del one[dim]
        case(
            "select_scatter.default",
            tensor(dtype, size, strided=False),
            tensor(dtype, one),
            dim,
            rng.randrange(-size[dim], size[dim]),
        )
    for dtype in [torch.float32, torch.int64, torch.bfloat16]:
        case(
            "scatter_add.default",
            tensor(dtype, [4, 3], strided=False),
            0,
            indices([4, 3], 0, 4),
            tensor(dtype, [4, 3]),
            tolerance=4,
        )
        case(
            "index_add.default",
            tensor(dtype, [4, 3], strided=False),
            0,
            Values([0, 2, 3], torch.int64),
            tensor(dtype, [3, 3]),
            tolerance=4,
        )
        for accumulate in [False, True]:
            distinct = [Values([0, 2], torch.int64), Values([1, 0], torch.int64)]
            case(
                "index_put.default",
                tensor(dtype, [4, 3], strided=False),
                distinct,
                tensor(dtype, [2]),
                accumulate,
                tolerance=4,
            )
            case(
                "index_put.default",
                tensor(dtype, [4, 3], strided=False),
                [None, Values([1, 0], torch.int64)],
                tensor(dtype, [4, 2]),
                accumulate,
                tolerance=4,
            )
        case(
            "index_put.default",
            tensor(dtype, [4, 3], strided=False),
            [tensor(torch.bool, [4, 3], strided=False)],
            tensor(dtype, []),
        )
        case(
            "masked_scatter.default",
            tensor(dtype, [4, 3], strided=False),
            tensor(torch.bool, [4, 3], strided=False),
            tensor(dtype, [12]),
        )
        case("take_along_dim.default", tensor(dtype, [4, 3]), indices([1, 3], 0, 4), 0)
    for reduce in ["sum", "prod", "amax", "amin"]:
        case(
            "scatter_reduce.two",
            tensor(torch.float32, [4, 3], strided=False),
            0,
            indices([4, 3], 0, 4),
            tensor(torch.float32, [4, 3]),
            reduce,
            tolerance=4,
        )


@family
def shapes():
    def permuted(size):
        order = list(range(len(size)))
        rng.shuffle(order)
        return order

    dtypes = [torch.float32, torch.bfloat16, torch.int64, torch.bool]
    for _ in range(20):
        dtype = rng.choice(dtypes)
        size = shape(1, 4)
        dim = any_dim(len(size))
        x = tensor(dtype, size)
        case("reshape.default", x, [-1, size[0]] if rng.random() < 0.5 else [*size[:-1], 1, size[-1]])
        case("view.default", tensor(dtype, size, strided=False), [-1])
        case("permute.default", x, permuted(size))
        case("transpose.int", x, dim, any_dim(len(size)))
        case("unsqueeze.default", x, rng.randrange(-len(size) - 1, len(size) + 1))
        case("squeeze.default", tensor(dtype, [1, *size, 1]))
        case("squeeze.dim", tensor(dtype, [1, *size]), rng.choice([0, 1]))
        case("squeeze.dims", tensor(dtype, [1, *size, 1]), [0, -1])
        case("expand.default", tensor(dtype, [1, *size]), [2, 3, *[-1] * len(size)])
        case("flatten.using_ints", x, 0, rng.randrange(len(size)))
        case("slice.Tensor", x, dim, rng.randint(-3, 2), rng.randint(1, 7), rng.choice([1, 1, 2]))
        case("select.int", x, dim, rng.randrange(-size[dim], size[dim]))
        case("split.Tensor", x, rng.randint(1, 3), dim)
        case("chunk.default", x, rng.randint(1, 4), dim)
        cut = rng.randint(0, size[dim])
        case("split_with_sizes.default", x, [cut, size[dim] - cut], dim)
        case("unbind.int", x, dim)
        others = [[*size] for _ in range(rng.randint(1, 3))]
        for other in others:
            other[dim] = rng.randint(1, 3)
        case("cat.default", [x, *[tensor(dtype, other) for other in others]], dim)
        case("stack.default", [x, tensor(dtype, size)], rng.randrange(-len(size) - 1, len(size) + 1))
        case("repeat.default", x, [rng.randint(1, 2) for _ in range(len(size) + rng.randint(0, 1))])
        case("repeat_interleave.self_int", x, 2, rng.choice([dim, None]))
        case("flip.default", x, [dim])
        case("roll.default", x, [rng.randint(-3, 3)], [dim])
        case("unfold.default", x, dim, rng.randint(1, size[dim]), rng.randint(1, 2))
    for dtype in dtypes:
        case("roll.default", tensor(dtype, [3, 4]), [2])
        case("roll.default", tensor(dtype, [3, 4]), [-1, 2], [0, 1])
        case("flip.default", tensor(dtype, [3, 4, 2]), [0, 2])
        case("cat.default", [tensor(dtype, [0]), tensor(dtype, [3, 4])], 0)
        case("cat.default", [tensor(dtype, [2, 2]), tensor(torch.float32, [3, 2])], 0)
        case("pixel_shuffle.default", tensor(dtype, [2, 8, 3, 2]), 2)
        case("pixel_unshuffle.default", tensor(dtype, [2, 2, 4, 6]), 2)
        case("diagonal.default", tensor(dtype, [3, 4, 2]), rng.choice([0, 1, -1]))
        case("movedim.int", tensor(dtype, [3, 4, 2]), 0, 2)
        case("t.default", tensor(dtype, [3, 4]))
        case("unflatten.int", tensor(dtype, [3, 8]), 1, [2, -1])
        case("expand_as.default", tensor(dtype, [3, 1]), tensor(dtype, [2, 3, 4]))
        case("channel_shuffle.default", tensor(dtype, [2, 6, 3], strided=False), 2)
        case("as_strided.default", tensor(dtype, [3, 4], strided=False), [2, 2], [4, 1])
        case("tensor_split.sections", tensor(dtype, [7]), 3)
        case("alias.default", tensor(dtype, [7]))
        case("slice.Tensor", tensor(dtype, [5, 4]), 0, 0, 9223372036854775807)


@family
def creation():
    for dtype in [torch.float32, torch.bfloat16, torch.int64, torch.bool]:
        case("full.default", [2, 3], 1, dtype=dtype)
        case("zeros.default", [2, 3], dtype=dtype)
        case("ones.default", [2, 3], dtype=dtype)
        case("full_like.default", tensor(dtype, [2, 3]), 1)
        case("zeros_like.default", tensor(dtype, [2, 3]))
        case("ones_like.default", tensor(dtype, [2, 3]), dtype=torch.float32)
        case("new_zeros.default", tensor(dtype, [2, 3]), [4])
        case("new_ones.default", tensor(dtype, [2, 3]), [4], dtype=torch.int64)
        case("new_full.default", tensor(dtype, [2, 3]), [4], 1)
        case("scalar_tensor.default", 1.0, dtype=dtype)
        case("fill.Scalar", tensor(dtype, [2, 3]), 1)
        for diagonal in [-2, -1, 0, 1, 2]:
            case("tril.default", tensor(dtype, [2, 3, 4]), diagonal)
            case("triu.default", tensor(dtype, [2, 3, 4]), diagonal)
    case("full.default", [2], 0.5)
    case("full.default", [2], 3)
    case("full.default", [2], True)
    case("full.default", [2], -math.inf, dtype=torch.float32)
    case("zeros.default", [0, 3])
    case("eye.default", 3)
    for end in [0, 5, 5.5]:
        case("arange.default", end)
    case("arange.default", 5, dtype=torch.float32)
    for start, end, step in [(2, 9, 3), (9, 2, -2), (0.0, 1.0, 0.3), (0, 128, 1), (1, 2, 0.25)]:
        case("arange.start_step", start, end, step)
        case("arange.start_step", start, end, step, dtype=torch.float32)
    case("arange.start", 2, 7)
    for steps in [1, 2, 5, 8]:
        case("linspace.default", -1.0, 2.0, steps)
    for indexing in ["ij", "xy"]:
        case("meshgrid.indexing", [tensor(torch.float32, [3]), tensor(torch.float32, [4])], indexing=indexing)
    case("tril_indices.default", 3, 4, 1)


@family
def cast():
    every = list(DTYPES)
    for source in every:
        for target in every:
            low = 0.0 if target == torch.uint8 else -2.0
            case("to.dtype", tensor(source, [3, 4], low=low, high=3.0), target)
            if rng.random() < 0.3:
                case("_to_copy.default", tensor(source, shape(1, 4), low=low, high=3.0), dtype=target)
    for dtype in every:
        case("type_as.default", tensor(torch.float32, [3], low=0.0), tensor(dtype, [2]))
        case("clone.default", tensor(dtype, [3, 4]))
        case("contiguous.default", tensor(dtype, [3, 4]))
        case("copy.default", tensor(dtype, [3, 4]), tensor(torch.float32, [4], low=0.0))
    case("to.dtype", Values([3e38, 1e-40, -0.0, 65520.0, 65504.0, 1e5, 5.9e-8], torch.float32), torch.float16)
    case(
        "to.dtype",
        Values([3.4e38, 1e-40, -0.0, math.inf, math.nan, 1.00390625, 1.01171875], torch.float32),
        torch.bfloat16,
    )


@family
def resampling():
    for dims, names in [
        (1, ["nearest1d", "linear1d"]),
        (2, ["nearest2d", "bilinear2d", "bicubic2d"]),
        (3, ["nearest3d", "trilinear3d"]),
    ]:
        for name in names:
            for dtype in REALS[1:3] * 5:
                source = tensor(dtype, [2, 2, *[rng.randint(2, 4) for _ in range(dims)]])
                corners = [] if "nearest" in name else [rng.random() < 0.5]
                if rng.random() < 0.5:
                    case(
                        f"upsample_{name}.vec",
                        source,
                        [rng.randint(1, 6) for _ in range(dims)],
                        *corners,
                        None,
                        tolerance=6,
                    )
                else:
                    factors = [rng.choice([2.0, 1.5, 0.75]) for _ in range(dims)]
                    case(f"upsample_{name}.vec", source, None, *corners, factors, tolerance=6)
    for dtype in REALS[1:3]:
        case("upsample_nearest2d.default", tensor(dtype, [1, 2, 3, 4]), [5, 9])
        case("upsample_bilinear2d.default", tensor(dtype, [1, 2, 3, 4]), [5, 9], False, tolerance=6)
        case("_upsample_nearest_exact2d.vec", tensor(dtype, [1, 2, 3, 4]), [5, 9], None)
    for dtype in [torch.float32, torch.bfloat16, torch.int64, torch.bool]:
        for pad in [[1, 2], [1, 0, 2, 1], [-1, 1], [0, 0, 1, -1]]:
            case("constant_pad_nd.default", tensor(dtype, [2, 3, 4]), pad, 1)
            case("pad.default", tensor(dtype, [2, 3, 4]), pad)
    for mode in ["reflect", "replicate", "circular"]:
        for dtype in REALS[1:3]:
            case("pad.default", tensor(dtype, [2, 3, 4]), [2, 1], mode)
            case("pad.default", tensor(dtype, [2, 3, 4, 5]), [2, 1, 1, 2], mode)
    for mode in [0, 1]:
        for edges in [0, 1, 2]:
            for corners in [True, False]:
                grid = tensor(torch.float32, [2, 3, 4, 2], -1.3, 1.3)
                case(
                    "grid_sampler.default",
                    tensor(torch.float32, [2, 3, 5, 4]),
                    grid,
                    mode,
                    edges,
                    corners,
                    tolerance=20,
                )


@family
def sorting():
    for dtype in [torch.float32, torch.bfloat16, torch.int64]:
        for _ in range(8):
            size = shape(1, 3, 7)
            dim = any_dim(len(size))
            case("sort.stable", tensor(dtype, size), stable=True, dim=dim, descending=rng.random() < 0.5)
            case("argsort.stable", tensor(dtype, size), stable=True, dim=dim)
            case("cumsum.default", tensor(dtype, size), dim, tolerance=4)
            case("cumprod.default", tensor(dtype, size), dim, tolerance=4)
    for _ in range(15):
        size = shape(1, 3, 7)
        dim = any_dim(len(size))
        case(
            "topk.default",
            tensor(torch.float32, size, strided=False),
            rng.randint(1, size[dim]),
            dim,
            rng.random() < 0.6,
        )
        case("diff.default", tensor(rng.choice([torch.float32, torch.int64, torch.bool]), size), 1, dim)
    case("cumsum.default", tensor(torch.bool, [5]), 0)
    case("cumsum.default", tensor(torch.int32, [5]), 0, dtype=torch.float32)
    case("diff.default", tensor(torch.int64, [2, 5]), 1, -1, tensor(torch.int64, [2, 1]))
    case("histc.default", tensor(torch.float32, [20], 0.0, 3.0), 4, 0, 3)
    case("bincount.default", indices([20], 0, 6), None, 8)
    for right in [False, True]:
        edges = Values([0.0, 0.5, 1.0, 1.5], torch.float32)
        case("bucketize.Tensor", tensor(torch.float32, [3, 4]), edges, right=right)
        case("searchsorted.Tensor", edges, tensor(torch.float32, [3, 4]), right=right)


@family
def recurrent():
    for dtype in [torch.float32, torch.float32, torch.bfloat16]:
        for layers, both, first in [(1, False, False), (2, False, True), (1, True, False), (2, True, True)]:
            directions = 2 if both else 1
            size, hidden, batch, steps = 3, 4, 2, 5
            source = tensor(dtype, [batch, steps, size] if first else [steps, batch, size])
            for name, gates in [("lstm", 4), ("gru", 3), ("rnn_tanh", 1), ("rnn_relu", 1)]:
                weights = []
                for layer in range(layers):
                    inputs = size if layer == 0 else hidden * directions
                    for _ in range(directions):
                        sizes = [
                            [gates * hidden, inputs],
                            [gates * hidden, hidden],
                            [gates * hidden],
                            [gates * hidden],
                        ]
                        weights += [tensor(dtype, s, -0.7, 0.7, strided=False) for s in sizes]
                state = tensor(dtype, [layers * directions, batch, hidden], strided=False)
                given = [state, tensor(dtype, state.shape, strided=False)] if name == "lstm" else state
                case(
                    f"{name}.input",
                    source,
                    given,
                    weights,
                    True,
                    layers,
                    0.0,
                    False,
                    both,
                    first,
                    tolerance=12,
                )
    for dim in [0, 1, 2]:
        size = [1, 1, 1]
        size[dim] = [3, 4, 5][dim]
        case(
            "_weight_norm.default",
            tensor(torch.float32, [3, 4, 5]),
            tensor(torch.float32, size),
            dim,
            tolerance=6,
        )


def main():
    """Writes all families or those that are named, into this file's folder or the one after --into."""
    global current, rng
    into, names = Path(__file__).parent, sys.argv[1:]
    if "--into" in names:
        place = names.index("--into")
        into = Path(names[place + 1])
        del names[place : place + 2]
    seed = "0"
    if "--seed" in names:
        place = names.index("--seed")
        seed = names[place + 1]
        del names[place : place + 2]
    torch.set_num_threads(1)
    for name, make in families.items():
        if names and name not in names:
            continue
        rng, current = random.Random(f"{seed} {name}"), []
        make()
        into.mkdir(parents=True, exist_ok=True)
        path = into / f"{name}.jsonl.gz"
        path.write_bytes(gzip.compress("\n".join(current).encode(), 9, mtime=0))
        print(f"{name:15} {len(current):4} cases {path.stat().st_size / 1024:6.0f} KB")


if __name__ == "__main__":
    main()
