"""Writes a few seeds for each target: valid inputs, from which damage makes invalid ones.

Run it after `make build` with `.venv/bin` on the path: `python crates/hostile/seeds.py`.
"""

import io
import json
import struct
import subprocess
import tempfile
import zipfile
from pathlib import Path

import torch
from safetensors.torch import save, save_file

SEEDS = Path(__file__).parent / "seeds"
CRATES = Path(__file__).parent.parent
FIXTURES = CRATES / "checkpoint/tests/fixtures"
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
    folder = SEEDS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


def saved(value: object, **options: bool) -> bytes:
    """What torch.save writes."""
    file = io.BytesIO()
    torch.save(value, file, **options)
    return file.getvalue()


def entry(archive: Path, ending: str) -> bytes:
    """An entry of a zip file."""
    with zipfile.ZipFile(archive) as file:
        return file.read(next(name for name in file.namelist() if name.endswith(ending)))


def gguf() -> bytes:
    """A file of three tensors and metadata of every shape."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    metadata = [
        text("general.architecture") + struct.pack("<I", 8) + text("llama"),
        text("llama.block_count") + struct.pack("<II", 4, 1),
        text("llama.rope.freq_base") + struct.pack("<If", 6, 10000.0),
        text("general.alignment") + struct.pack("<II", 4, 64),
        text("true") + struct.pack("<I?", 7, True),
        text("words") + struct.pack("<IIQ", 9, 8, 3) + 3 * text("word"),
        text("nested") + struct.pack("<IIQIQ", 9, 9, 1, 0, 2) + b"\1\2",
    ]
    tensors = [("a.weight", (32, 4), 2, 0), ("b.weight", (5,), 0, 128), ("c.weight", (3, 2), 1, 192)]
    rows = [
        text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)
        for name, shape, kind, offset in tensors
    ]
    header = struct.pack("<4sIQQ", b"GGUF", 3, len(rows), len(metadata)) + b"".join(metadata + rows)
    return header.ljust(-(-len(header) // 64) * 64, b"\0") + bytes(204)


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

    exported = FIXTURES / "linear.pt2"
    write("export", "linear", exported.read_bytes())
    write("program", "linear", entry(exported, "/models/model.json"))
    write("weights", "linear", entry(exported, "/model_weights_config.json"))
    write("pickle", "state", entry(FIXTURES / "state.pt", "/data.pkl"))
    write("gguf", "three", gguf())

    for number, (kind, size) in enumerate(BLOCKS.items()):
        write(
            "quantised",
            kind,
            bytes([number]) + (CRATES / "codec/tests/quantised" / f"{kind}.bin").read_bytes()[: 2 * size],
        )

    with tempfile.TemporaryDirectory() as folder:
        source, packed = Path(folder) / "model.safetensors", Path(folder) / "packed"
        save_file({"weight": torch.randn(16, 256).bfloat16(), "bias": torch.randn(7), **tensors}, source)
        subprocess.run(["weightstream", "pack", source, packed], check=True)
        manifest = (packed / "manifest.weightstream").read_bytes()
        data = (packed / "chunks-00001.weightstream").read_bytes().rstrip(b"\0")
        write("packed", "small", struct.pack("<I", len(manifest)) + manifest + data)

    seeds = ["cargo", "run", "--quiet", "--example", "codec_seeds", str(SEEDS / "codec")]
    subprocess.run(seeds, cwd=SEEDS.parent, check=True)


if __name__ == "__main__":
    main()
