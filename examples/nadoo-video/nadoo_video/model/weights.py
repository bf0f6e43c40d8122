"""Where a world model's weights are: trained, generated, loaded whole or streamed."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import torch
import weightstream
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from nadoo_video.model.transformer import Shape, WorldModel

TRAINED = Path(__file__).resolve().parents[2] / "weights"
INDEX = "model.safetensors.index.json"
PART_BYTES = 12 << 20  # of trained weights: parts stay small enough for any way that they travel
SHARD_BYTES = 1 << 30  # of generated weights


def read_shape(folder: Path) -> Shape:
    """The shape of the model in `folder`.

    Raises FileNotFoundError where there is none.
    """
    file = folder / "config.json"
    if not file.exists():
        raise FileNotFoundError(f"{folder}: expected a folder with config.json and {INDEX}, found no config.json")
    return Shape(**json.loads(file.read_text()))


def save(folder: Path, shape: Shape, tensors: Iterator[tuple[str, Tensor]], part_bytes: int) -> None:
    """Write config.json, the tensors in parts of about `part_bytes`, and their index; each tensor is held only once."""
    folder.mkdir(parents=True, exist_ok=True)
    parts: dict[str, str] = {}
    part: dict[str, Tensor] = {}
    number, total = 0, 0

    def write() -> None:
        nonlocal number
        if part:
            number += 1
            file = f"model-{number:05}.safetensors"
            save_file(part, folder / file)
            parts.update(dict.fromkeys(part, file))
            part.clear()

    for name, tensor in tensors:
        size = tensor.numel() * tensor.element_size()
        if sum(held.numel() * held.element_size() for held in part.values()) + size > part_bytes:
            write()
        part[name] = tensor.contiguous()
        total += size
    write()
    (folder / "config.json").write_text(json.dumps(shape.to_json(), indent=2) + "\n")
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": parts}, indent=1) + "\n")


def generate_weights(folder: Path, shape: Shape, dtype: torch.dtype, seed: int = 0) -> None:
    """Write random weights of the given shape, whatever its size: a tensor at a time. They predict nothing; they are
    there to show what size costs. The same seed gives the same bits."""
    with weightstream.empty():
        model = WorldModel(shape)

    def tensors() -> Iterator[tuple[str, Tensor]]:
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in model.named_parameters():
            if parameter.ndim < 2:
                value = (
                    torch.ones(parameter.shape)
                    if "norm" in name and name.endswith("weight")
                    else torch.zeros(parameter.shape)
                )
            else:
                value = torch.randn(parameter.shape, generator=generator).mul_(0.5 / math.sqrt(parameter.shape[-1]))
            yield name, value.to(dtype)

    save(folder, shape, tensors(), SHARD_BYTES)


def load(folder: Path = TRAINED) -> WorldModel:
    """The model in `folder`, loaded whole."""
    with weightstream.empty():
        model = WorldModel(read_shape(folder))
    state: dict[str, Tensor] = {}
    for file in sorted(set(json.loads((folder / INDEX).read_text())["weight_map"].values())):
        with safe_open(folder / file, framework="pt") as part:
            state.update({name: part.get_tensor(name) for name in part.keys()})  # noqa: SIM118
    model.load_state_dict(state, assign=True)
    return model.requires_grad_(False).eval()


def streamed(folder: Path = TRAINED, memory: int | float | str = 0.25) -> WorldModel:
    """The model in `folder`, its weights streamed through `memory`: bytes, a size, or a share of the weights' size."""
    with weightstream.empty():
        model = WorldModel(read_shape(folder)).eval()
    budget = int(memory * weight_bytes(folder)) if isinstance(memory, float) else memory
    weightstream.stream(model, folder, memory=budget)
    return model


def weight_bytes(folder: Path = TRAINED) -> int:
    """Bytes of all weights."""
    return int(json.loads((folder / INDEX).read_text())["metadata"]["total_size"])
