import math

import torch
from arguments import REALS, Values, any_dim, rng, shape, tensor
from cases import case


def cases():
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
    for name in ["dropout", "alpha_dropout", "feature_dropout", "feature_alpha_dropout"]:
        case(f"{name}.default", tensor(torch.float32), 0.5, False)
        case(f"{name}_.default", tensor(torch.float32, strided=False), 0.5, False)
