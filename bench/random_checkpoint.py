"""Writes safetensors checkpoints of random weights, tensor by tensor, in little memory."""

import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

POOL = 1 << 23  # random values held in memory; every tensor is made of windows of them
ITEMSIZE = {"BF16": 2, "F32": 4}


@dataclass(frozen=True)
class Part:
    """A piece of a tensor with randomness of its own, so that two layouts of one model hold equal weights."""

    name: str
    values: int


@dataclass(frozen=True)
class TensorSpec:
    """One tensor to write: its bytes are its parts', one after another."""

    name: str
    shape: tuple[int, ...]
    parts: tuple[Part, ...]

    @property
    def values(self) -> int:
        return sum(part.values for part in self.parts)


class RandomWeights:
    """Normal values, scaled by what the tensor's name says it is, so that activations stay finite."""

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype
        normal = np.random.default_rng(0).standard_normal(POOL, dtype=np.float32)
        self.weight = self.stored(normal * np.float32(0.02))
        self.norm = self.stored(1 + normal[: 1 << 20] * np.float32(0.1))
        self.bias = self.stored(normal[: 1 << 20] * np.float32(0.01))

    def stored(self, values: np.ndarray) -> np.ndarray:
        if self.dtype == "F32":
            return values.astype(np.float32)
        bits = values.astype(np.float32).view(np.uint32)
        rounded = bits + 0x7FFF + ((bits >> 16) & 1)  # to the nearest even bf16
        return (rounded >> 16).astype(np.uint16)

    def bytes_of(self, part: Part) -> Iterator[memoryview]:
        pool = self.weight
        if part.name.endswith("bias"):
            pool = self.bias
        elif "norm" in "".join(part.name.split(".")[-2:-1]):
            pool = self.norm
        start = np.random.default_rng(zlib.crc32(part.name.encode()))
        left = part.values
        while left:
            begin = int(start.integers(len(pool)))
            window = pool[begin : begin + left]
            yield memoryview(window).cast("B")
            left -= len(window)


def write_shard(path: Path, tensors: Sequence[TensorSpec], weights: RandomWeights) -> None:
    """Writes one file. Tensors are laid out by name, as safetensors itself does."""
    ordered = sorted(tensors, key=lambda tensor: tensor.name)
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for tensor in ordered:
        begin, end = end, end + tensor.values * ITEMSIZE[weights.dtype]
        header[tensor.name] = {
            "dtype": weights.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in ordered:
            for part in tensor.parts:
                for piece in weights.bytes_of(part):
                    file.write(piece)


def write_checkpoint(folder: Path, stem: str, tensors: Sequence[TensorSpec], dtype: str, shards: int) -> int:
    """Writes `tensors` as `shards` files of about equal size, with an index where there are several.

    Returns the bytes of weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = RandomWeights(dtype)
    total = sum(tensor.values for tensor in tensors) * ITEMSIZE[dtype]
    if shards == 1:
        write_shard(folder / f"{stem}.safetensors", tensors, weights)
        return total
    groups: list[list[TensorSpec]] = [[] for _ in range(shards)]
    written = 0
    for tensor in tensors:
        groups[min(shards - 1, written * shards // total)].append(tensor)
        written += tensor.values * ITEMSIZE[dtype]
    placed: dict[str, str] = {}
    for number, group in enumerate(groups, 1):
        name = f"{stem}-{number:05}-of-{shards:05}.safetensors"
        write_shard(folder / name, group, weights)
        placed.update({tensor.name: name for tensor in group})
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(placed.items()))}
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index, indent=1))
    return total
