"""The executor's operators beside torch's, on this machine: microseconds, and torch's time over ours.

python -m bench.operators [WORD...]    only cases whose name has one of the words
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch

NAMES = {torch.float32: "F32", torch.bfloat16: "BF16"}


def cases():
    """(label, operator, arguments by name); a shape in a tuple stands for a tensor."""
    for dtype in (torch.float32, torch.bfloat16):
        for rows, inputs, outputs in [
            (256, 2048, 2048),
            (256, 768, 3072),
            (128, 384, 1536),
            (16, 2048, 2048),
            (1, 2048, 2048),
            (1, 576, 1536),
        ]:
            arguments = {"input": (rows, inputs), "weight": (outputs, inputs), "bias": (outputs,)}
            yield f"linear {rows}x{inputs}x{outputs}", "linear.default", dtype, arguments
        for batch, heads, queries, keys, size in [
            (1, 12, 197, 197, 64),
            (1, 16, 1024, 1024, 64),
            (1, 12, 1, 512, 64),
        ]:
            arguments = {
                "query": (batch, heads, queries, size),
                "key": (batch, heads, keys, size),
                "value": (batch, heads, keys, size),
            }
            yield (
                f"attention {queries}x{keys}, {heads} heads",
                "scaled_dot_product_attention.default",
                dtype,
                arguments,
            )
        for label, image, kernel, options in [
            ("7x7/2 3-64 224", (1, 3, 224, 224), (64, 3, 7, 7), {"stride": [2, 2], "padding": [3, 3]}),
            ("1x1 64-256 56", (1, 64, 56, 56), (256, 64, 1, 1), {}),
            ("3x3 64-64 56", (1, 64, 56, 56), (64, 64, 3, 3), {"padding": [1, 1]}),
            ("3x3 256-256 14", (1, 256, 14, 14), (256, 256, 3, 3), {"padding": [1, 1]}),
            ("3x3 512-512 7", (1, 512, 7, 7), (512, 512, 3, 3), {"padding": [1, 1]}),
            ("1x1 2048-512 7", (1, 2048, 7, 7), (512, 2048, 1, 1), {}),
            ("depthwise 7x7 96 56", (1, 96, 56, 56), (96, 1, 7, 7), {"padding": [3, 3], "groups": 96}),
            ("depthwise 7x7 768 7", (1, 768, 7, 7), (768, 1, 7, 7), {"padding": [3, 3], "groups": 768}),
            ("3x3 320-320 64", (1, 320, 64, 64), (320, 320, 3, 3), {"padding": [1, 1]}),
        ]:
            yield f"conv {label}", "conv2d.default", dtype, {"input": image, "weight": kernel, **options}
        yield "gelu 1M", "gelu.default", dtype, {"self": (256, 4096)}
        yield "silu 1M", "silu.default", dtype, {"self": (256, 4096)}
        yield "add 1M", "add.Tensor", dtype, {"self": (256, 4096), "other": (256, 4096)}
        yield "mul 4K", "mul.Tensor", dtype, {"self": (1, 4096), "other": (1, 4096)}
        yield "relu 1M", "relu.default", dtype, {"self": (1, 64, 128, 128)}
        yield (
            "layer_norm 256x1024",
            "layer_norm.default",
            dtype,
            {"input": (256, 1024), "normalized_shape": [1024], "weight": (1024,), "bias": (1024,)},
        )
        yield (
            "group_norm 320x64x64",
            "group_norm.default",
            dtype,
            {"input": (1, 320, 64, 64), "num_groups": 32, "weight": (320,), "bias": (320,)},
        )
        yield (
            "batch_norm 256x56x56",
            "batch_norm.default",
            dtype,
            {
                "input": (1, 256, 56, 56),
                "weight": (256,),
                "bias": (256,),
                "running_mean": (256,),
                "running_var": None,
                "training": False,
                "momentum": 0.1,
                "eps": 1e-5,
                "cudnn_enabled": False,
            },
        )
        yield "softmax 12x197x197", "softmax.int", dtype, {"self": (12, 197, 197), "dim": -1}
        yield (
            "max_pool 64x112x112",
            "max_pool2d.default",
            dtype,
            {"self": (1, 64, 112, 112), "kernel_size": [3, 3], "stride": [2, 2], "padding": [1, 1]},
        )
        yield "mean 256x1024", "mean.dim", dtype, {"self": (256, 1024), "dim": [-1], "keepdim": True}
        yield (
            "upsample 64x64x64",
            "upsample_nearest2d.vec",
            dtype,
            {"input": (1, 64, 64, 64), "output_size": None, "scale_factors": [2.0, 2.0]},
        )


def torch_time(operator, arguments):
    """The least time of a call, in microseconds."""
    best, spent, calls = 1e9, 0.0, 0
    while spent < 0.25 and calls < 200:
        start = time.perf_counter()
        operator(**arguments)
        seconds = time.perf_counter() - start
        best, spent, calls = min(best, seconds), spent + seconds, calls + 1
    return best * 1e6


def main():
    """Prints a line for each case."""
    words = sys.argv[1:]
    chosen = [
        case
        for case in cases()
        if (not words or any(word in f"{case[0]} {NAMES[case[2]]}" for word in words))
        and not case[0].startswith("batch_norm")
    ]
    lines = []
    for _, name, dtype, arguments in chosen:
        spec = [
            [key, {"shape": value, "dtype": NAMES[dtype]} if isinstance(value, tuple) else value]
            for key, value in arguments.items()
        ]
        lines.append(json.dumps({"op": f"torch.ops.aten.{name}", "args": spec}))
    command = ["cargo", "run", "--release", "--quiet", "-p", "weightstream-graph", "--example", "operators"]
    answer = subprocess.run(
        command,
        input="\n".join(lines),
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent.parent,
    )
    ours = [float(line) for line in answer.stdout.split()]
    print(f"{'':34}{'torch':>9}{'ours':>9}  ratio")
    with torch.no_grad():
        for (label, name, dtype, arguments), mine in zip(chosen, ours, strict=True):
            packet, overload = name.split(".")
            tensors = {
                key: torch.rand(value).to(dtype) if isinstance(value, tuple) else value
                for key, value in arguments.items()
            }
            theirs = torch_time(getattr(getattr(torch.ops.aten, packet), overload), tensors)
            print(f"{label:28} {NAMES[dtype]:4} {theirs:9.0f}{mine:9.0f}  {theirs / mine:5.2f}")


if __name__ == "__main__":
    main()
