import torch
from arguments import tensor
from cases import case


def cases():
    for dtype in [torch.float32, torch.bfloat16, torch.int64]:
        for size in [[], [3], [2, 3], [2, 3, 4]]:
            two = [tensor(dtype, size), tensor(dtype, size)]
            for name in ["hstack", "vstack", "dstack", "column_stack", "row_stack"]:
                case(f"{name}.default", two)
            for name in ["atleast_1d", "atleast_2d", "atleast_3d"]:
                case(f"{name}.default", two[0])
        case("cartesian_prod.default", [tensor(dtype, [2]), tensor(dtype, [3]), tensor(dtype, [1])])
        case("kron.default", tensor(dtype, [2, 3], strided=False), tensor(dtype, [3, 2], strided=False))
        case("kron.default", tensor(dtype, [3], strided=False), tensor(dtype, [2, 2], strided=False))
        for again in [False, True]:
            case("combinations.default", tensor(dtype, [4]), 2, again)
            case("combinations.default", tensor(dtype, [4]), 3, again)
    case(
        "tensordot.default",
        tensor(torch.float32, [2, 3, 4]),
        tensor(torch.float32, [4, 2, 5]),
        [2, 0],
        [0, 1],
        tolerance=8,
    )
