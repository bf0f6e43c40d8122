import torch
from arguments import Values, any_dim, rng, shape, tensor
from cases import case


def cases():
    for dtype in [torch.float32, torch.bfloat16, torch.int64]:
        for _ in range(6):
            size = shape(1, 3, 6)
            dim = any_dim(len(size))
            distinct = dtype == torch.float32
            case(
                "median.dim",
                tensor(dtype, size, strided=False),
                dim,
                rng.random() < 0.5,
                results=None if distinct else 1,
            )
            case(
                "kthvalue.default",
                tensor(dtype, size),
                rng.randint(1, size[dim]),
                dim,
                rng.random() < 0.5,
                results=1,
            )
            case("mode.default", tensor(dtype, size), dim, results=1)
            case("median.default", tensor(dtype, size))
    holes = tensor(torch.float32, [3, 5], strided=False, special=True)
    case("median.default", holes)
    case("nanmedian.default", holes)
    case("median.dim", holes, 1, results=1)
    case("nanmedian.dim", holes, 1)
    case("nanmedian.dim", tensor(torch.float32, [3, 4]), 1, results=1)
    for interpolation in ["linear", "lower", "higher", "midpoint", "nearest"]:
        shares = Values([0.0, 0.3, 1.0], torch.float32)
        option = {"interpolation": interpolation, "tolerance": 8}
        x = tensor(torch.float32, [3, 5, 2])
        case("quantile.default", x, shares, 1, True, **option)
        case("quantile.default", x, shares, -1, **option)
        case("quantile.default", x, shares, **option)
        case("quantile.scalar", x, 0.4, 0, **option)
        case("quantile.scalar", x, 0.4, None, True, **option)
        case("nanquantile.scalar", holes, 0.4, 1, **option)
        case("nanquantile.default", tensor(torch.float32, [7]), shares, 0, **option)
