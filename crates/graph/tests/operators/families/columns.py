import torch
from arguments import tensor
from cases import case


def cases():
    for dtype in [torch.float32, torch.bfloat16]:
        case("im2col.default", tensor(dtype, [2, 3, 5, 6]), [2, 3], [1, 1], [0, 0], [1, 1])
        case("im2col.default", tensor(dtype, [3, 5, 6]), [3, 2], [2, 1], [1, 2], [2, 3])
        case(
            "col2im.default", tensor(dtype, [2, 12, 12]), [4, 5], [2, 2], [1, 1], [0, 0], [1, 1], tolerance=2
        )
        case("col2im.default", tensor(dtype, [12, 9]), [5, 5], [2, 2], [2, 2], [1, 1], [2, 2], tolerance=2)
