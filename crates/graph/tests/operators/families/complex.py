import torch
from arguments import Values, any_dim, complex_tensor, shape, tensor
from cases import case


def cases():
    for name in ["real", "imag", "view_as_real", "_conj", "_conj_physical", "abs", "angle", "sgn", "neg"]:
        case(f"{name}.default", complex_tensor([3, 4]), tolerance=4)
    for name in ["exp", "log", "sqrt", "sin", "cos", "tanh", "sigmoid", "reciprocal", "square"]:
        case(f"{name}.default", complex_tensor([3, 4]), tolerance=16)
    case("view_as_complex.default", tensor(torch.float32, [3, 4, 2], strided=False))
    case("real.default", tensor(torch.float32, [3]))
    case("angle.default", tensor(torch.float32, [3]))
    case("complex.default", tensor(torch.float32, [3, 4]), tensor(torch.float32, [4]), tolerance=2)
    case("polar.default", tensor(torch.float32, [3, 4]), tensor(torch.float32, [4]), tolerance=4)
    for name in ["add", "sub", "mul", "div"]:
        for other in [complex_tensor([4]), tensor(torch.float32, [3, 4])]:
            case(f"{name}.Tensor", complex_tensor([3, 4]), other, tolerance=8)
            case(f"{name}.Tensor", other, complex_tensor([3, 4]), tolerance=8)
        case(f"{name}.Scalar", tensor(torch.float32, [3]), 0.5 - 2j, tolerance=8)
    case("add.Tensor", complex_tensor([3]), complex_tensor([3]), alpha=2, tolerance=4)
    case("mul_.Tensor", complex_tensor([3]), complex_tensor([3]), tolerance=8)
    case("pow.Tensor_Scalar", complex_tensor([3]), 3, tolerance=16)
    case("pow.Tensor_Scalar", complex_tensor([3]), 0.5, tolerance=16)
    for _ in range(6):
        size = shape(1, 3)
        dim = any_dim(len(size))
        x = complex_tensor(size)
        case("sum.dim_IntList", x, [dim], True, tolerance=8)
        case("mean.dim", x, [dim], tolerance=8)
        case("sum.default", x, tolerance=8)
        case("flip.default", x, [dim])
        case("cat.default", [x, x], dim)
        case("stack.default", [x, x], 0)
        case("permute.default", x, list(reversed(range(len(size)))))
        case("reshape.default", x, [-1])
        case("clone.default", x)
        case("linalg_vector_norm.default", x, 2, [dim], tolerance=8)
    for name in ["eq", "ne"]:
        case(f"{name}.Tensor", complex_tensor([3]), complex_tensor([3]))
    case("mm.default", complex_tensor([3, 4]), complex_tensor([4, 2]), tolerance=16)
    case("bmm.default", complex_tensor([2, 3, 4]), complex_tensor([2, 4, 2]), tolerance=16)
    case("matmul.default", complex_tensor([2, 3, 4]), complex_tensor([4]), tolerance=16)
    case(
        "einsum.default", "bij,bjk->bik", [complex_tensor([2, 3, 4]), complex_tensor([2, 4, 2])], tolerance=16
    )
    mask = Values([[True, False, True]], torch.bool)
    case("where.self", mask, complex_tensor([2, 3]), complex_tensor([2, 3]))
    case("masked_fill.Scalar", complex_tensor([2, 3]), mask, 0)
    case("_to_copy.default", tensor(torch.float32, [3]), dtype=torch.complex64)
    case("zeros_like.default", complex_tensor([2, 3]))
    case("full.default", [2], 1.5, dtype=torch.complex64)
    case("index.Tensor", complex_tensor([4, 3]), [Values([2, 0], torch.int64)])
    case("constant_pad_nd.default", complex_tensor([4, 3]), [1, 2])
