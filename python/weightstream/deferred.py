"""Tensors that some operation makes of stored ones, noted down to be computed when they are wanted."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._pytree import TreeSpec, tree_flatten, tree_leaves, tree_map, tree_unflatten

from weightstream import _native
from weightstream.stored import Stored


@dataclass(frozen=True, eq=False)
class Call:
    """An operation and what it is given: sources where tensors are still in the checkpoint."""

    operation: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Deferred:
    """What a call results in; `output` picks one of several results."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    call: Call
    output: int | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the result."""
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self, contents: _native.Contents) -> torch.Tensor:
        """Compute the tensor, in memory of its own, each call once.

        Raises ReadError where a file can't be read, or is damaged.
        """
        values = _Values(contents)
        for node, uses in _in_order(self):
            values.compute(node, uses)
        return values.of(self).contiguous()


Source = Stored | Deferred


@dataclass(frozen=True)
class View:
    """How a tensor is looked at: an operation whose result shares the tensor's memory."""

    operation: Callable[..., Any]
    args: tuple[Any, ...] = ()  # behind the tensor itself
    kwargs: tuple[tuple[str, Any], ...] = ()
    output: int | None = None

    def __call__(self, tensor: Any) -> Any:
        """The view of `tensor`."""
        result = self.operation(tensor, *self.args, **dict(self.kwargs))
        return result if self.output is None else result[self.output]


@dataclass(frozen=True)
class Write:
    """An operation that writes to views of tensors. It results in these tensors, whole."""

    operation: Callable[..., Any]
    spec: TreeSpec
    # For each leaf that is written to: which leaf, of which tensor, looked at how.
    places: tuple[tuple[int, int, tuple[View, ...]], ...]

    def __call__(self, tensors: Sequence[torch.Tensor], leaves: Sequence[Any]) -> Sequence[torch.Tensor]:
        """Write to `tensors` in place; `leaves` are the operation's other arguments."""
        given = list(leaves)
        for leaf, number, views in self.places:
            given[leaf] = tensors[number]
            for view in views:
                given[leaf] = view(given[leaf])
        args, kwargs = tree_unflatten(given, self.spec)
        self.operation(*args, **kwargs)
        return tensors


_Node = Stored | Call


def _node(source: Source) -> _Node:
    return source if isinstance(source, Stored) else source.call


def _needs(node: _Node) -> list[_Node]:
    if isinstance(node, Stored):
        return []
    return [
        _node(leaf) for leaf in tree_leaves((node.args, node.kwargs)) if isinstance(leaf, Stored | Deferred)
    ]


def _in_order(source: Source) -> list[tuple[_Node, int]]:
    """All that `source` is computed from, each once and behind what it needs, and how often it is needed."""
    order: list[_Node] = []
    seen: set[int] = set()
    uses = Counter([id(_node(source))])
    waiting = [(_node(source), False)]  # not by recursion: thousands of writes may follow each other
    while waiting:
        node, ready = waiting.pop()
        if ready:
            order.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            waiting.append((node, True))
            for needed in _needs(node):
                uses[id(needed)] += 1
                waiting.append((needed, False))
    return [(node, uses[id(node)]) for node in order]


class _Values:
    """What is computed already and still needed."""

    def __init__(self, contents: _native.Contents) -> None:
        self._contents = contents
        self._values: dict[int, Any] = {}
        self._uses: dict[int, int] = {}
        self._owned: set[int] = set()  # those whose memory is no other value's

    def compute(self, node: _Node, uses: int) -> None:
        self._uses[id(node)] = uses
        if isinstance(node, Stored):
            self._values[id(node)] = node.read(self._contents)
            self._owned.add(id(node))
        elif isinstance(node.operation, Write):
            tensors = [self._to_write(source) for source in node.args[0]]
            self._values[id(node)] = node.operation(tensors, tree_map(self._value, node.args[1]))
            self._owned.add(id(node))
        else:
            args, kwargs = tree_map(self._value, node.args), tree_map(self._value, node.kwargs)
            self._values[id(node)] = node.operation(*args, **kwargs)

    def of(self, source: Source) -> torch.Tensor:
        """The value of `source`, which is let go with its last use."""
        node = id(_node(source))
        self._uses[node] -= 1
        value = self._values[node] if self._uses[node] else self._values.pop(node)
        result: torch.Tensor = value
        if isinstance(source, Deferred) and source.output is not None:
            result = value[source.output]
        return result

    def _value(self, leaf: Any) -> Any:
        return self.of(leaf) if isinstance(leaf, Stored | Deferred) else leaf

    def _to_write(self, source: Any) -> torch.Tensor:
        value: torch.Tensor = self._value(source)
        node = id(_node(source)) if isinstance(source, Stored | Deferred) else None
        return value if node in self._owned and not self._uses[node] else value.clone()


def fingerprint(source: Source) -> bytes:
    """The same for sources that are computed from the same parts in the same way."""
    digests: dict[int, bytes] = {}

    def of(leaf: Any) -> bytes:
        if isinstance(leaf, Stored | Deferred):
            output = getattr(leaf, "output", None)
            return digests[id(_node(leaf))] + repr((leaf.dtype, leaf.shape, output)).encode()
        if isinstance(leaf, torch.Tensor):
            values = leaf.detach().contiguous().view(-1).view(torch.uint8).numpy()
            return repr((leaf.dtype, tuple(leaf.shape))).encode() + values.tobytes()
        return repr(leaf).encode()

    for node, _ in _in_order(source):
        digest = hashlib.sha256()
        if isinstance(node, Stored):
            digest.update(repr(node).encode())
        else:
            leaves, spec = tree_flatten((node.args, node.kwargs))
            digest.update(repr((node.operation, spec)).encode())
            for leaf in leaves:
                digest.update(hashlib.sha256(of(leaf)).digest())
        digests[id(node)] = digest.digest()
    return hashlib.sha256(of(source)).digest()
