import torch
from arguments import Values, any_dim, indices, rng, shape, tensor
from cases import case


def cases():
    for dtype in [torch.float32, torch.bfloat16, torch.int64]:
        for _ in range(8):
            size = shape(1, 3, 7)
            dim = any_dim(len(size))
            case("sort.stable", tensor(dtype, size), stable=True, dim=dim, descending=rng.random() < 0.5)
            case("argsort.stable", tensor(dtype, size), stable=True, dim=dim)
    for _ in range(15):
        size = shape(1, 3, 7)
        dim = any_dim(len(size))
        case(
            "topk.default",
            tensor(torch.float32, size, strided=False),
            rng.randint(1, size[dim]),
            dim,
            rng.random() < 0.6,
        )
        case("diff.default", tensor(rng.choice([torch.float32, torch.int64, torch.bool]), size), 1, dim)
    # Which of equal elements come first is torch's choice: by a heap, by dividing, by sorting.
    for length, count in [(5, 3), (20, 7), (70, 1), (300, 4), (300, 90), (64, 40), (2000, 1500)]:
        for largest in [True, False]:
            case("topk.default", indices([length], 0, 4), count, 0, largest)
            case(
                "topk.default",
                indices([2, length], 0, 9, torch.int32),
                count,
                -1,
                largest,
                rng.random() < 0.7,
            )
    case("topk.default", tensor(torch.float32, [70], special=True, strided=False), 60, 0)
    case("topk.default", tensor(torch.float32, []), 1)
    case("msort.default", tensor(torch.float32, [5, 3]))
    case(
        "searchsorted.Tensor", Values([[0.0, 1.0], [0.5, 1.5]], torch.float32), tensor(torch.float32, [2, 3])
    )
    case("searchsorted.Scalar", Values([0.0, 1.0, 2.0], torch.float32), 1, right=True)
    case("bucketize.Scalar", 1, Values([0.0, 1.0, 2.0], torch.float32))
    case("diff.default", tensor(torch.int64, [2, 5]), 1, -1, tensor(torch.int64, [2, 1]))
    case("histc.default", tensor(torch.float32, [20], 0.0, 3.0), 4, 0, 3)
    case("bincount.default", indices([20], 0, 6), None, 8)
    for right in [False, True]:
        edges = Values([0.0, 0.5, 1.0, 1.5], torch.float32)
        case("bucketize.Tensor", tensor(torch.float32, [3, 4]), edges, right=right)
        case("searchsorted.Tensor", edges, tensor(torch.float32, [3, 4]), right=right)
