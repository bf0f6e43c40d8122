import math

import torch
from arguments import tensor
from cases import case


def cases():
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
