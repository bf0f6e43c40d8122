"""Tensors as they lie in a checkpoint, and what can be made of them without moving a byte."""

from __future__ import annotations

import itertools
import logging
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from weightstream import _native
from weightstream.errors import CheckpointError

_logger = logging.getLogger("weightstream")

# The format counts elements, torch counts bytes of two.
_TWO_IN_A_BYTE = "F4"
# Words of the safetensors format; what an older torch lacks is left out.
_DTYPES = {
    word: getattr(torch, name)
    for word, name in {
        "BOOL": "bool",
        "U8": "uint8",
        "I8": "int8",
        "I16": "int16",
        "U16": "uint16",
        "I32": "int32",
        "U32": "uint32",
        "I64": "int64",
        "U64": "uint64",
        "F16": "float16",
        "BF16": "bfloat16",
        "F32": "float32",
        "F64": "float64",
        "C64": "complex64",
        _TWO_IN_A_BYTE: "float4_e2m1fn_x2",
        "F8_E4M3": "float8_e4m3fn",
        "F8_E5M2": "float8_e5m2",
        "F8_E8M0": "float8_e8m0fnu",
        "F8_E4M3FNUZ": "float8_e4m3fnuz",
        "F8_E5M2FNUZ": "float8_e5m2fnuz",
    }.items()
    if hasattr(torch, name)
}
DTYPE_WORDS = {dtype: word for word, dtype in _DTYPES.items()}

Part = tuple[int, int, int]  # (index into the checkpoint's contents, offset, length), in bytes


@dataclass(frozen=True)
class Stored:
    """A contiguous tensor whose bytes are the parts' bytes, one part after another."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    parts: tuple[Part, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the whole tensor."""
        return math.prod(self.shape) * self.dtype.itemsize

    def behind(self, count: int) -> Stored:
        """The same where `count` other contents come first."""
        parts = tuple((content + count, offset, length) for content, offset, length in self.parts)
        return Stored(self.dtype, self.shape, parts)

    def reshaped(self, shape: Sequence[int]) -> Stored:
        """The same bytes under another shape of as many elements."""
        return Stored(self.dtype, tuple(shape), self.parts)

    def narrowed(self, dim: int, start: int, length: int) -> Stored:
        """Elements start .. start + length of dimension `dim`."""
        row = math.prod(self.shape[dim + 1 :]) * self.dtype.itemsize
        stride = self.shape[dim] * row
        shape = (*self.shape[:dim], length, *self.shape[dim + 1 :])
        outer = math.prod(self.shape[:dim])
        ranges = ((i * stride + start * row, length * row) for i in range(outer))
        return Stored(self.dtype, shape, _merged(_cut(self.parts, ranges)))

    def permuted(self, order: Sequence[int]) -> Stored:
        """The dimensions in another order: one part for each run of elements that stay together."""
        moved = max((dim + 1 for dim, source in enumerate(order) if dim != source), default=0)
        shape = tuple(self.shape[dim] for dim in order)
        strides = [math.prod(self.shape[dim + 1 : moved]) for dim in range(moved)]
        runs = list(_cut_evenly(self, math.prod(self.shape[:moved])))
        places = itertools.product(*(range(self.shape[dim]) for dim in order[:moved]))
        numbers = (sum(i * strides[dim] for i, dim in zip(place, order, strict=False)) for place in places)
        return Stored(self.dtype, shape, _merged(part for number in numbers for part in runs[number]))

    @staticmethod
    def joined(tensors: Sequence[Stored], dim: int) -> Stored:
        """The tensors one after another along dimension `dim`, which may differ in it alone."""
        first = tensors[0]
        outer = math.prod(first.shape[:dim])
        shape = (*first.shape[:dim], sum(t.shape[dim] for t in tensors), *first.shape[dim + 1 :])
        # One walk over each tensor's parts; interleaved row by row of the outer dimensions.
        cuts = [list(_cut_evenly(t, outer)) for t in tensors]
        return Stored(
            first.dtype, shape, _merged(part for i in range(outer) for cut in cuts for part in cut[i])
        )

    def read(self, contents: _native.Contents) -> torch.Tensor:
        """The tensor itself, in memory of its own.

        Raises ReadError where a file is shorter than its header says, or is damaged.
        """
        tensor = torch.empty(self.nbytes, dtype=torch.uint8)
        contents.read(self.parts, tensor.data_ptr(), self.nbytes)
        return tensor.view(self.dtype).view(self.shape)


def _merged(parts: Iterator[Part]) -> tuple[Part, ...]:
    """Neighbouring parts that continue each other as one."""
    merged: list[Part] = []
    for file, offset, length in parts:
        if merged and merged[-1][0] == file and merged[-1][1] + merged[-1][2] == offset:
            merged[-1] = (file, merged[-1][1], merged[-1][2] + length)
        elif length:
            merged.append((file, offset, length))
    return tuple(merged)


def _cut(parts: Sequence[Part], ranges: Iterator[tuple[int, int]]) -> Iterator[Part]:
    """The pieces of `parts` that cover ascending (start, length) ranges of their joined bytes."""
    index, begin = 0, 0  # the part that we are in, and where it begins in the joined bytes
    for start, length in ranges:
        while length:
            file, offset, size = parts[index]
            if start >= begin + size:
                index, begin = index + 1, begin + size
                continue
            taken = min(length, begin + size - start)
            yield file, offset + start - begin, taken
            start, length = start + taken, length - taken


def _cut_evenly(tensor: Stored, count: int) -> Iterator[list[Part]]:
    size = tensor.nbytes // count if count else 0
    pieces = _cut(tensor.parts, ((i * size, size) for i in range(count)))
    row: list[Part] = []
    filled = 0
    for piece in pieces:
        row.append(piece)
        filled += piece[2]
        if filled == size:
            yield row
            row, filled = [], 0
    while size == 0 and count:
        yield []
        count -= 1


@dataclass(frozen=True)
class Index:
    """A checkpoint by the names of its tensors."""

    contents: _native.Contents
    tensors: dict[str, Stored]
    metadata: dict[str, str]

    @staticmethod
    def open(path: str | os.PathLike[str]) -> Index:
        """Read the headers of a .safetensors file, an index of shards, or a folder that holds either."""
        checkpoint = _native.Checkpoint.open(os.fspath(path))
        for note in checkpoint.notes:
            _logger.warning("%s", note)
        contents = checkpoint.contents
        tensors = {}
        for tensor in checkpoint.tensors():
            dtype = _DTYPES.get(tensor.dtype)
            if dtype is None:
                raise CheckpointError(
                    f"{path}: tensor {tensor.name!r} has dtype {tensor.dtype}, "
                    f"which torch {torch.__version__} can't hold"
                )
            part = ((tensor.file, tensor.offset, tensor.length),) if tensor.length else ()
            shape = list(tensor.shape)
            if tensor.dtype == _TWO_IN_A_BYTE:
                shape[-1:] = [size // 2 for size in shape[-1:]]
            tensors[tensor.name] = Stored(dtype, tuple(shape), part)
        return Index(contents, tensors, checkpoint.metadata)


def weights_in(folder: Path, stem: str) -> Path:
    """The file in `folder` that a library writes weights to by default, or the folder where there is none."""
    for suffix in (".safetensors", ".safetensors.index.json"):
        if (file := folder / f"{stem}{suffix}").exists():
            return file
    return folder
