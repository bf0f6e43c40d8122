import torch
from arguments import REALS, tensor
from cases import case


def cases():
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
    for dtype in [*REALS, torch.float64]:
        for name in ["erfc", "lgamma", "sinc", "deg2rad", "rad2deg", "special_entr"]:
            case(f"{name}.default", tensor(dtype, low=0.1), tolerance=8)
        case("erfinv.default", tensor(dtype, low=-0.95, high=0.95), tolerance=8)
        case("round.decimals", tensor(dtype, low=-20.0, high=20.0), decimals=1, tolerance=2)
        case("logit.default", tensor(dtype, low=0.0, high=1.0), 0.1, tolerance=4)
        case("sgn.default", tensor(dtype))
        case("signbit.default", tensor(dtype))
    for name in ["absolute", "negative", "arctan", "fix", "special_expit", "special_exp2"]:
        case(f"{name}.default", tensor(torch.float32), tolerance=2)
    case("clip.default", tensor(torch.float32), -0.5, 0.5)
    case("clip_.default", tensor(torch.float32, strided=False), -0.5, 0.5)
    case("clip.Tensor", tensor(torch.float32, [3, 4]), tensor(torch.float32, [4]))
