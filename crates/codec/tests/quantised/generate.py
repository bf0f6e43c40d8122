"""Writes what the `gguf` package and torch make of some blocks of each kind.

KIND.bin holds, one after the other: the blocks, their values as float32, as bfloat16 and as float16.
"""

from pathlib import Path

import gguf
import numpy
import torch

KINDS = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"]
SCALES = {  # where a block's fp16 numbers are
    "Q4_0": [0],
    "Q4_1": [0, 2],
    "Q5_0": [0],
    "Q5_1": [0, 2],
    "Q8_0": [0],
    "Q2_K": [80, 82],
    "Q3_K": [108],
    "Q4_K": [0, 2],
    "Q5_K": [0, 2],
    "Q6_K": [208],
}
# Usual scales, and what is at the edges: zeros, subnormal ones, values beyond fp16's range.
EDGES = [0.0, -0.0, 6e-8, -3e-6, 65504.0, -40000.0, 1.0, 0.0123]


def main() -> None:
    """Writes a file of each kind beside this one."""
    random = numpy.random.default_rng(0)
    for name in KINDS:
        kind = gguf.GGMLQuantizationType[name]
        values, size = gguf.GGML_QUANT_SIZES[kind]
        count = 1024 // values + len(EDGES)
        blocks = random.integers(0, 256, (count, size), dtype=numpy.uint8)
        for place in SCALES[name]:
            scales = random.normal(0, 0.01, count).astype(numpy.float16)
            scales[: len(EDGES)] = random.permutation(EDGES).astype(numpy.float16)
            blocks[:, place : place + 2] = scales[:, None].view(numpy.uint8)
        wide = torch.from_numpy(gguf.quants.dequantize(blocks.reshape(-1), kind).astype(numpy.float32))
        parts = [blocks.tobytes(), wide.numpy().tobytes()]
        parts += [
            wide.to(dtype).view(torch.uint8).numpy().tobytes() for dtype in (torch.bfloat16, torch.float16)
        ]
        Path(__file__).with_name(f"{name}.bin").write_bytes(b"".join(parts))


if __name__ == "__main__":
    main()
