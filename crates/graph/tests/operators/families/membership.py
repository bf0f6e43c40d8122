import torch
from arguments import Values, tensor
from cases import case


def cases():
    for dtype in [torch.float32, torch.int64, torch.int32]:
        some = Values([1, 2, 5], dtype)
        x = Values([[0, 1, 5], [2, 2, 7]], dtype)
        for invert in [False, True]:
            case("isin.Tensor_Tensor", x, some, invert=invert)
            case("isin.Tensor_Scalar", x, 2, invert=invert)
            case("isin.Scalar_Tensor", 5, some, invert=invert)
        case("_unique2.default", x, True, True, True)
        case("unique_consecutive.default", x, True, True)
    case("_unique2.default", tensor(torch.int64, [20], 0, 5), True, True, True)
