import torch
from arguments import any_dim, shape, tensor
from cases import case


def cases():
    for dtype in [torch.float32, torch.bfloat16, torch.int64]:
        for _ in range(8):
            size = shape(1, 3, 7)
            dim = any_dim(len(size))
            case("cumsum.default", tensor(dtype, size), dim, tolerance=4)
            case("cumprod.default", tensor(dtype, size), dim, tolerance=4)
            case("cummax.default", tensor(dtype, size), dim)
            case("cummin.default", tensor(dtype, size), dim)
            if dtype != torch.int64:
                case("logcumsumexp.default", tensor(dtype, size), dim, tolerance=8)
    special = tensor(torch.float32, [6], strided=False, special=True)
    case("cummax.default", special, 0)
    case("cummin.default", special, 0)
    case("cumsum.default", tensor(torch.bool, [5]), 0)
    case("cumsum.default", tensor(torch.int32, [5]), 0, dtype=torch.float32)
