import torch
from arguments import rng, tensor
from cases import case


def cases():
    for dtype in [torch.float32, torch.bfloat16, torch.int64]:
        for offset in [-1, 0, 2]:
            case("diagonal.default", tensor(dtype, [3, 4, 2]), offset)
            case("diagonal.default", tensor(dtype, [3, 4, 5]), offset, -1, 0)
            case("linalg_diagonal.default", tensor(dtype, [2, 3, 4]), offset=offset)
            case("diag_embed.default", tensor(dtype, [2, 3]), offset)
            case("diag_embed.default", tensor(dtype, [2, 3]), offset, 0, 2)
            case("diag.default", tensor(dtype, [3]), offset)
            case("diag.default", tensor(dtype, [3, 4]), offset)
            case("diagflat.default", tensor(dtype, [2, 2]), offset)
        case(
            "diagonal_scatter.default",
            tensor(dtype, [3, 4], strided=False),
            tensor(dtype, [3]),
            rng.choice([0, 1]),
        )
        case("trace.default", tensor(dtype, [3, 4]), tolerance=2)
        case("block_diag.default", [tensor(dtype, [2, 3]), tensor(dtype, [2]), tensor(dtype, [])])
