import torch
from arguments import REALS, rng, shape, tensor
from cases import case


def cases():
    for dtype in REALS * 6:
        m, k, n = (rng.choice([1, 2, 3, 5, 8, 17]) for _ in range(3))
        case("mm.default", tensor(dtype, [m, k]), tensor(dtype, [k, n]), tolerance=4)
        case("linear.default", tensor(dtype, [*shape(0, 2), k]), tensor(dtype, [n, k]), None, tolerance=4)
        case("linear.default", tensor(dtype, [m, k]), tensor(dtype, [n, k]), tensor(dtype, [n]), tolerance=4)
        case("addmm.default", tensor(dtype, [n]), tensor(dtype, [m, k]), tensor(dtype, [k, n]), tolerance=4)
        case("bmm.default", tensor(dtype, [3, m, k]), tensor(dtype, [3, k, n]), tolerance=4)
        pair = rng.choice(
            [
                ([k], [k]),
                ([m, k], [k]),
                ([k], [k, n]),
                ([2, 1, m, k], [3, k, n]),
                ([2, 3, m, k], [k, n]),
                ([m, k], [2, k, n]),
            ]
        )
        case("matmul.default", tensor(dtype, pair[0]), tensor(dtype, pair[1]), tolerance=4)
    for dtype in REALS:
        case(
            "addmm.default",
            tensor(dtype, [3, 4]),
            tensor(dtype, [3, 5]),
            tensor(dtype, [5, 4]),
            beta=0.5,
            alpha=2,
            tolerance=6,
        )
        case(
            "baddbmm.default",
            tensor(dtype, [2, 3, 4]),
            tensor(dtype, [2, 3, 5]),
            tensor(dtype, [2, 5, 4]),
            beta=0.5,
            alpha=2,
            tolerance=6,
        )
        case(
            "baddbmm.default",
            tensor(dtype, [1, 3, 4]),
            tensor(dtype, [2, 3, 5]),
            tensor(dtype, [2, 5, 4]),
            beta=0,
            tolerance=6,
        )
        case("mv.default", tensor(dtype, [3, 4]), tensor(dtype, [4]), tolerance=4)
        case("dot.default", tensor(dtype, [4]), tensor(dtype, [4]), tolerance=4)
        case("outer.default", tensor(dtype, [4]), tensor(dtype, [3]))
        case(
            "linear.default",
            tensor(dtype, [3, 700]),
            tensor(dtype, [5, 700]),
            tensor(dtype, [5]),
            tolerance=12,
        )
        case(
            "linear.default",
            tensor(dtype, [12, 700]),
            tensor(dtype, [5, 700]),
            tensor(dtype, [5]),
            tolerance=12,
        )
        case(
            "linear.default",
            tensor(dtype, [7, 40]),
            tensor(dtype, [150, 40]),
            tensor(dtype, [150]),
            tolerance=6,
        )
        for equation, sizes in [
            ("ij,jk->ik", ([3, 4], [4, 5])),
            ("bhid,bhjd->bhij", ([2, 3, 4, 5], [2, 3, 6, 5])),
            ("i,j->ij", ([3], [4])),
            ("bchw,bdhw->bcd", ([2, 3, 4, 5], [2, 4, 4, 5])),
            ("...ij,...jk->...ik", ([2, 3, 4], [2, 4, 5])),
            ("ij->ji", ([3, 4],)),
            ("ii->i", ([3, 3],)),
            ("bi,bi->b", ([2, 3], [2, 3])),
            ("ij,jk", ([3, 4], [4, 5])),
            ("bijc,cd->bijd", ([2, 3, 2, 4], [4, 5])),
            ("ij,jk,kl->il", ([2, 3], [3, 4], [4, 2])),
        ]:
            case("einsum.default", equation, [tensor(dtype, size) for size in sizes], tolerance=6)
    case("mm.default", tensor(torch.float64, [3, 4]), tensor(torch.float64, [4, 5]))
    case("mm.default", tensor(torch.float32, [0, 4]), tensor(torch.float32, [4, 5]))
    case("mm.default", tensor(torch.float32, [3, 0]), tensor(torch.float32, [0, 5]))
    for dtype in [torch.int64, torch.int32, torch.uint8]:
        case("mm.default", tensor(dtype, [3, 4]), tensor(dtype, [4, 2]))
        case("matmul.default", tensor(dtype, [2, 3, 4]), tensor(dtype, [4]))
        case("bmm.default", tensor(dtype, [2, 3, 4]), tensor(dtype, [2, 4, 5]))
        case("einsum.default", "bij,bjk->ik", [tensor(dtype, [2, 3, 4]), tensor(dtype, [2, 4, 3])])
        case("einsum.default", "i,j->ij", [tensor(dtype, [3]), tensor(dtype, [2])])
    case("vdot.default", tensor(torch.float32, [4]), tensor(torch.float32, [4]), tolerance=8)
    for dtype in REALS:
        for batch, bias in [([3], True), ([2, 3], False), ([], True)]:
            case(
                "bilinear.default",
                tensor(dtype, [*batch, 4]),
                tensor(dtype, [*batch, 5]),
                tensor(dtype, [6, 4, 5]),
                tensor(dtype, [6]) if bias else None,
                tolerance=12,
            )
