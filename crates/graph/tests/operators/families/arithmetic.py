import torch
from arguments import INTEGERS, REALS, broadcast_pair, rng, tensor
from cases import case


def cases():
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
    for dtype in REALS:
        for name in ["hypot", "logaddexp", "logaddexp2", "fmax", "fmin"]:
            case(f"{name}.default", *broadcast_pair(dtype, dtype), tolerance=8)
        case("copysign.Tensor", *broadcast_pair(dtype, dtype))
        case("xlogy.Tensor", *broadcast_pair(dtype, dtype, low=0.0), tolerance=8)
        case("heaviside.default", *broadcast_pair(dtype, dtype))
        case("ldexp.Tensor", tensor(dtype, [3]), tensor(torch.int64, [3]))
    case("copysign.Scalar", tensor(torch.float32), -1.0)
    case("xlogy.Scalar_Other", tensor(torch.float32), 2.5, tolerance=8)
    case("xlogy.Scalar_Self", 2.5, tensor(torch.float32, low=0.1), tolerance=8)
    case("gcd.default", tensor(torch.int64, [6], 1, 60), tensor(torch.int64, [6], 1, 60))
    for name in ["divide", "true_divide", "subtract", "multiply"]:
        case(f"{name}.Tensor", *broadcast_pair(torch.float32, torch.float32), tolerance=2)
    case("divide_.Tensor", tensor(torch.float32, [3], strided=False), tensor(torch.float32, [3]), tolerance=2)
    case("divide.Tensor_mode", *broadcast_pair(torch.float32, torch.float32), rounding_mode="floor")
