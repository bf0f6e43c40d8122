import math

import torch
from arguments import DTYPES, Values, rng, shape, tensor
from cases import case


def cases():
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
