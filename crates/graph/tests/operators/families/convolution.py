import torch
from arguments import REALS, rng, tensor
from cases import case


def cases():
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
