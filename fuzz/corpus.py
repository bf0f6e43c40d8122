"""Writes a small corpus for each target: valid inputs, from which a fuzzer finds the invalid ones.

Run it with the project's own Python, from the project's root, after `make build`: `python fuzz/corpus.py`.
"""

import io
import json
import subprocess
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save, save_file

CORPUS = Path(__file__).parent / "corpus"
FIXTURES = Path(__file__).parent.parent / "crates/codec/tests/quantised"
# Bytes of a block, in the order of `Quantised::ALL`.
BLOCKS = dict(Q4_0=18, Q4_1=20, Q5_0=22, Q5_1=24, Q8_0=34, Q2_K=84, Q3_K=110, Q4_K=144, Q5_K=176, Q6_K=210)


class Tiny(torch.nn.Module):
    """A layer with a tied weight and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(3, 2)
        self.register_buffer("scale", torch.ones(2, dtype=torch.float16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Applies the layer."""
        return self.layer(x) * self.scale


def write(target: str, name: str, content: bytes) -> None:
    """Writes one input."""
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


def saved(value: object, **options: bool) -> bytes:
    """What torch.save writes."""
    file = io.BytesIO()
    torch.save(value, file, **options)
    return file.getvalue()


def main() -> None:
    """Writes all."""
    torch.manual_seed(0)
    model = Tiny()
    state = model.state_dict()
    tensors = {name: tensor.contiguous() for name, tensor in state.items()}

    write("safetensors", "plain", save(tensors))
    write("safetensors", "metadata", save({"a": torch.zeros(0), "é": torch.ones(1, 1, 1)}, {"format": "pt"}))
    write("torch", "state", saved(state))
    write("torch", "shared", saved({"a": model.layer.weight, "b": model.layer.weight[1:].T}))
    write("torch", "nested", saved({"model": state, "step": 3, "rate": [0.1, None, "x"]}))
    write("torch", "legacy", saved(state, _use_new_zipfile_serialization=False))
    weight_map = {"a": "a.safetensors", "b": "b.safetensors"}
    write("index", "two", json.dumps({"metadata": {"total_size": 8}, "weight_map": weight_map}).encode())

    program = torch.export.export(model, (torch.zeros(1, 3),))
    file = io.BytesIO()
    torch.export.save(program, file)
    write("export", "program", file.getvalue())

    for number, (kind, size) in enumerate(BLOCKS.items()):
        write("quantised", kind, bytes([number]) + (FIXTURES / f"{kind}.bin").read_bytes()[: 2 * size])

    with tempfile.TemporaryDirectory() as folder:
        source, packed = Path(folder) / "model.safetensors", Path(folder) / "packed"
        save_file({"weight": torch.randn(64, 512).bfloat16(), "bias": torch.randn(7), **tensors}, source)
        subprocess.run(["weightstream", "pack", source, packed], check=True)
        write("packed", "manifest", (packed / "manifest.weightstream").read_bytes())

    seeds = ["cargo", "run", "--quiet", "--release", "--example", "codec_seeds", str(CORPUS / "codec")]
    subprocess.run(seeds, cwd=CORPUS.parent, check=True)


if __name__ == "__main__":
    main()
