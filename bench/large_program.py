"""A 4 GB exported transformer in 512 MiB of memory in all, by `weightstream run`: from its file, and packed.

python -m bench.large_program [--layers 40] [--memory 400MiB] [--folder .cache/large]

Needs root, for the control group, and 9 GB of disk, which it gives back. The weights lie in a file while they
are made and exported, so that memory holds a part of them at most.
"""

import argparse
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy
import torch
from torch import nn

from bench.__main__ import bytes_of
from bench.cgroup import Cgroup
from bench.programs import COMMAND, HERE

CONFINED = 512 << 20
WIDTH = 2048


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.RMSNorm(WIDTH, eps=1e-6) for _ in range(2))
        self.projections = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.output = nn.Linear(WIDTH, WIDTH, bias=False)
        self.up, self.down = (
            nn.Linear(WIDTH, 4 * WIDTH, bias=False),
            nn.Linear(4 * WIDTH, WIDTH, bias=False),
        )

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        heads = self.projections(self.norms[0](hidden)).unflatten(-1, (3, WIDTH // 64, 64))
        query, key, value = (part.transpose(1, 2) for part in heads.unbind(2))
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        hidden = hidden + self.output(mixed.transpose(1, 2).flatten(2))
        return hidden + self.down(nn.functional.silu(self.up(self.norms[1](hidden))))


class Transformer(nn.Module):
    def __init__(self, layers: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(32000, WIDTH)
        self.layers = nn.ModuleList(Layer() for _ in range(layers))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        hidden = self.embedding(ids)
        for layer in self.layers:
            hidden = layer(hidden)
        return hidden


def place_in_file(module: nn.Module, file: Path) -> int:
    """Gives every parameter random values in `file`; returns their bytes."""
    total = sum(parameter.numel() for parameter in module.parameters())
    memory = torch.from_file(str(file), shared=True, size=total, dtype=torch.bfloat16)
    generator, first = torch.Generator().manual_seed(0), 0
    for name, parameter in list(module.named_parameters()):
        values = memory[first : first + parameter.numel()].view(parameter.shape)
        first += parameter.numel()
        values.normal_(1.0 if "norms" in name else 0.0, 0.02, generator=generator)
        owner = module.get_submodule(name.rpartition(".")[0])
        setattr(owner, name.rpartition(".")[2], nn.Parameter(values, requires_grad=False))
    return total * 2


def make(folder: Path, layers: int) -> tuple[Path, torch.Tensor, int]:
    """Writes the program, and returns its file, what torch computes, and the bytes of its weights."""
    ids = torch.arange(16).unsqueeze(0) * 1999
    numpy.save(folder / "ids.npy", ids.numpy())
    with torch.device("meta"):
        module = Transformer(layers).eval()
    weights, program = folder / "weights", folder / "model.pt2"
    size = place_in_file(module, weights)
    with torch.no_grad():
        expected = module(ids)
    torch.export.save(torch.export.export(module, (ids,), strict=False), program)
    weights.unlink()
    return program, expected, size


def confined_run(program: Path, folder: Path, memory: int) -> tuple[dict[str, Any], numpy.ndarray]:
    """What `weightstream run` reports in a control group, with the group's peak, and what it computes."""
    out = folder / "out.npy"
    command = [str(COMMAND), "run", str(program), f"--input={folder / 'ids.npy'}", "--memory", str(memory)]
    with Cgroup("weightstream-large-program", CONFINED) as group:
        process = group.start(
            [*command, "--runs", "2", "--json", "--out", str(out)], stdout=subprocess.PIPE, text=True
        )
        text, _ = process.communicate()
        if process.returncode:
            raise SystemExit(f"ended with {process.returncode}, killed for memory: {group.killed()}")
        facts = json.loads(text)
        facts["group_peak"] = group.peak_memory()
    return facts, numpy.load(out)


def main() -> None:
    parser = argparse.ArgumentParser("python -m bench.large_program")
    parser.add_argument("--layers", type=int, default=40)
    parser.add_argument("--memory", type=bytes_of, default=bytes_of("400MiB"))
    parser.add_argument("--folder", type=Path, default=HERE / ".cache" / "large")
    arguments = parser.parse_args()
    folder = arguments.folder
    build = ["cargo", "build", "--release", "--quiet", "-p", "weightstream-cli"]
    subprocess.run(build, check=True, cwd=HERE)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        program, expected, size = make(folder, arguments.layers)
        print(f"{size / 1e9:.2f} GB of weights, {CONFINED >> 20} MiB for the process, page cache included")
        results = {"file": confined_run(program, folder, arguments.memory)}
        subprocess.run([COMMAND, "pack", str(program), str(folder / "packed")], check=True)
        results["packed"] = confined_run(folder / "packed", folder, arguments.memory)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for name, (facts, result) in results.items():
        want = expected.float().numpy()
        error = numpy.linalg.norm(result - want) / numpy.linalg.norm(want)
        print(
            f"{name:7} {facts['seconds']:.2f} s, floor {facts['floor_seconds']:.2f} s, read "
            f"{facts['bytes_read'] / 1e9:.2f} GB; process {facts['process_peak'] / 2**20:.0f} MiB, "
            f"group {facts['group_peak'] / 2**20:.0f} MiB at most; {error:.1e} from torch"
        )
        if not error < 2e-2:
            raise SystemExit("not as torch computes it")
    if not numpy.array_equal(results["file"][1], results["packed"][1]):
        raise SystemExit("packed weights gave other bits")


if __name__ == "__main__":
    main()
