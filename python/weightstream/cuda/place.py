"""How a module's weights come to lie on a device."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import torch
from torch import nn
from torch.utils import dlpack

from weightstream import _native
from weightstream.blocks import find_blocks
from weightstream.cuda.device import Device
from weightstream.cuda.hooks import install_hooks
from weightstream.cuda.weights import DeviceWeights
from weightstream.lazy import Source
from weightstream.parameters import Slot, is_small_buffer, refuse_meta, settle
from weightstream.protection import protect_module, protect_tensor
from weightstream.stored import Stored
from weightstream.streamed import Streamed, attach


def start(
    module: nn.Module,
    contents: _native.Contents,
    pairs: Sequence[tuple[Slot, Source]],
    device: Device,
    memory: int,
    host_memory: int,
    resident: Sequence[str] = (),
) -> nn.Module:
    """Stream the weights of `module` to `device`, and move all else of it there.

    Args:
        module: on the CPU, its weights not loaded.
        contents: what the parts of the pairs' sources lie in.
        pairs: each weight and its source.
        device: where to.
        memory: bytes of device memory for weights.
        host_memory: bytes of pinned host memory at most.
        resident: names of weights that stay on the device and may be used anywhere.

    Raises:
        BudgetError: `memory` or `host_memory` is too small, or the device has less; `module` is unchanged.
        ValueError: a name in `resident` that no streamed weight has.
    """
    settled, contents, side = settle(pairs, contents)
    streamed = [(slot, stored) for slot, stored in settled if _is_streamed(slot, stored)]
    named = find_blocks(module)
    members = _members([slot for slot, _ in streamed], list(named.values()), resident)
    parameters = [
        _native.Parameter(slot.names[0], list(stored.parts), stored.dtype.itemsize, 0)
        for slot, stored in streamed
    ]
    native = _native.DeviceStream(contents, parameters, members, device.native, memory, host_memory)
    if side is not None:
        weakref.finalize(native, side.close)
    weights = DeviceWeights(native, device, members)

    for slot, stored in settled:
        if not stored.nbytes:
            slot.put(torch.empty(stored.shape, dtype=stored.dtype, device=device.tensors))
        elif not _is_streamed(slot, stored):
            slot.put(stored.read(contents).to(device.tensors, slot.tensor.dtype))
    for index, (slot, stored) in enumerate(streamed):
        slot.put(dlpack.from_dlpack(native.dlpack(index)).view(stored.dtype).view(stored.shape))
        protect_tensor(slot.tensor, weights)
    refuse_meta(module)
    _move_the_rest(module, {id(slot.tensor) for slot, _ in streamed}, device.tensors)
    tensors = [slot.tensor for slot, _ in streamed]
    protect_module(module, tensors)
    weights.attach(tensors, [slot.names[0] for slot, _ in streamed])
    carried = Streamed(weights, [type(module).__name__, *named])
    carried.handles = install_hooks(module, list(named.values()), weights, carried)
    attach(module, carried)
    return module


def _is_streamed(slot: Slot, stored: Stored) -> bool:
    return bool(stored.nbytes) and not is_small_buffer(slot, stored)


def _members(slots: Sequence[Slot], blocks: Sequence[nn.Module], resident: Sequence[str]) -> list[list[int]]:
    """The weights of each block, by index; a tied one may be in several. Those that stay are in none."""
    if unknown := set(resident).difference(name for slot in slots for name in slot.names):
        raise ValueError(f"resident: the model streams no weight named {', '.join(sorted(unknown))}")
    members = []
    for block in blocks:
        inside = set(block.modules())
        members.append(
            [
                index
                for index, slot in enumerate(slots)
                if any(owner in inside for owner, _ in slot.owners) and not set(slot.names) & set(resident)
            ]
        )
    return members


def _move_the_rest(module: nn.Module, streamed: set[int], device: torch.device) -> None:
    """Move parameters and buffers that are not streamed, tied ones as one."""
    moved: dict[int, torch.Tensor] = {}
    for owner in module.modules():
        for parameter in owner._parameters.values():
            if parameter is not None and id(parameter) not in streamed:
                parameter.data = parameter.data.to(device)
        for name, buffer in owner._buffers.items():
            if buffer is not None and id(buffer) not in streamed:
                owner._buffers[name] = moved.setdefault(id(buffer), buffer.to(device))
