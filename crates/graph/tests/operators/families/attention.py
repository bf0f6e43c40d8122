import torch
from arguments import REALS, rng, tensor
from cases import case


def cases():
    name = "scaled_dot_product_attention.default"
    for dtype in REALS * 12:
        batch, heads, length, keys, depth = (rng.choice([1, 2, 3, 5]) for _ in range(5))
        query = tensor(dtype, [batch, heads, length, depth])
        key, value = tensor(dtype, [batch, heads, keys, depth]), tensor(dtype, [batch, heads, keys, depth])
        kind = rng.randrange(5)
        options = {}
        if kind == 1:
            options = {"is_causal": True}
        elif kind == 2:
            options = {
                "attn_mask": tensor(
                    dtype, rng.choice([[length, keys], [batch, 1, length, keys], [1, 1, 1, keys]])
                )
            }
        elif kind == 3:
            options = {
                "attn_mask": tensor(torch.bool, rng.choice([[length, keys], [batch, heads, length, keys]]))
            }
        if rng.random() < 0.3:
            options["scale"] = 0.7
        case(name, query, key, value, **options, tolerance=6)
    for dtype in REALS:
        grouped = [tensor(dtype, [2, 4, 3, 5]), tensor(dtype, [2, 2, 6, 5]), tensor(dtype, [2, 2, 6, 5])]
        case(name, *grouped, enable_gqa=True, tolerance=6)
        case(name, tensor(dtype, [3, 4, 5]), tensor(dtype, [3, 6, 5]), tensor(dtype, [3, 6, 5]), tolerance=6)
        case(name, tensor(dtype, [4, 5]), tensor(dtype, [6, 5]), tensor(dtype, [6, 5]), tolerance=6)
        case(
            name,
            tensor(dtype, [1, 1, 2, 4]),
            tensor(dtype, [1, 1, 1100, 4]),
            tensor(dtype, [1, 1, 1100, 4]),
            tolerance=8,
        )
        case(
            name,
            tensor(dtype, [1, 1, 90, 2]),
            tensor(dtype, [1, 1, 90, 2]),
            tensor(dtype, [1, 1, 90, 2]),
            is_causal=True,
            tolerance=8,
        )
    # One entry of a batch or one head goes with several of the others.
    for dtype in REALS:
        for sizes in [([1, 2, 3, 4], [3, 2, 5, 4], [3, 2, 5, 4]), ([2, 1, 3, 4], [2, 3, 5, 4], [2, 3, 5, 4]),
                      ([3, 2, 3, 4], [1, 2, 5, 4], [3, 1, 5, 6]), ([3, 4], [2, 5, 4], [2, 5, 4]),
                      ([2, 1, 3, 2, 4], [1, 4, 3, 5, 4], [2, 4, 1, 5, 4])]:  # fmt: skip
            case(name, *[tensor(dtype, size) for size in sizes], tolerance=6)
        mask = tensor(torch.bool, [2, 1, 3, 5])
        case(
            name,
            *[tensor(dtype, size) for size in [[1, 2, 3, 4], [2, 2, 5, 4], [2, 2, 5, 4]]],
            mask,
            tolerance=6,
        )
