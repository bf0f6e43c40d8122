import torch
from arguments import Values, tensor
from cases import case


def cases():
    for dtype in [torch.float32, torch.float64]:
        places = Values([[[0, 3], [13, 10]], [[1, 6], [8, 15]]], torch.int64)
        case("max_unpool2d.default", tensor(dtype, [2, 2, 2], strided=False), places, [4, 4])
        deep = Values([[[[[0, 3], [13, 10]]]]], torch.int64)
        case(
            "max_unpool3d.default",
            tensor(dtype, [1, 1, 1, 2, 2], strided=False),
            deep,
            [1, 4, 4],
            [1, 2, 2],
            [0, 0, 0],
        )
