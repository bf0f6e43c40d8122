"""Weights that are not on the device raise where they are used, before anything is launched."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable, Sequence

import torch

_SET = "_set_storage_data_ptr_access_error_msg"
_CLEAR = "_clear_storage_data_ptr_access_error_msg"


class Guard:
    """Opens and closes weights. All are closed at first; opening nests.

    Every operator asks a tensor's storage for its address before it launches anything. A closed weight's
    storage answers with an error instead: torch has that for fake tensors. Where torch can take it back again
    (2.11 can't yet) all views are closed with their weight. Elsewhere the weight is given another, closed
    storage meanwhile, and only the weight itself is guarded, not a view that was taken while it was open.
    """

    def __init__(self, tensors: Sequence[torch.Tensor], names: Sequence[str]) -> None:
        self._lock = threading.Lock()
        self._open = [0] * len(tensors)
        gate = _StorageGate if hasattr(torch._C, _CLEAR) else _SwapGate
        self._gates = [gate(tensor, _message(name)) for tensor, name in zip(tensors, names, strict=True)]
        for closed in self._gates:
            closed.close()

    def open(self, indices: Iterable[int]) -> None:
        """These weights are on the device now."""
        with self._lock:
            for index in indices:
                self._open[index] += 1
                if self._open[index] == 1:
                    self._gates[index].open()

    def close(self, indices: Iterable[int]) -> None:
        """They may leave."""
        with self._lock:
            for index in indices:
                self._open[index] -= 1
                if self._open[index] == 0:
                    self._gates[index].close()

    def is_open(self, index: int) -> bool:
        """Whether the weight may be used now."""
        return self._open[index] > 0


def _message(name: str) -> str:
    return (
        f"{name} is streamed and not on the device now: it was used outside of its block's forward. "
        f"Keep it there: resident=[{name!r}] where the model is loaded; or bring it there for a while: "
        "with weightstream.cuda.resident(module)"
    )


class _StorageGate:
    def __init__(self, tensor: torch.Tensor, message: str) -> None:
        self._storage = tensor.untyped_storage()
        self._message = message

    def open(self) -> None:
        torch._C._clear_storage_data_ptr_access_error_msg(self._storage._cdata)

    def close(self) -> None:
        torch._C._set_storage_data_ptr_access_error_msg(self._storage._cdata, self._message)


class _SwapGate:
    def __init__(self, tensor: torch.Tensor, message: str) -> None:
        self._tensor = weakref.ref(tensor)  # weak: no cycle may keep the memory from being released
        self._there = tensor.detach()
        self._absent = tensor.detach()
        torch._C._set_storage_access_error_msg(self._absent, message)

    def open(self) -> None:
        self._give(self._there)

    def close(self) -> None:
        self._give(self._absent)

    def _give(self, data: torch.Tensor) -> None:
        tensor = self._tensor()
        if tensor is not None:
            # No operator of the model: a dispatch mode (the first pass' watch, a user's) shall not see it.
            with torch._C._DisableTorchDispatch():
                tensor.data = data
