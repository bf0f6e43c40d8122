"""Tensors that modules hold beside their parameters: buffers and attributes, also in containers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

import torch
from torch import nn

from weightstream.errors import WeightstreamError
from weightstream.lazy import Lazy
from weightstream.parameters import Slot, slots

Replace = Callable[[str, torch.Tensor], torch.Tensor]


def replace_tensors(module: nn.Module, replace: Replace) -> None:
    """Put `replace(name, tensor)` in the place of every such tensor of `module` and its children."""
    for path, owner in module.named_modules():
        replace_own(owner, f"{path}." if path else "", replace)


def replace_own(owner: nn.Module, prefix: str, replace: Replace) -> None:
    """Put `replace(prefix + name, tensor)` in the place of every such tensor that `owner` holds itself."""
    for name, buffer in owner._buffers.items():
        if buffer is not None:
            owner._buffers[name] = replace(prefix + name, buffer)
    for name, value in list(vars(owner).items()):
        if name not in ("_parameters", "_buffers", "_modules"):
            replaced = _replaced(prefix + name, value, replace)
            if replaced is not value:
                vars(owner)[name] = replaced


def _replaced(name: str, value: Any, replace: Replace) -> Any:
    """`value`, or another where something inside it was replaced. Lists and dicts are changed in place."""
    if isinstance(value, nn.Parameter):
        return value
    if isinstance(value, torch.Tensor):
        return replace(name, value)
    if type(value) in (list, dict):
        for key, item in list(enumerate(value) if type(value) is list else value.items()):
            replaced = _replaced(f"{name}[{key!r}]", item, replace)
            if replaced is not item:
                value[key] = replaced
    elif isinstance(value, tuple):
        items = [_replaced(f"{name}[{i}]", item, replace) for i, item in enumerate(value)]
        if any(new is not old for new, old in zip(items, value, strict=True)):
            return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value


def read_lazies(module: nn.Module) -> None:
    """Read what loading left lazy and is not streamed: it is computed with like any other tensor.

    Raises WeightstreamError where a lazy tensor is inside a tensor of another class.
    """

    streamed = {id(slot.tensor) for slot in slots(module)}

    def read(name: str, tensor: torch.Tensor) -> torch.Tensor:
        if isinstance(tensor, Lazy):
            return tensor if id(tensor) in streamed else tensor.read()
        _refuse_inside(name, tensor)
        return tensor

    replace_tensors(module, read)
    for name, tensor in chain(module.named_parameters(), module.named_buffers()):
        _refuse_inside(name, tensor)


def _refuse_inside(name: str, tensor: torch.Tensor) -> None:
    if isinstance(tensor, Lazy) or not hasattr(tensor, "__tensor_flatten__"):
        return
    parts, _ = tensor.__tensor_flatten__()
    for part in parts:
        inner = getattr(tensor, part)
        if isinstance(inner, Lazy):
            raise WeightstreamError(
                f"{name} is a {type(tensor).__name__}, made of weights of the checkpoint; only plain "
                "tensors can be streamed"
            )
        _refuse_inside(f"{name}.{part}", inner)


class Aliases:
    """Tensors of a module that look at the memory of weights, found before these are put elsewhere."""

    def __init__(self, module: nn.Module, slots: Iterable[Slot]) -> None:
        """Raises WeightstreamError where one couldn't look at the streamed weight in the same way."""
        self._module = module
        self._slots: dict[int, list[Slot]] = {}
        self._offsets: dict[int, tuple[Slot, int]] = {}  # by the id of the tensor
        for slot in slots:
            if _can_share(slot.tensor):
                self._slots.setdefault(_memory(slot.tensor), []).append(slot)
        if self._slots:
            replace_tensors(module, self._find)

    @property
    def names(self) -> list[str]:
        """Of the weights that are looked at."""
        return sorted({slot.names[0] for slot, _ in self._offsets.values()})

    def follow(self) -> None:
        """Have them look at the weights where these are now."""
        if self._offsets:
            replace_tensors(self._module, self._followed)

    def _find(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        sharing = self._slots.get(_memory(tensor), []) if _can_share(tensor) and tensor.numel() else []
        if any(slot.tensor is tensor for slot in sharing):
            return tensor
        for slot in sharing:
            offset = int(tensor.storage_offset() - slot.tensor.storage_offset())
            last = sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride(), strict=True))
            inside = offset >= 0 and offset + last < slot.tensor.numel()
            if inside and slot.is_dense and tensor.dtype == slot.tensor.dtype:
                self._offsets[id(tensor)] = (slot, offset)
                return tensor
        if sharing:
            raise WeightstreamError(
                f"{name} shares memory with {sharing[0].names[0]} in a way that a streamed weight can't "
                "follow: give the module a tensor of its own there"
            )
        return tensor

    def _followed(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        if id(tensor) not in self._offsets:
            return tensor
        slot, offset = self._offsets[id(tensor)]
        weight = slot.tensor if tensor.requires_grad and not tensor.is_leaf else slot.tensor.detach()
        return weight.as_strided(tensor.shape, tensor.stride(), weight.storage_offset() + offset)


def _can_share(tensor: torch.Tensor) -> bool:
    # Modules that are built without memory share that of the meta device.
    return type(tensor) in (torch.Tensor, nn.Parameter) and tensor.device.type in ("cpu", "meta")


def _memory(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
