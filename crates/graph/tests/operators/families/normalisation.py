import math

import torch
from arguments import REALS, rng, shape, tensor
from cases import case


def cases():
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
