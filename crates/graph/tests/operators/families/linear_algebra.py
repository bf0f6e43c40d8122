import math

import torch
from arguments import REALS, tensor
from cases import case


def cases():
    for dtype in REALS:
        for order in [None, 2, 1, 0, math.inf, 3]:
            case("linalg_norm.default", tensor(dtype, [3, 4, 5]), order, [1], True, tolerance=4)
        for order in [1, -1, math.inf, -math.inf]:
            case("linalg_norm.default", tensor(dtype, [3, 4]), order, tolerance=4)
            case("linalg_matrix_norm.default", tensor(dtype, [2, 3, 4]), order, [-2, -1], True, tolerance=4)
        case("linalg_norm.default", tensor(dtype, [3, 4]), tolerance=4)
        case("linalg_norm.ord_str", tensor(dtype, [3, 4]), "fro", tolerance=4)
        case("linalg_matrix_norm.str_ord", tensor(dtype, [2, 3, 4]), tolerance=4)
        case("frobenius_norm.dim", tensor(dtype, [2, 3, 4]), [1, 2], tolerance=4)
        case("linalg_cross.default", tensor(dtype, [2, 3]), tensor(dtype, [2, 3]), tolerance=4)
        case("cross.default", tensor(dtype, [3, 4]), tensor(dtype, [3, 4]), tolerance=4)
    well = tensor(torch.float32, [2, 3, 3], 0.0, 1.0, strided=False)
    case("linalg_inv.default", well, tolerance=400)
    case("linalg_inv_ex.default", well, tolerance=400)
    case("inverse.default", well, tolerance=400)
    case("linalg_det.default", well, tolerance=40)
