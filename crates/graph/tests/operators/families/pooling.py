import torch
from arguments import REALS, rng, tensor
from cases import case


def cases():
    for dims in (1, 2, 3):
        for _ in range(14):
            dtype = rng.choice(REALS[: 2 if dims == 3 else 3])
            kernel = [rng.randint(1, 3) for _ in range(dims)]
            padding = [rng.randint(0, k // 2) for k in kernel]
            stride = [rng.choice([1, 2]) for _ in range(dims)]
            size = [2, 3, *[rng.randint(5, 7) for _ in range(dims)]]
            ceil = rng.random() < 0.4
            case(
                f"max_pool{dims}d.default",
                tensor(dtype, size),
                kernel,
                stride,
                padding,
                [rng.choice([1, 1, 2])] * dims,
                ceil,
            )
            case(
                f"avg_pool{dims}d.default",
                tensor(dtype, size),
                kernel,
                stride,
                padding,
                ceil,
                rng.random() < 0.5,
                tolerance=4,
            )
            if dims == 2:
                case(
                    "max_pool2d_with_indices.default",
                    tensor(dtype, size),
                    kernel,
                    stride,
                    padding,
                    [1, 1],
                    ceil,
                )
                case(
                    "avg_pool2d.default",
                    tensor(dtype, size),
                    kernel,
                    stride,
                    padding,
                    ceil,
                    True,
                    5,
                    tolerance=4,
                )
    for _ in range(12):
        dtype = rng.choice(REALS[:3])
        case("adaptive_avg_pool1d.default", tensor(dtype, [2, 3, 7]), [rng.randint(1, 9)], tolerance=4)
        wanted = [rng.randint(1, 5), rng.randint(1, 8)]
        case("adaptive_avg_pool2d.default", tensor(dtype, [2, 3, 5, 6]), wanted, tolerance=4)
        case("adaptive_max_pool2d.default", tensor(dtype, [2, 3, 5, 6]), wanted)
        case("adaptive_avg_pool3d.default", tensor(torch.float32, [2, 3, 4, 5, 6]), [2, 1, 3], tolerance=4)
        case("adaptive_max_pool3d.default", tensor(dtype, [2, 3, 5, 4, 6]), [2, *wanted])
    for dtype in REALS[:2]:
        # Rounded up, a window that is longer than the input leaves one output.
        case("max_pool2d.default", tensor(dtype, [1, 2, 2, 3]), [3, 4], [2, 2], [0, 0], [1, 1], True)
        case("max_pool1d.default", tensor(dtype, [1, 2, 2]), [3], [3], [1], [1], True)
        case(
            "avg_pool2d.default", tensor(dtype, [1, 2, 2, 3]), [3, 4], [2, 2], [0, 0], True, True, tolerance=4
        )
        case("avg_pool1d.default", tensor(dtype, [1, 2, 2]), [3], [2], [0], True, tolerance=4)
