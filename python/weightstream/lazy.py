"""Tensors that libraries may rename, stack, split, cast and write to before any byte of them is read.

Libraries convert checkpoints while they load them, with code of their own per architecture. Given lazy
tensors that code runs unchanged: what merely gathers bytes stays a gather (`Stored`), anything else is noted
down (`Deferred`) to be computed once, tensor by tensor. Sources never change; a lazy tensor that is written
to gets another one, and so do those that look at the same memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch.utils._pytree import tree_any, tree_flatten, tree_map, tree_map_only

from weightstream import _native
from weightstream.deferred import Call, Deferred, Source, View, Write
from weightstream.errors import WeightstreamError
from weightstream.gather import GATHERS, cast
from weightstream.stored import Stored

_ops = torch.ops.aten

# What these make of a tensor depends on none of its values.
_LIKE = {
    _ops.empty_like, _ops.zeros_like, _ops.ones_like, _ops.full_like, _ops.rand_like, _ops.randn_like,
    _ops.randint_like, _ops.new_empty, _ops.new_empty_strided, _ops.new_zeros, _ops.new_ones, _ops.new_full,
}  # fmt: skip
# These leave none of a tensor's values.
_FILLS = {
    _ops.normal_, _ops.uniform_, _ops.random_, _ops.exponential_, _ops.geometric_, _ops.log_normal_,
    _ops.cauchy_,
}  # fmt: skip
_SAME = {_ops.alias.default, _ops.detach.default}


class Holder(Protocol):
    """Where the values of lazy tensors lie."""

    @property
    def contents(self) -> _native.Contents:
        """What the parts of sources lie in."""

    @property
    def over(self) -> bool:
        """Whether the model is loaded."""


class Lazy(torch.Tensor):
    """A CPU tensor by shape, dtype and strides, whose values are still in the checkpoint."""

    holder: Holder
    _source: Source
    _parent: Lazy | None  # whose memory this is
    _as: View
    _writes: int  # to the memory, that `_source` knows of

    # Results are what __torch_dispatch__ makes of them, also where they are no lazy tensors.
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, source: Source, holder: Holder, strides: Sequence[int] | None = None) -> Lazy:
        """Stand for `source`, whose parts lie in the contents of `holder`."""
        made: Lazy = torch.Tensor._make_wrapper_subclass(
            cls, source.shape, strides=strides, dtype=source.dtype, device=torch.device("cpu")
        )
        made.holder, made._source, made._parent, made._writes = holder, source, None, 0
        return made

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"Lazy({self.dtype}, {tuple(self.shape)})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Lazy:
        copy = Lazy(self.source, self.holder, self.stride())
        copy.requires_grad_(self.requires_grad)
        copy.__dict__.update(
            {name: value for name, value in self.__dict__.items() if name not in copy.__dict__}
        )
        memo[id(self)] = copy
        return copy

    @property
    def source(self) -> Source:
        """What the values are at this moment."""
        if self._parent is not None and self._writes != (written := self._parent._written()):
            self._source, self._writes = _viewed(self._parent, self._as), written
        return self._source

    def read(self) -> torch.Tensor:
        """The tensor itself, in memory of its own, contiguous."""
        return self.source.read(self.holder.contents)

    def _written(self) -> int:
        """How often this memory was written to."""
        return self._writes if self._parent is None else self._parent._written()

    def _root(self) -> tuple[Lazy, tuple[View, ...]]:
        """Whose memory this is at last, and how it is looked at."""
        if self._parent is None:
            return self, ()
        root, views = self._parent._root()
        return root, (*views, self._as)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Gather where `func` only moves whole ranges of bytes, defer it otherwise."""
        kwargs = kwargs or {}
        holder = _holder_of((args, kwargs))
        if holder.over:
            raise WeightstreamError(
                f"{func}: this tensor was made of weights while the model was loaded, and kept where "
                "weightstream can't put the weights themselves: load this model with from_pretrained"
            )
        if func is _ops.equal.default:
            return _equal(*args)
        if func._schema.is_mutable:
            return _write(func, args, kwargs)
        if func.overloadpacket in _LIKE:
            return _like(func, args, kwargs)
        if torch.Tag.nondeterministic_seeded in func.tags:
            return _now(func, args, kwargs)
        try:
            shapes = func(*tree_map(_on_meta, args), **tree_map(_on_meta, kwargs))
        except (RuntimeError, NotImplementedError):
            return _now(func, args, kwargs)  # the shape depends on values, or `func` raises what it raises
        if tree_any(lambda leaf: not isinstance(leaf, torch.Tensor), shapes):
            return _now(func, args, kwargs)
        return _made(func, args, kwargs, shapes, holder)


def cast_to(stored: Stored, dtype: torch.dtype, holder: Holder) -> Source:
    """`stored` as `dtype`: itself where that is its dtype."""
    return Lazy(stored, holder).to(dtype).source  # type: ignore[attr-defined, no-any-return]


def _holder_of(tree: Any) -> Holder:
    found: list[Lazy] = []
    tree_map_only(Lazy, found.append, tree)
    return found[0].holder


def _on_meta(leaf: Any) -> Any:
    if isinstance(leaf, torch.Tensor):
        return torch.empty_strided(leaf.shape, leaf.stride(), dtype=leaf.dtype, device="meta")
    return torch.device("meta") if isinstance(leaf, torch.device) else leaf


def _source_of(leaf: Any) -> Any:
    return leaf.source if isinstance(leaf, Lazy) else leaf


def _read(leaf: Any) -> Any:
    return leaf.read() if isinstance(leaf, Lazy) else leaf


def _now(func: Any, args: Any, kwargs: Any) -> Any:
    """The result itself: it is no tensor, or it has to be known at once."""
    return func(*tree_map(_read, args), **tree_map(_read, kwargs))


def _like(func: Any, args: Any, kwargs: Any) -> Any:
    device = kwargs.get("device") or torch.device("cpu")
    return func(*tree_map_only(Lazy, _on_meta, args), **{**kwargs, "device": device})


def _made(func: Any, args: Any, kwargs: Any, shapes: Any, holder: Holder) -> Any:
    first = func._schema.arguments[0].alias_info
    looks = first is not None and isinstance(args[0], Lazy)
    if func is _ops.as_strided.default and not args[0].is_contiguous():
        raise TypeError(f"{func} of a weight that is still in the checkpoint and not contiguous")
    sources = _sources(func, tree_map(_source_of, args), tree_map(_source_of, kwargs), shapes, holder)
    several = isinstance(shapes, list | tuple)
    made = []
    for output, (source, shape) in enumerate(zip(sources, shapes if several else [shapes], strict=True)):
        lazy = Lazy(source, holder, shape.stride())
        if looks:
            lazy._parent, lazy._writes = args[0], args[0]._written()
            lazy._as = View(func, tuple(args[1:]), tuple(kwargs.items()), output if several else None)
        made.append(lazy)
    return made if several else made[0]


def _sources(func: Any, args: Any, kwargs: Any, shapes: Any, holder: Holder) -> Sequence[Source]:
    """What `func` makes of sources; `shapes` are its results without values."""
    # What is stored is contiguous already; what is computed may have other steps than its copy.
    if func in _SAME or (func is _ops.clone.default and isinstance(args[0], Stored)):
        return [args[0]]
    if func is _ops._to_copy.default and isinstance(args[0], Stored):
        gathered: Any = cast(args[0], shapes.dtype, holder.contents)
    else:
        gather = GATHERS.get(func)
        fits = gather is not None and (isinstance(args[0], Stored | list | tuple))
        gathered = gather(*args, **kwargs) if gather is not None and fits else None
    if gathered is not None:
        return gathered if isinstance(gathered, list) else [gathered]
    call = Call(func, args, kwargs)
    if isinstance(shapes, torch.Tensor):
        return [Deferred(shapes.dtype, tuple(shapes.shape), call)]
    return [Deferred(shape.dtype, tuple(shape.shape), call, i) for i, shape in enumerate(shapes)]


def _viewed(base: Lazy, view: View) -> Source:
    shapes = view.operation(_on_meta(base), *view.args, **dict(view.kwargs))
    sources = _sources(view.operation, (base.source, *view.args), dict(view.kwargs), shapes, base.holder)
    return sources[view.output or 0]


def _write(func: Any, args: Any, kwargs: Any) -> Any:
    """Note down that `func` writes to lazy tensors; to others, what is written has to be known at once."""
    arguments = func._schema.arguments
    named = dict(zip([argument.name for argument in arguments], args, strict=False)) | kwargs
    written = [
        named[argument.name]
        for argument in arguments
        if argument.alias_info is not None and argument.alias_info.is_write and argument.name in named
    ]
    if torch.Tag.inplace_view in func.tags:
        raise TypeError(f"{func} would change the shape of a weight that is still in the checkpoint")
    targets, _ = tree_flatten(written)
    if not any(isinstance(target, Lazy) for target in targets):
        return _now(func, args, kwargs)
    if not all(isinstance(target, Lazy) for target in targets):
        raise TypeError(f"{func} would write to weights that are still in the checkpoint and others at once")
    if torch.Tag.nondeterministic_seeded in func.tags:
        # Random numbers are drawn when the library draws them.
        (target,) = targets
        drawn = (
            _like(_ops.empty_like.default, (target,), {}) if func.overloadpacket in _FILLS else target.read()
        )
        rest = [drawn if arg is target else arg for arg in args]
        func(*rest, **{name: drawn if value is target else value for name, value in kwargs.items()})
        _note(_ops.copy_.default, (target, drawn), {}, targets)
    else:
        _note(func, args, kwargs, targets)
    if not func._schema.returns:
        return None
    return written[0] if len(written) == 1 else tuple(written)


def _note(func: Any, args: Any, kwargs: Any, targets: Sequence[Lazy]) -> None:
    leaves, spec = tree_flatten((args, kwargs))
    roots: list[Lazy] = []
    places = []
    positions = {id(target): [i for i, leaf in enumerate(leaves) if leaf is target] for target in targets}
    for target in targets:
        root, views = target._root()
        number = next((i for i, known in enumerate(roots) if known is root), len(roots))
        if number == len(roots):
            roots.append(root)
        places += [(position, number, views) for position in positions[id(target)]]
    writes = {position for position, _, _ in places}
    others = [None if i in writes else _source_of(leaf) for i, leaf in enumerate(leaves)]
    call = Call(Write(func, spec, tuple(places)), ([root.source for root in roots], others), {})
    for number, root in enumerate(roots):
        root._source = Deferred(root.dtype, tuple(root.shape), call, number)
        root._writes += 1


def _equal(left: torch.Tensor, right: torch.Tensor) -> bool:
    if isinstance(left, Lazy) and isinstance(right, Lazy) and left.shape == right.shape:
        one, other = left.source, right.source
        if one is other or (isinstance(one, Stored) and isinstance(other, Stored) and one == other):
            return True
    return torch.equal(_read(left), _read(right))
