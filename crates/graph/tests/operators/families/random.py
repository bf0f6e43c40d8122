"""What torch draws with the seed that a program begins with."""

import torch
from arguments import Values, tensor
from cases import case


def cases():
    def drawn(name, *args, **kwargs):
        torch.manual_seed(67280421310721)
        case(name, *args, **kwargs)

    for dtype in [torch.float32, torch.bfloat16, torch.float16, torch.float64]:
        for size in [[3], [2, 8], [3, 7]]:
            drawn("rand.default", size, dtype=dtype, tolerance=2)
            drawn("randn.default", size, dtype=dtype, tolerance=8)
        drawn("rand_like.default", tensor(dtype, [5], strided=False))
        drawn("randn_like.default", tensor(dtype, [20], strided=False), tolerance=8)
        drawn("uniform_.default", tensor(dtype, [5], strided=False), -1.0, 3.0, tolerance=4)
        drawn("normal_.default", tensor(dtype, [20], strided=False), 2.0, 0.5, tolerance=8)
    drawn("normal.float_float", 1.0, 2.0, [5], tolerance=8)
    for high in [2, 10, 1 << 20]:
        drawn("randint.default", high, [700])
        drawn("randint.low", -5, high, [5], dtype=torch.int32)
    drawn("randint.low", -(1 << 40), 1 << 40, [5])
    drawn("randint_like.default", tensor(torch.int64, [5], strided=False), 9)
    drawn("randint_like.low_dtype", tensor(torch.int64, [5], strided=False), 3, 9)
    for count in [0, 1, 20]:
        drawn("randperm.default", count)
    drawn("bernoulli.default", Values([0.0, 0.2, 0.5, 0.9, 1.0], torch.float32))
    drawn("bernoulli.default", Values([0.0, 0.2, 0.5, 0.9, 1.0], torch.float64))
