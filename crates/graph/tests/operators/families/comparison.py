import math

import torch
from arguments import REALS, Values, broadcast_pair, rng, tensor
from cases import case


def cases():
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
    for name in ["__iand__", "__ior__", "__ixor__"]:
        case(f"{name}.Tensor", tensor(torch.int64, [3], strided=False), tensor(torch.int64, [3]))
        case(f"{name}.Tensor", tensor(torch.bool, [3], strided=False), tensor(torch.bool, [3]))
    for name in ["greater", "greater_equal", "less", "less_equal", "not_equal"]:
        case(f"{name}.Scalar", tensor(torch.int64), 1)
        case(f"{name}.Tensor", tensor(torch.float32, [3]), tensor(torch.float32, [2, 3]))
    case("isclose.default", Values([1.0, 2.0, math.nan, math.inf], torch.float32),
         Values([1.000001, 2.1, math.nan, math.inf], torch.float32), equal_nan=True)  # fmt: skip
    case("_is_all_true.default", tensor(torch.bool, [3]))
    case("_is_any_true.default", tensor(torch.bool, [3]))
