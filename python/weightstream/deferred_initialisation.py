"""Large tensors that a constructor makes are filled when something reads them, not when they are made.

Memory costs nothing before it is touched. So what would fill a tensor (`zeros`, `uniform_`, a copy of one)
is noted down for its storage, and done to a copy that lives for one operator whenever it is read. Shapes,
dtypes, devices, views and identity are those of real tensors, because these are real tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only
from torch.utils.weak import WeakIdKeyDictionary

# Bytes of a tensor; smaller ones are filled at once.
_LARGE = 64 * 2**10

_ops = torch.ops.aten
_EMPTY = {_ops.empty, _ops.empty_strided, _ops.empty_like, _ops.new_empty, _ops.new_empty_strided}
_FILLED = {
    _ops.zeros, _ops.zeros_like, _ops.new_zeros, _ops.ones, _ops.ones_like, _ops.new_ones,
    _ops.full, _ops.full_like, _ops.new_full, _ops.eye,
    _ops.rand, _ops.rand_like, _ops.randn, _ops.randn_like,
}  # fmt: skip
_COPIES = {_ops.clone, _ops._to_copy}
# These give a tensor other memory rather than other values.
_REBINDING = {_ops.set_, _ops.resize_, _ops.resize_as_}
# These read or hand out a tensor's memory past all operators.
_DIRECT = {
    torch.Tensor.numpy, torch.Tensor.__array__, torch.Tensor.tolist, torch.Tensor.data_ptr,
    torch.Tensor.untyped_storage, torch.Tensor.storage, torch.Tensor.__dlpack__, torch.Tensor.__reduce_ex__,
}  # fmt: skip


@dataclass(frozen=True)
class _Place:
    """Where a tensor lies in a storage that has seen so many writes."""

    storage: torch.UntypedStorage
    writes: int
    dtype: torch.dtype
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int

    def tensor(self, storage: torch.UntypedStorage) -> torch.Tensor:
        """The tensor at this place of `storage`."""
        return torch.empty(0, dtype=self.dtype).set_(storage, self.offset, self.size, self.stride)


class DeferredInitialisation(TorchDispatchMode):
    """While it is entered, tensors of 64 KiB and more on the CPU are filled on demand.

    A tensor reads the same each time. Its random numbers are not those that the global generator would have
    given. Concerns only the thread that entered it.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        # Of each storage that waits: the writes (function, args, kwargs) in order, the seed of random ones.
        self._writes: MutableMapping[torch.UntypedStorage, list[tuple[Any, Any, Any]]] = WeakIdKeyDictionary()
        self._seeds: MutableMapping[torch.UntypedStorage, int] = WeakIdKeyDictionary()
        # Storages that writes to others copy from, by their id.
        self._copied_from: set[int] = set()
        self._last_seed = torch.initial_seed()
        self._direct_reads = _DirectReads(self.fill)

    def __enter__(self) -> DeferredInitialisation:
        super().__enter__()  # type: ignore[no-untyped-call]
        self._direct_reads.__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *exception: Any) -> None:
        self._direct_reads.__exit__(*exception)  # type: ignore[no-untyped-call]
        super().__exit__(*exception)  # type: ignore[no-untyped-call]

    def fill(self, tensor: torch.Tensor) -> None:
        """Fill the storage of `tensor` for good, if that has not happened."""
        storage = self._waiting(tensor)
        if storage is not None:
            self._fill(storage)

    def fill_all_but(self, tensors: Iterable[torch.Tensor]) -> None:
        """Fill every storage for good but those of `tensors`."""
        left = {id(tensor.untyped_storage()) for tensor in tensors}
        for storage in list(self._writes):
            if id(storage) not in left:
                self._fill(storage)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run `func`; or note it down where all it does is fill a tensor."""
        kwargs = kwargs or {}
        kind, writes = func.overloadpacket, func._schema.is_mutable
        with torch._C.DisableTorchFunction():
            waits = any(self._waiting(leaf) is not None for leaf in tree_leaves((args, kwargs)))
            makes = not writes and (kind in _EMPTY or kind in _FILLED or (kind in _COPIES and waits))
            if makes and (made := self._make(func, args, kwargs)) is not None:
                return made
            if not waits or func.is_view:
                return func(*args, **kwargs)
            if not writes:
                return self._compute(func, args, kwargs)
            if self._only_fills_first(func, args):
                self._note(args[0], func, args, kwargs)
                return args[0]
            for leaf in tree_leaves((args, kwargs)):
                self.fill(leaf)
            return func(*args, **kwargs)

    def _make(self, func: Any, args: Any, kwargs: Any) -> torch.Tensor | None:
        """The result of `func` with its values left for later; None where it is small or not on the CPU."""
        like = next((leaf for leaf in tree_leaves(args) if isinstance(leaf, torch.Tensor)), None)
        device = kwargs.get("device") or (like.device if like is not None else "cpu")
        if torch.device(device).type != "cpu":
            return None
        kind = func.overloadpacket
        on = (lambda place: kwargs) if kind is _ops.clone else (lambda place: {**kwargs, "device": place})
        without_memory = tree_map_only(torch.Tensor, lambda tensor: tensor.to("meta"), args)
        shape = func(*without_memory, **on("meta"))
        if shape.nbytes < _LARGE or shape.layout != torch.strided:
            return None
        made = torch.empty_strided(shape.size(), shape.stride(), dtype=shape.dtype)
        storage = made.untyped_storage()
        self._last_seed += 1
        self._writes[storage], self._seeds[storage] = [], self._last_seed
        if kind in _COPIES:
            self._note(made, torch.Tensor.copy_, (made, args[0]), {})
        elif kind in _FILLED:
            self._note(made, lambda to, *given: to.copy_(func(*given, **on("cpu"))), (made, *args), {})
        return made

    def _note(self, target: torch.Tensor, func: Callable[..., Any], args: Any, kwargs: Any) -> None:
        # What is written from may be written to itself before this write happens.
        write = tree_map_only(
            torch.Tensor, lambda leaf: self._placed(leaf, torch.clone), (func, args, kwargs)
        )
        storage = target.untyped_storage()
        self._writes[storage].append(write)
        places = (leaf for leaf in tree_leaves(write) if isinstance(leaf, _Place))
        self._copied_from.update(id(place.storage) for place in places if place.storage is not storage)

    def _compute(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Run `func` on copies of what its arguments will be; they are gone afterwards."""
        placed = tree_map_only(
            torch.Tensor, lambda leaf: self._placed(leaf, lambda real: real), (args, kwargs)
        )
        args, kwargs = self._filled(placed, {})
        return func(*args, **kwargs)

    def _placed(self, tensor: torch.Tensor, otherwise: Callable[[torch.Tensor], torch.Tensor]) -> Any:
        """Where `tensor` lies if it waits, else `otherwise(tensor)`."""
        storage = self._waiting(tensor)
        if storage is None:
            return otherwise(tensor)
        writes = len(self._writes[storage])
        offset = int(tensor.storage_offset())
        return _Place(storage, writes, tensor.dtype, tensor.size(), tensor.stride(), offset)

    def _filled(self, placed: Any, storages: dict[int, torch.UntypedStorage]) -> Any:
        """`placed` with tensors in its places: of `storages`, or of filled copies, which are added."""

        def tensor(leaf: Any) -> Any:
            if not isinstance(leaf, _Place):
                return leaf
            if id(leaf.storage) not in storages:
                storages[id(leaf.storage)] = self._copy(leaf.storage, leaf.writes)
            return leaf.tensor(storages[id(leaf.storage)])

        return tree_map(tensor, placed)

    def _copy(self, storage: torch.UntypedStorage, writes: int) -> torch.UntypedStorage:
        copy = torch.empty(storage.nbytes(), dtype=torch.uint8).untyped_storage()
        self._write(storage, copy, writes)
        return copy

    def _fill(self, storage: torch.UntypedStorage) -> None:
        if id(storage) in self._copied_from:
            # What will be copied from it is what it was then, not what it becomes.
            for other, writes in self._writes.items():
                if other is not storage:
                    writes[:] = [self._independent_of(storage, write) for write in writes]
        self._write(storage, storage, len(self._writes[storage]))
        del self._writes[storage]

    def _independent_of(self, storage: torch.UntypedStorage, write: Any) -> Any:
        def value(leaf: Any) -> Any:
            return self._filled(leaf, {}) if isinstance(leaf, _Place) and leaf.storage is storage else leaf

        return tree_map(value, write)

    def _write(self, storage: torch.UntypedStorage, to: torch.UntypedStorage, writes: int) -> None:
        """Do the first `writes` of those that `storage` waits for, to the storage `to`."""
        with _disable_current_modes(), torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seeds[storage])
            for func, args, kwargs in self._writes[storage][:writes]:
                args, kwargs = self._filled((args, kwargs), {id(storage): to})
                func(*args, **kwargs)

    def _only_fills_first(self, func: Any, args: Any) -> bool:
        arguments = func._schema.arguments
        written = [a for a, argument in enumerate(arguments) if argument.is_write]
        known = written == [0] and func.overloadpacket not in _REBINDING and len(func._schema.returns) == 1
        return known and self._waiting(args[0]) is not None

    def _waiting(self, leaf: Any) -> torch.UntypedStorage | None:
        """The storage of the tensor `leaf` where it waits for writes."""
        if not isinstance(leaf, torch.Tensor) or leaf.device.type != "cpu" or leaf.layout != torch.strided:
            return None
        try:
            storage = leaf.untyped_storage()
        except NotImplementedError:  # a tensor made of other tensors
            return None
        return storage if storage in self._writes else None


class _DirectReads(TorchFunctionMode):
    """Fills what is read past all operators."""

    def __init__(self, fill: Callable[[torch.Tensor], None]) -> None:
        super().__init__()
        self._fill = fill

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _DIRECT:
            self._fill(args[0])
        return func(*args, **(kwargs or {}))
