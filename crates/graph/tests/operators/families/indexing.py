import torch
from arguments import Values, any_dim, as_torch, indices, rng, shape, tensor
from cases import case


def cases():
    dtypes = [torch.float32, torch.bfloat16, torch.int64, torch.bool]
    for _ in range(12):
        dtype = rng.choice(dtypes)
        case("embedding.default", tensor(dtype, [7, 3]), indices(shape(0, 3), 0, 7))
    for _ in range(60):
        size = shape(1, 4)
        count = rng.randint(1, len(size))
        common = shape(0, 2, 3)
        given = []
        for dim in range(count):
            kind = rng.randrange(4)
            if kind == 0 and any(item is not None for item in given):
                given.append(None)
            else:
                part = [1 if rng.random() < 0.2 else entries for entries in common]
                given.append(indices(part, -size[dim], size[dim]))
        case("index.Tensor", tensor(rng.choice(dtypes), size), given)
    for _ in range(10):
        size = shape(2, 3)
        case("index.Tensor", tensor(torch.float32, size), [tensor(torch.bool, size[:1], strided=False)])
        case("index.Tensor", tensor(torch.float32, size), [tensor(torch.bool, size[:2], strided=False)])
        case("index.Tensor", tensor(torch.float32, size), [None, indices([2], 0, size[1])])
        case("nonzero.default", tensor(rng.choice(dtypes), size, -1, 2))
        case("masked_select.default", tensor(torch.float32, size), tensor(torch.bool, size))
    for _ in range(20):
        size = shape(1, 3)
        dim = any_dim(len(size))
        dtype = rng.choice(dtypes)
        case("index_select.default", tensor(dtype, size), dim, indices([rng.randint(1, 5)], 0, size[dim]))
        wanted = [rng.randint(1, entries) for entries in size]
        wanted[dim] = rng.randint(1, 6)
        case("gather.default", tensor(dtype, size), dim, indices(wanted, 0, size[dim]))
        entries = rng.sample(range(size[dim]), rng.randint(1, size[dim]))
        source = [*size]
        source[dim] = len(entries)
        case(
            "index_copy.default",
            tensor(dtype, size, strided=False),
            dim,
            Values(entries, torch.int64),
            tensor(dtype, source),
        )
        places = [*size]
        places[dim] = 1
        case(
            "scatter.src",
            tensor(dtype, size, strided=False),
            dim,
            indices(places, 0, size[dim]),
            tensor(dtype, size),
        )
        case("scatter.value", tensor(dtype, size, strided=False), dim, indices(places, 0, size[dim]), 1)
        start, end = sorted((rng.randint(-size[dim], size[dim]), rng.randint(-size[dim], size[dim])))
        part = as_torch(tensor(dtype, size)).transpose(0, dim)[start:end].transpose(0, dim).shape
        if 0 not in part:
            case(
                "slice_scatter.default",
                tensor(dtype, size, strided=False),
                tensor(dtype, list(part)),
                dim,
                start,
                end,
            )
        one = [*size]
        del one[dim]
        case(
            "select_scatter.default",
            tensor(dtype, size, strided=False),
            tensor(dtype, one),
            dim,
            rng.randrange(-size[dim], size[dim]),
        )
    for dtype in [torch.float32, torch.int64, torch.bfloat16]:
        case(
            "scatter_add.default",
            tensor(dtype, [4, 3], strided=False),
            0,
            indices([4, 3], 0, 4),
            tensor(dtype, [4, 3]),
            tolerance=4,
        )
        case(
            "index_add.default",
            tensor(dtype, [4, 3], strided=False),
            0,
            Values([0, 2, 3], torch.int64),
            tensor(dtype, [3, 3]),
            tolerance=4,
        )
        for accumulate in [False, True]:
            distinct = [Values([0, 2], torch.int64), Values([1, 0], torch.int64)]
            case(
                "index_put.default",
                tensor(dtype, [4, 3], strided=False),
                distinct,
                tensor(dtype, [2]),
                accumulate,
                tolerance=4,
            )
            case(
                "index_put.default",
                tensor(dtype, [4, 3], strided=False),
                [None, Values([1, 0], torch.int64)],
                tensor(dtype, [4, 2]),
                accumulate,
                tolerance=4,
            )
        case(
            "index_put.default",
            tensor(dtype, [4, 3], strided=False),
            [tensor(torch.bool, [4, 3], strided=False)],
            tensor(dtype, []),
        )
        case(
            "masked_scatter.default",
            tensor(dtype, [4, 3], strided=False),
            tensor(torch.bool, [4, 3], strided=False),
            tensor(dtype, [12]),
        )
        case("take_along_dim.default", tensor(dtype, [4, 3]), indices([1, 3], 0, 4), 0)
    for reduce in ["sum", "prod", "amax", "amin"]:
        case(
            "scatter_reduce.two",
            tensor(torch.float32, [4, 3], strided=False),
            0,
            indices([4, 3], 0, 4),
            tensor(torch.float32, [4, 3]),
            reduce,
            tolerance=4,
        )
    for reduce in ["sum", "mean", "prod", "amax", "amin"]:
        for dtype in [torch.float32, torch.int64]:
            for own in [True, False]:
                case(
                    "scatter_reduce.two", tensor(dtype, [4, 3], strided=False), 0, indices([3, 3], 0, 4),
                    tensor(dtype, [4, 3]), reduce, include_self=own, tolerance=4,
                )  # fmt: skip
    for reduce in ["add", "multiply"]:
        target, places = tensor(torch.float32, [4, 3], strided=False), indices([2, 3], 0, 4)
        case("scatter.reduce", target, 0, places, tensor(torch.float32, [2, 3]), reduce=reduce, tolerance=4)
        case("scatter.value_reduce", target, 0, places, 2, reduce=reduce, tolerance=4)
    for name in ["where.default", "nonzero_numpy.default"]:
        case(name, tensor(torch.float32, [3, 4], -1, 1))
        case(name, tensor(torch.bool, [5]))
    for size, part, dim, start in [([0, 4], [0, 2], 1, 2), ([3, 0], [1, 0], 0, 2), ([4, 3], [0, 3], 0, 4)]:
        # A view of nothing may begin where nothing is any more.
        case("slice_scatter.default", tensor(torch.float32, size, strided=False),
             tensor(torch.float32, part, strided=False), dim, start)  # fmt: skip
    case("take_along_dim.default", tensor(torch.float32, [4, 3]), indices([5], 0, 12))
    case("take.default", tensor(torch.float32, [4, 3]), indices([2, 2], -12, 12))
