"""A model whose blocks are spread over several devices, each with weights and a budget of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from weightstream import _native
from weightstream.cuda.device import Device
from weightstream.cuda.weights import DeviceWeights
from weightstream.parameters import Slot
from weightstream.protection import refuse_pickle


class Homes:
    """Which device each module and each weight belongs to: the number of its budget.

    Modules are taken in their order. A device's share of the weights is as large as its share of the memory,
    and no block is divided. What is outside of blocks goes with the block before it, a tied weight with its
    first owner.
    """

    def __init__(
        self,
        module: nn.Module,
        blocks: Sequence[nn.Module],
        slots: Sequence[tuple[Slot, int]],
        budgets: Sequence[int],
    ) -> None:
        """`slots` with the bytes of each; `budgets` in bytes."""
        self._modules: dict[nn.Module, int] = {}
        self._slots: dict[int, int] = {}
        owned: dict[nn.Module, list[tuple[Slot, int]]] = {}
        for slot, nbytes in slots:
            for owner, _ in slot.owners:
                owned.setdefault(owner, []).append((slot, nbytes))
        total = sum(nbytes for _, nbytes in slots)
        placed, here, until = 0, 0, total * budgets[0] / sum(budgets)
        divided = set(blocks)
        for child in module.modules():
            if child in self._modules:
                continue
            inside = list(child.modules()) if child in divided else [child]
            weights = {id(slot): (slot, nbytes) for each in inside for slot, nbytes in owned.get(each, [])}
            tied = [self._slots[number] for number in weights if number in self._slots]
            coming = sum(nbytes for number, (_, nbytes) in weights.items() if number not in self._slots)
            # On to the next device where most of the block would be beyond this one's share.
            while here + 1 < len(budgets) and placed + coming / 2 > until:
                here += 1
                until += total * budgets[here] / sum(budgets)
            home = min(tied, default=here)
            placed += coming
            self._modules.update(dict.fromkeys(inside, home))
            for number in weights:
                self._slots.setdefault(number, home)

    def of_module(self, module: nn.Module) -> int:
        """Where the module computes."""
        return self._modules[module]

    def of_slot(self, slot: Slot) -> int:
        """Where the weight lies."""
        return self._slots.get(id(slot), self._modules[slot.owners[0][0]])


class SplitWeights:
    """The weights of all devices. It stands where a model on one device has its `DeviceWeights`."""

    def __init__(self, parts: Sequence[DeviceWeights]) -> None:
        self.parts = parts

    def begin(self, block: int) -> None:
        """A pass begins, on every device; of their blocks the parts are told themselves."""
        for part in self.parts:
            part.begin(block)

    def end(self, block: int) -> None:
        """The pass ends."""
        for part in self.parts:
            part.end(block)

    def keep_used(self, tensors: Sequence[torch.Tensor]) -> None:
        """As `DeviceWeights.keep_used`."""
        for part in self.parts:
            part.keep_used(tensors)

    def addresses(self) -> list[int]:
        """Where each weight lies."""
        return [address for part in self.parts for address in part.addresses()]

    def stats(self) -> dict[str, Any]:
        """What all devices have together, as each counter is declared; of rates the largest."""
        counted = [part.stats() for part in self.parts]
        return {name: _together(name, [counters[name] for counters in counted]) for name in counted[0]}

    def events(self, record: bool) -> list[tuple[str, int, int, int, int]]:
        """Record from now on or not; takes what there is."""
        return [event for part in self.parts for event in part.events(record)]

    def close(self) -> None:
        """Give host and device memory back."""
        for part in self.parts:
            part.close()

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return all(part.closed for part in self.parts)

    def __deepcopy__(self, memo: dict[int, Any]) -> SplitWeights:
        return self  # a copy of the module shares the streams

    __reduce_ex__ = staticmethod(refuse_pickle)


def resize_parts(parts: Sequence[DeviceWeights], memory: Mapping[Device, int]) -> None:
    """Change the budgets of some devices.

    Raises BudgetError where one is too small: those before it are changed by then. ValueError for a device
    that holds no part of the model.
    """
    by_device = {part.device: part for part in parts}
    if unknown := [str(device.tensors) for device in memory if device not in by_device]:
        raise ValueError(f"memory: no part of the model is on {', '.join(unknown)}")
    for device, nbytes in memory.items():
        by_device[device].resize(nbytes)


# Rates have no sum either: parts may read from one disk.
_LARGEST = {"read_rate", *(name for name, _, together, _ in _native.statistics() if together == "largest")}


def _together(name: str, values: Sequence[Any]) -> Any:
    if isinstance(values[0], str):
        return values[0]
    return max(values) if name in _LARGEST else sum(values)


def install_movers(
    module: nn.Module, blocks: Sequence[nn.Module], homes: Homes, devices: Sequence[torch.device]
) -> list[RemovableHandle]:
    """Have what comes into a block, or another module with tensors of its own, moved to its device.

    What the whole module returns is moved to where its inputs were.
    """
    inside = {child for block in blocks for child in block.modules()}
    handles: list[RemovableHandle] = []
    for child in module.modules():
        own = [*child.parameters(recurse=False), *child.buffers(recurse=False)]
        if child in blocks or (own and child not in inside):
            mover = _Mover(devices[homes.of_module(child)])
            handles.append(child.register_forward_pre_hook(mover, prepend=True, with_kwargs=True))
    handles.append(module.register_forward_hook(_Returner(), with_kwargs=True))
    return handles


class _Mover:
    """Before a module's forward."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def __call__(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        return moved(args, self._device), moved(kwargs, self._device)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Mover:
        return self


class _Returner:
    """After the whole module's forward."""

    def __call__(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        device = _device_of([args, kwargs])
        return output if device is None else moved(output, device)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Returner:
        return self


def moved(value: Any, device: torch.device) -> Any:
    """`value` with the tensors in it, and in its tuples, lists and dictionaries, on `device`.

    Other objects (a cache whose layers are where they were made) are left alone.
    """
    if isinstance(value, torch.Tensor):
        return value if value.device == device else value.to(device, non_blocking=True)
    if isinstance(value, tuple | list):
        inside = [moved(item, device) for item in value]
        return type(value)(*inside) if hasattr(value, "_fields") else type(value)(inside)
    if isinstance(value, dict):
        return type(value)({name: moved(item, device) for name, item in value.items()})
    return value


def _device_of(value: Any) -> torch.device | None:
    """Where the first tensor in `value` is."""
    if isinstance(value, torch.Tensor):
        return value.device
    items = value.values() if isinstance(value, dict) else value if isinstance(value, tuple | list) else ()
    return next((device for item in items if (device := _device_of(item)) is not None), None)
