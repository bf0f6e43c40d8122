import math

import torch
from arguments import REALS, any_dim, rng, shape, tensor
from cases import case


def cases():
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
    for name in ["nansum", "nanmean"]:
        case(f"{name}.default", tensor(torch.float32, [3, 4]), tolerance=4)
        case(f"{name}.default", tensor(torch.float32, [3, 4]), [1], True, tolerance=4)
    for name in ["std_mean", "var_mean"]:
        case(f"{name}.default", tensor(torch.float32, [3, 4]), tolerance=4)
        case(f"{name}.dim", tensor(torch.float32, [3, 4]), [1], False, tolerance=4)
