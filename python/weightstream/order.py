"""In which order a model uses the tensors of its checkpoint, for `weightstream pack --order`."""

from __future__ import annotations

import bisect
import json
import os
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from weightstream.stored import Index
from weightstream.streamed import streamed_parts


class Order:
    """Notes which module is called when, between start and stop; `with` does both."""

    def __init__(
        self, model: nn.Module, checkpoint: str | os.PathLike[str], path: str | os.PathLike[str]
    ) -> None:
        self._model = model
        self._index = Index.open(checkpoint)
        self._path = path
        places = [(*part, name) for name, stored in self._index.tensors.items() for part in stored.parts]
        self._places = sorted(places)
        self._parts = _parts(model)
        self._used: dict[str, None] = {}
        self._handles: list[RemovableHandle] = []

    def start(self) -> None:
        """Begin to note; what was noted before is kept."""
        for name, module in self._model.named_modules():
            own = [f"{name}.{leaf}" if name else leaf for leaf in (*module._parameters, *module._buffers)]
            if own:
                note = _noting(self._used, own)
                self._handles.append(module.register_forward_pre_hook(note, prepend=True))

    def stop(self) -> None:
        """End, and write the file."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        names = dict.fromkeys(name for used in self._used for name in self._tensors(used))
        with open(self._path, "w", encoding="utf-8") as file:
            json.dump({"tensors": list(names)}, file, indent=1)

    def _tensors(self, name: str) -> Iterator[str]:
        """The checkpoint's tensors of which a parameter consists."""
        if name in self._parts:
            for content, offset, length in self._parts[name]:
                yield from _overlapping(self._places, content, offset, offset + length)
        elif name in self._index.tensors:
            yield name

    def __enter__(self) -> Order:
        """Start."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()


def order(model: nn.Module, checkpoint: str | os.PathLike[str], path: str | os.PathLike[str]) -> Order:
    """The order of use, written to `path`: `with order(model, "model", "order.json"): model(x)`.

    Args:
        model: streamed from `checkpoint` or not; where it is not, its names must be the checkpoint's.
        checkpoint: whose tensors are named.
        path: the JSON file that `weightstream pack --order` takes.

    Without `with`, call its start() and stop(). Tensors that no call of a module tells of are left out; the
    packer puts them last.
    """
    return Order(model, checkpoint, path)


def _noting(used: dict[str, None], names: list[str]) -> Callable[..., None]:
    def note(*_: Any) -> None:
        for name in names:
            used.setdefault(name)

    return note


def _parts(model: nn.Module) -> dict[str, tuple[tuple[int, int, int], ...]]:
    """Where the streamed weights of `model` lie in its checkpoint, by every name that they have."""
    found: dict[str, tuple[tuple[int, int, int], ...]] = {}
    for streamed in streamed_parts(model):
        found.update(streamed.parts)
    return found


def _overlapping(
    places: list[tuple[int, int, int, str]], content: int, start: int, end: int
) -> Iterator[str]:
    first = bisect.bisect_left(places, (content, start))
    while first > 0 and places[first - 1][0] == content and sum(places[first - 1][1:3]) > start:
        first -= 1
    for place, offset, length, name in places[first:]:
        if place != content or offset >= end:
            return
        if offset + length > start:
            yield name
