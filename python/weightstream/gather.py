"""Which operations merely gather bytes: what they make of stored tensors is stored already.

Each says of which bytes its result consists; None where that is no gather.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from weightstream import _native
from weightstream.deferred import Call, Deferred, Source
from weightstream.stored import DTYPE_WORDS, Stored

_ops = torch.ops.aten

# Bytes that lie together. Gathering shorter runs costs more than computing the tensor once.
_SHORTEST_RUN = 512


def cast(source: Stored, dtype: torch.dtype, contents: _native.Contents) -> Stored | None:
    """`source` as `dtype`, where `contents` have it so."""
    if dtype == source.dtype:
        return source
    parts = contents.cast(source.parts, DTYPE_WORDS.get(dtype, ""))
    return None if parts is None else Stored(dtype, source.shape, tuple(parts))


def permuted(source: Source, order: Sequence[int]) -> Source:
    """The dimensions in another order."""
    if list(order) == sorted(order):
        return source
    if isinstance(source, Stored) and (gathered := _permute(source, order)) is not None:
        return gathered
    shape = tuple(source.shape[dim] for dim in order)
    return Deferred(source.dtype, shape, Call(_ops.permute.default, (source, list(order)), {}))


def _reshape(source: Stored, shape: Sequence[int]) -> Stored:
    known = math.prod(size for size in shape if size != -1)
    return source.reshaped([math.prod(source.shape) // known if size == -1 else size for size in shape])


def _unsqueeze(source: Stored, dim: int) -> Stored:
    dim = dim % (len(source.shape) + 1)
    return source.reshaped([*source.shape[:dim], 1, *source.shape[dim:]])


def _squeeze(source: Stored, dim: int) -> Stored:
    dim = dim % len(source.shape)
    if source.shape[dim] != 1:
        return source
    return source.reshaped([*source.shape[:dim], *source.shape[dim + 1 :]])


def _permute(source: Stored, dims: Sequence[int]) -> Stored | None:
    # Moving dimensions of size 1 moves no byte.
    order = [dim % len(source.shape) for dim in dims]
    long = [dim for dim in order if source.shape[dim] != 1]
    if long == sorted(long):
        return source.reshaped([source.shape[dim] for dim in order])
    moved = max(dim + 1 for dim, other in enumerate(order) if dim != other)
    run = math.prod(source.shape[moved:]) * source.dtype.itemsize
    return source.permuted(order) if run >= _SHORTEST_RUN else None


def _transpose(source: Stored, first: int, second: int) -> Stored | None:
    dims = list(range(len(source.shape)))
    if not dims:
        return source
    dims[first], dims[second] = dims[second], dims[first]
    return _permute(source, dims)


def _slice(
    source: Stored, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Stored | None:
    dim = dim % len(source.shape)
    begin, stop, _ = slice(start, end).indices(source.shape[dim])
    return source.narrowed(dim, begin, max(0, stop - begin)) if step == 1 else None


def _select(source: Stored, dim: int, index: int) -> Stored:
    dim = dim % len(source.shape)
    shape = (*source.shape[:dim], *source.shape[dim + 1 :])
    return source.narrowed(dim, index % source.shape[dim], 1).reshaped(shape)


def _split_sizes(source: Stored, sizes: Sequence[int], dim: int = 0) -> list[Stored]:
    dim = dim % len(source.shape)
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return [source.narrowed(dim, start, size) for start, size in zip(starts, sizes, strict=True)]


def _split(source: Stored, size: int, dim: int = 0) -> list[Stored] | None:
    total = source.shape[dim]
    if size == 0:
        return None
    return _split_sizes(source, [min(size, total - start) for start in range(0, total, size)], dim)


def _unbind(source: Stored, dim: int = 0) -> list[Stored]:
    return [_select(source, dim, index) for index in range(source.shape[dim])]


def _cat(sources: Sequence[Any], dim: int = 0) -> Stored | None:
    if not all(isinstance(source, Stored) for source in sources):
        return None
    if len({(source.dtype, len(source.shape)) for source in sources}) != 1:
        return None
    return Stored.joined(sources, dim % len(sources[0].shape))


def _stack(sources: Sequence[Any], dim: int = 0) -> Stored | None:
    if not all(isinstance(source, Stored) for source in sources):
        return None
    return _cat([_unsqueeze(source, dim) for source in sources], dim % (len(sources[0].shape) + 1))


GATHERS: dict[Any, Callable[..., Stored | list[Stored] | None]] = {
    _ops.view.default: _reshape,
    _ops._unsafe_view.default: _reshape,
    _ops.unsqueeze.default: _unsqueeze,
    _ops.squeeze.dim: _squeeze,
    _ops.permute.default: _permute,
    _ops.transpose.int: _transpose,
    _ops.t.default: lambda source: _permute(source, range(len(source.shape) - 1, -1, -1)),
    _ops.slice.Tensor: _slice,
    _ops.select.int: _select,
    _ops.split.Tensor: _split,
    _ops.split_with_sizes.default: _split_sizes,
    _ops.unbind.int: _unbind,
    _ops.cat.default: _cat,
    _ops.stack.default: _stack,
}
