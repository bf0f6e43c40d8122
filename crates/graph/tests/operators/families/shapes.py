import torch
from arguments import any_dim, rng, shape, tensor
from cases import case


def cases():
    def permuted(size):
        order = list(range(len(size)))
        rng.shuffle(order)
        return order

    dtypes = [torch.float32, torch.bfloat16, torch.int64, torch.bool]
    for _ in range(20):
        dtype = rng.choice(dtypes)
        size = shape(1, 4)
        dim = any_dim(len(size))
        x = tensor(dtype, size)
        case("reshape.default", x, [-1, size[0]] if rng.random() < 0.5 else [*size[:-1], 1, size[-1]])
        case("view.default", tensor(dtype, size, strided=False), [-1])
        case("permute.default", x, permuted(size))
        case("transpose.int", x, dim, any_dim(len(size)))
        case("unsqueeze.default", x, rng.randrange(-len(size) - 1, len(size) + 1))
        case("squeeze.default", tensor(dtype, [1, *size, 1]))
        case("squeeze.dim", tensor(dtype, [1, *size]), rng.choice([0, 1]))
        case("squeeze.dims", tensor(dtype, [1, *size, 1]), [0, -1])
        case("expand.default", tensor(dtype, [1, *size]), [2, 3, *[-1] * len(size)])
        case("flatten.using_ints", x, 0, rng.randrange(len(size)))
        case("slice.Tensor", x, dim, rng.randint(-3, 2), rng.randint(1, 7), rng.choice([1, 1, 2]))
        case("select.int", x, dim, rng.randrange(-size[dim], size[dim]))
        case("split.Tensor", x, rng.randint(1, 3), dim)
        case("chunk.default", x, rng.randint(1, 4), dim)
        cut = rng.randint(0, size[dim])
        case("split_with_sizes.default", x, [cut, size[dim] - cut], dim)
        case("unbind.int", x, dim)
        others = [[*size] for _ in range(rng.randint(1, 3))]
        for other in others:
            other[dim] = rng.randint(1, 3)
        case("cat.default", [x, *[tensor(dtype, other) for other in others]], dim)
        case("stack.default", [x, tensor(dtype, size)], rng.randrange(-len(size) - 1, len(size) + 1))
        case("repeat.default", x, [rng.randint(1, 2) for _ in range(len(size) + rng.randint(0, 1))])
        case("repeat_interleave.self_int", x, 2, rng.choice([dim, None]))
        case("flip.default", x, [dim])
        case("roll.default", x, [rng.randint(-3, 3)], [dim])
        case("unfold.default", x, dim, rng.randint(1, size[dim]), rng.randint(1, 2))
    for dtype in dtypes:
        case("roll.default", tensor(dtype, [3, 4]), [2])
        case("roll.default", tensor(dtype, [3, 4]), [-1, 2], [0, 1])
        case("flip.default", tensor(dtype, [3, 4, 2]), [0, 2])
        case("cat.default", [tensor(dtype, [0]), tensor(dtype, [3, 4])], 0)
        case("cat.default", [tensor(dtype, [2, 2]), tensor(torch.float32, [3, 2])], 0)
        case("pixel_shuffle.default", tensor(dtype, [2, 8, 3, 2]), 2)
        case("pixel_unshuffle.default", tensor(dtype, [2, 2, 4, 6]), 2)
        case("diagonal.default", tensor(dtype, [3, 4, 2]), rng.choice([0, 1, -1]))
        case("movedim.int", tensor(dtype, [3, 4, 2]), 0, 2)
        case("t.default", tensor(dtype, [3, 4]))
        case("unflatten.int", tensor(dtype, [3, 8]), 1, [2, -1])
        case("expand_as.default", tensor(dtype, [3, 1]), tensor(dtype, [2, 3, 4]))
        case("channel_shuffle.default", tensor(dtype, [2, 6, 3], strided=False), 2)
        case("as_strided.default", tensor(dtype, [3, 4], strided=False), [2, 2], [4, 1])
        case("tensor_split.sections", tensor(dtype, [7]), 3)
        case("alias.default", tensor(dtype, [7]))
        case("slice.Tensor", tensor(dtype, [5, 4]), 0, 0, 9223372036854775807)
