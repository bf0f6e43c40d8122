"""Tensors that libraries may rename, stack, split and cast before any byte of them is read.

transformers converts checkpoints while it loads them, with code of its own per architecture. Given lazy
tensors that code runs unchanged: what merely gathers bytes stays a gather (`Stored`), anything else is noted
down (`Deferred`) to be computed once, tensor by tensor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._pytree import tree_map

from weightstream import _native
from weightstream.stored import DTYPE_WORDS, Stored

_ops = torch.ops.aten

# Bytes that lie together. Gathering shorter runs costs more than computing the tensor once.
_SHORTEST_RUN = 512


@dataclass(frozen=True, eq=False)
class Deferred:
    """A tensor that some operation makes of others; `output` picks one of several results."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    operation: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: int | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the result."""
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self, contents: _native.Contents) -> torch.Tensor:
        """Compute the tensor from the checkpoint's contents."""

        def value(leaf: Any) -> Any:
            return leaf.source.read(contents) if isinstance(leaf, Lazy) else leaf

        result = self.operation(*tree_map(value, self.args), **tree_map(value, self.kwargs))
        if self.output is not None:
            result = result[self.output]
        # Lazy tensors pass for contiguous ones, so what is computed from them must be.
        contiguous: torch.Tensor = result.contiguous()
        return contiguous

    def __repr__(self) -> str:
        return f"{self.operation}({self.args}, {self.kwargs})[{self.output}]: {self.dtype} {self.shape}"


Source = Stored | Deferred


class Lazy(torch.Tensor):
    """A CPU tensor by shape and dtype, whose values are still in the checkpoint."""

    source: Source
    contents: _native.Contents

    @staticmethod
    def __new__(cls, source: Source, contents: _native.Contents) -> Lazy:
        """Stand for `source`, whose parts lie in `contents`."""
        made: Lazy = torch.Tensor._make_wrapper_subclass(
            cls, source.shape, dtype=source.dtype, device=torch.device("cpu")
        )
        made.source, made.contents = source, contents
        return made

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"Lazy({self.source!r})"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Gather where `func` only moves whole ranges of bytes, defer it otherwise."""
        kwargs = kwargs or {}
        if func is _ops.equal.default:
            return _equal(*args)
        if func._schema.is_mutable:
            raise TypeError(f"{func} would write to a weight that is still in the checkpoint")
        gather = _GATHERS.get(func)
        contents: Any = _contents_of(args)
        if gather is not None and (made := gather(*args, **kwargs)) is not None:
            return [cls(s, contents) for s in made] if isinstance(made, list) else cls(made, contents)
        return _defer(cls, func, args, kwargs, contents)


def cast(stored: Stored, dtype: torch.dtype, contents: _native.Contents) -> Source:
    """`stored` as `dtype`: itself where that is its dtype."""
    return Lazy(stored, contents).to(dtype).source  # type: ignore[attr-defined, no-any-return]


def _contents_of(args: Any) -> _native.Contents | None:
    for arg in args:
        if isinstance(arg, Lazy):
            return arg.contents
        if isinstance(arg, list | tuple) and (contents := _contents_of(arg)):
            return contents
    return None


def _defer(cls: type[Lazy], func: Any, args: Any, kwargs: Any, contents: Any) -> Any:
    def on_meta(leaf: Any) -> Any:
        if isinstance(leaf, torch.Tensor):
            return torch.empty(leaf.shape, dtype=leaf.dtype, device="meta")
        return torch.device("meta") if isinstance(leaf, torch.device) else leaf

    shapes = func(*tree_map(on_meta, args), **tree_map(on_meta, kwargs))
    if isinstance(shapes, torch.Tensor):
        return cls(Deferred(shapes.dtype, tuple(shapes.shape), func, args, kwargs), contents)
    if isinstance(shapes, list | tuple):
        sources = (Deferred(s.dtype, tuple(s.shape), func, args, kwargs, i) for i, s in enumerate(shapes))
        return [cls(source, contents) for source in sources]
    raise TypeError(f"{func} needs the values of a weight that is still in the checkpoint")


def _equal(left: torch.Tensor, right: torch.Tensor) -> bool:
    if isinstance(left, Lazy) and isinstance(right, Lazy):
        one, other = left.source, right.source
        if isinstance(one, Stored) and isinstance(other, Stored) and one == other:
            return True
    values = [t.source.read(t.contents) if isinstance(t, Lazy) else t for t in (left, right)]
    return torch.equal(*values)


# What follows says of each operation which bytes its result consists of; None where that is no gather.


def _same(tensor: Lazy, *args: Any, **kwargs: Any) -> Stored | None:
    return tensor.source if isinstance(tensor.source, Stored) else None


def _to(
    tensor: Lazy, *, dtype: torch.dtype | None = None, device: Any = None, **kwargs: Any
) -> Stored | None:
    source = _same(tensor)
    if source is None or dtype in (None, tensor.dtype):
        return source
    parts = tensor.contents.cast(source.parts, DTYPE_WORDS.get(dtype, ""))
    return None if parts is None else Stored(dtype, source.shape, tuple(parts))


def _reshape(tensor: Lazy, shape: Sequence[int]) -> Stored | None:
    source = _same(tensor)
    if source is None:
        return None
    known = math.prod(size for size in shape if size != -1)
    return source.reshaped([tensor.numel() // known if size == -1 else size for size in shape])


def _unsqueeze(tensor: Lazy, dim: int) -> Stored | None:
    dim = dim % (tensor.dim() + 1)
    return _reshape(tensor, [*tensor.shape[:dim], 1, *tensor.shape[dim:]])


def _squeeze(tensor: Lazy, dim: int) -> Stored | None:
    dim = dim % tensor.dim()
    if tensor.shape[dim] != 1:
        return _same(tensor)
    return _reshape(tensor, [*tensor.shape[:dim], *tensor.shape[dim + 1 :]])


def _permute(tensor: Lazy, dims: Sequence[int]) -> Stored | None:
    # Moving dimensions of size 1 moves no byte.
    order = [dim % tensor.dim() for dim in dims]
    long = [dim for dim in order if tensor.shape[dim] != 1]
    if long == sorted(long):
        return _reshape(tensor, [tensor.shape[dim] for dim in order])
    source = _same(tensor)
    moved = max(dim + 1 for dim, source in enumerate(order) if dim != source)
    run = math.prod(tensor.shape[moved:]) * tensor.dtype.itemsize
    return source.permuted(order) if source is not None and run >= _SHORTEST_RUN else None


def _transpose(tensor: Lazy, first: int, second: int) -> Stored | None:
    dims = list(range(tensor.dim()))
    dims[first], dims[second] = dims[second], dims[first]
    return _permute(tensor, dims)


def _slice(
    tensor: Lazy, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Stored | None:
    source, dim = _same(tensor), dim % tensor.dim()
    begin, stop, _ = slice(start, end).indices(tensor.shape[dim])
    if source is None or step != 1:
        return None
    return source.narrowed(dim, begin, max(0, stop - begin))


def _select(tensor: Lazy, dim: int, index: int) -> Stored | None:
    source, dim = _same(tensor), dim % tensor.dim()
    if source is None:
        return None
    shape = (*tensor.shape[:dim], *tensor.shape[dim + 1 :])
    return source.narrowed(dim, index % tensor.shape[dim], 1).reshaped(shape)


def _split_sizes(tensor: Lazy, sizes: Sequence[int], dim: int = 0) -> list[Stored] | None:
    source, dim = _same(tensor), dim % tensor.dim()
    if source is None:
        return None
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return [source.narrowed(dim, start, size) for start, size in zip(starts, sizes, strict=True)]


def _split(tensor: Lazy, size: int, dim: int = 0) -> list[Stored] | None:
    total = tensor.shape[dim]
    if size == 0:
        return None
    return _split_sizes(tensor, [min(size, total - start) for start in range(0, total, size)], dim)


def _unbind(tensor: Lazy, dim: int = 0) -> list[Stored] | None:
    parts = [_select(tensor, dim, index) for index in range(tensor.shape[dim])]
    return None if None in parts else parts  # type: ignore[return-value]


def _cat(tensors: Sequence[torch.Tensor], dim: int = 0) -> Stored | None:
    if not all(isinstance(t, Lazy) and isinstance(t.source, Stored) for t in tensors):
        return None
    if len({(t.dtype, t.dim(), t.device) for t in tensors}) != 1:
        return None
    return Stored.joined([t.source for t in tensors], dim % tensors[0].dim())  # type: ignore[attr-defined]


def _stack(tensors: Sequence[torch.Tensor], dim: int = 0) -> Stored | None:
    return _cat([t.unsqueeze(dim) for t in tensors], dim)


_GATHERS: dict[Any, Callable[..., Stored | list[Stored] | None]] = {
    _ops.alias.default: _same,
    _ops.detach.default: _same,
    _ops.clone.default: _same,
    _ops._to_copy.default: _to,
    _ops.view.default: _reshape,
    _ops._unsafe_view.default: _reshape,
    _ops.unsqueeze.default: _unsqueeze,
    _ops.squeeze.dim: _squeeze,
    _ops.permute.default: _permute,
    _ops.transpose.int: _transpose,
    _ops.t.default: lambda tensor: _permute(tensor, range(tensor.dim() - 1, -1, -1)),
    _ops.slice.Tensor: _slice,
    _ops.select.int: _select,
    _ops.split.Tensor: _split,
    _ops.split_with_sizes.default: _split_sizes,
    _ops.unbind.int: _unbind,
    _ops.cat.default: _cat,
    _ops.stack.default: _stack,
}
