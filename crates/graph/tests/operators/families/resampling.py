import torch
from arguments import REALS, rng, tensor
from cases import case


def cases():
    for dims, names in [
        (1, ["nearest1d", "linear1d"]),
        (2, ["nearest2d", "bilinear2d", "bicubic2d"]),
        (3, ["nearest3d", "trilinear3d"]),
    ]:
        for name in names:
            for dtype in REALS[1:3] * 5:
                source = tensor(dtype, [2, 2, *[rng.randint(2, 4) for _ in range(dims)]])
                corners = [] if "nearest" in name else [rng.random() < 0.5]
                if rng.random() < 0.5:
                    case(
                        f"upsample_{name}.vec",
                        source,
                        [rng.randint(1, 6) for _ in range(dims)],
                        *corners,
                        None,
                        tolerance=6,
                    )
                else:
                    factors = [rng.choice([2.0, 1.5, 0.75]) for _ in range(dims)]
                    case(f"upsample_{name}.vec", source, None, *corners, factors, tolerance=6)
    for dtype in REALS[1:3]:
        case("upsample_nearest2d.default", tensor(dtype, [1, 2, 3, 4]), [5, 9])
        case("upsample_bilinear2d.default", tensor(dtype, [1, 2, 3, 4]), [5, 9], False, tolerance=6)
        case("_upsample_nearest_exact2d.vec", tensor(dtype, [1, 2, 3, 4]), [5, 9], None)
    for name in ["bilinear2d_aa", "bicubic2d_aa"]:
        for size in [[5, 9], [2, 3], [3, 2]]:
            for corners in [False, True]:
                source = tensor(torch.float32, [1, 2, 7, 5])
                case(f"_upsample_{name}.default", source, size, corners, tolerance=16)
                case(f"_upsample_{name}.vec", source, None, corners, [0.5, 1.4], tolerance=16)
    case(
        "upsample_trilinear3d.default", tensor(torch.float32, [1, 2, 3, 4, 2]), [2, 5, 3], False, tolerance=6
    )
    for dtype in [torch.float32, torch.bfloat16, torch.int64, torch.bool]:
        for pad in [[1, 2], [1, 0, 2, 1], [-1, 1], [0, 0, 1, -1]]:
            case("constant_pad_nd.default", tensor(dtype, [2, 3, 4]), pad, 1)
            case("pad.default", tensor(dtype, [2, 3, 4]), pad)
    for mode in ["reflect", "replicate", "circular"]:
        for dtype in REALS[1:3]:
            case("pad.default", tensor(dtype, [2, 3, 4]), [2, 1], mode)
            case("pad.default", tensor(dtype, [2, 3, 4, 5]), [2, 1, 1, 2], mode)
    for mode in [0, 1]:
        for edges in [0, 1, 2]:
            for corners in [True, False]:
                grid = tensor(torch.float32, [2, 3, 4, 2], -1.3, 1.3)
                case(
                    "grid_sampler.default",
                    tensor(torch.float32, [2, 3, 5, 4]),
                    grid,
                    mode,
                    edges,
                    corners,
                    tolerance=20,
                )
