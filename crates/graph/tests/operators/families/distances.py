import math

import torch
from arguments import REALS, tensor
from cases import case


def cases():
    for power in [0.0, 1.0, 2.0, 3.0, math.inf]:
        case(
            "cdist.default",
            tensor(torch.float32, [2, 3, 4]),
            tensor(torch.float32, [2, 5, 4]),
            power,
            tolerance=8,
        )
        case("pdist.default", tensor(torch.float32, [4, 3], strided=False), power, tolerance=8)
        case("dist.default", tensor(torch.float32, [4, 3]), tensor(torch.float32, [3]), power, tolerance=8)
    case("cdist.default", tensor(torch.float32, [30, 4]), tensor(torch.float32, [40, 4]), tolerance=64)
    case(
        "_cdist_forward.default",
        tensor(torch.float32, [3, 4]),
        tensor(torch.float32, [2, 4]),
        2.0,
        None,
        tolerance=8,
    )
    for dtype in REALS:
        case(
            "pairwise_distance.default",
            tensor(dtype, [3, 4]),
            tensor(dtype, [3, 4]),
            2.0,
            1e-6,
            True,
            tolerance=8,
        )
        case("pairwise_distance.default", tensor(dtype, [3, 4]), tensor(dtype, [4]), 1.0, tolerance=8)
        case("cosine_similarity.default", tensor(dtype, [3, 4, 2]), tensor(dtype, [3, 4, 2]), 1, tolerance=16)
        case("cosine_similarity.default", tensor(dtype, [3, 4]), tensor(dtype, [1, 4]), -1, 0.5, tolerance=16)
