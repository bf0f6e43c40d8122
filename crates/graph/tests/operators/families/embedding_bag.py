import torch
from arguments import Values, indices, tensor
from cases import case


def cases():
    for dtype in [torch.float32, torch.bfloat16, torch.float16]:
        table, ids = tensor(dtype, [7, 3], strided=False), indices([8], 0, 7)
        bags = Values([0, 3, 3], torch.int64)
        for mode in [0, 1, 2]:
            case("embedding_bag.default", table, ids, bags, False, mode, results=1, tolerance=8)
            case(
                "embedding_bag.padding_idx",
                table,
                ids,
                bags,
                False,
                mode,
                False,
                None,
                False,
                2,
                results=1,
                tolerance=8,
            )
        last = Values([0, 2, 8], torch.int64)
        case("embedding_bag.default", table, ids, last, include_last_offset=True, results=1, tolerance=8)
        factors = tensor(dtype, [8], strided=False)
        case("_embedding_bag.default", table, ids, bags, per_sample_weights=factors, results=1, tolerance=8)
