"""How a module's weights come to lie on devices."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils import dlpack

from weightstream import _native
from weightstream.blocks import find_blocks
from weightstream.cuda.device import Device
from weightstream.cuda.hooks import install_hooks
from weightstream.cuda.split import Homes, SplitWeights, install_movers
from weightstream.cuda.weights import DeviceWeights
from weightstream.deferred import Source
from weightstream.freezing import Freezing
from weightstream.parameters import Slot, is_small_buffer, refuse_meta, settle
from weightstream.protection import protect_module, protect_tensor
from weightstream.side_files import SideFile
from weightstream.stored import Stored
from weightstream.streamed import Streamed, attach


def start(
    module: nn.Module,
    contents: _native.Contents,
    pairs: Sequence[tuple[Slot, Source]],
    memory: Mapping[Device, int],
    host_memory: int,
    resident: Sequence[str] = (),
) -> nn.Module:
    """Stream the weights of `module` to one device or several, and move all else of it there.

    Args:
        module: on the CPU, its weights not loaded.
        contents: what the parts of the pairs' sources lie in.
        pairs: each weight and its source.
        memory: bytes of memory for weights on each device; over several, blocks are spread in their order,
            each device getting a share of the bytes as large as its share of the memory.
        host_memory: bytes of pinned host memory at most, for all devices.
        resident: names of weights that stay on their device and may be used anywhere.

    Raises:
        BudgetError: `memory` or `host_memory` is too small, or a device has less; `module` is unchanged.
        ValueError: a name in `resident` that no streamed weight has.
    """
    settled, contents, side = settle(pairs, contents)
    streamed = [(slot, stored) for slot, stored in settled if _is_streamed(slot, stored)]
    slots = [slot for slot, _ in streamed]
    _refuse_unknown(slots, resident)
    named = find_blocks(module)
    blocks = list(named.values())
    devices = list(memory)
    homes = Homes(module, blocks, [(slot, stored.nbytes) for slot, stored in streamed], list(memory.values()))
    total = max(1, sum(stored.nbytes for _, stored in streamed))
    parts: dict[int, DeviceWeights] = {}
    for number, device in enumerate(devices):
        here = [pair for pair in streamed if homes.of_slot(pair[0]) == number]
        if not here and len(devices) > 1:
            continue
        members = _members([slot for slot, _ in here], blocks, resident)
        parameters = [
            _native.Parameter(slot.names[0], list(stored.parts), stored.dtype.itemsize, 0)
            for slot, stored in here
        ]
        share = host_memory * sum(stored.nbytes for _, stored in here) // total if here else host_memory
        native = _native.DeviceStream(contents, parameters, members, device.native, memory[device], share)
        parts[number] = DeviceWeights(native, device, members)

    if side is not None:
        _close_after(side, [part.native for part in parts.values()])

    for slot, stored in settled:
        device = devices[homes.of_slot(slot)]
        if not stored.nbytes:
            slot.put(torch.empty(stored.shape, dtype=stored.dtype, device=device.tensors))
        elif not _is_streamed(slot, stored):
            slot.put(stored.read(contents).to(device.tensors, slot.tensor.dtype))
    freezing = Freezing()
    for number, weights in parts.items():
        here = [pair for pair in streamed if homes.of_slot(pair[0]) == number]
        for index, (slot, stored) in enumerate(here):
            capsule = weights.native.dlpack(index)
            slot.put(dlpack.from_dlpack(capsule).view(stored.dtype).view(stored.shape))
            protect_tensor(slot.tensor, weights, slot.names[0], freezing)
    refuse_meta(module)
    tensors = [slot.tensor for slot in slots]
    _move_the_rest(module, {id(tensor) for tensor in tensors}, homes, [device.tensors for device in devices])
    _leave_uncompiled(module)
    protect_module(module, tensors)
    for number, weights in parts.items():
        here_slots = [slot for slot in slots if homes.of_slot(slot) == number]
        weights.attach([slot.tensor for slot in here_slots], [slot.names[0] for slot in here_slots])
    whole = next(iter(parts.values())) if len(parts) == 1 else SplitWeights(list(parts.values()))
    carried = Streamed(whole, [type(module).__name__, *named], freezing)
    # A block without weights is nobody's: who it is told to does not matter.
    of_blocks = [parts.get(homes.of_module(block), next(iter(parts.values()))) for block in blocks]
    carried.handles = install_hooks(module, whole, list(zip(blocks, of_blocks, strict=True)), carried)
    if len(parts) > 1:
        carried.handles += install_movers(module, blocks, homes, [device.tensors for device in devices])
    attach(module, carried)
    return module


def _is_streamed(slot: Slot, stored: Stored) -> bool:
    return bool(stored.nbytes) and not is_small_buffer(slot, stored)


def _refuse_unknown(slots: Sequence[Slot], resident: Sequence[str]) -> None:
    if unknown := set(resident).difference(name for slot in slots for name in slot.names):
        raise ValueError(f"resident: the model streams no weight named {', '.join(sorted(unknown))}")


def _members(slots: Sequence[Slot], blocks: Sequence[nn.Module], resident: Sequence[str]) -> list[list[int]]:
    """The weights of each block, by index; a tied one may be in several. Those that stay are in none."""
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


def _move_the_rest(
    module: nn.Module, streamed: set[int], homes: Homes, devices: Sequence[torch.device]
) -> None:
    """Move parameters and buffers that are not streamed, tied ones as one."""
    moved: dict[int, torch.Tensor] = {}
    for owner in module.modules():
        device = devices[homes.of_module(owner)]
        for parameter in owner._parameters.values():
            if parameter is not None and id(parameter) not in streamed:
                parameter.data = parameter.data.to(device)
        for name, buffer in owner._buffers.items():
            if buffer is not None and id(buffer) not in streamed:
                owner._buffers[name] = moved.setdefault(id(buffer), buffer.to(device))


def _close_after(side: SideFile, natives: Sequence[_native.DeviceStream]) -> None:
    """Close the side file when the last of the streams that read it is gone."""
    left = len(natives)

    def gone() -> None:
        nonlocal left
        left -= 1
        if not left:
            side.close()

    for native in natives:
        weakref.finalize(native, gone)


def _leave_uncompiled(module: nn.Module) -> None:
    """Have transformers' `generate` not compile the whole model by itself, as it does for static caches.

    The graph would be cut at every block, and each piece be compiled again until torch gives up.
    """
    config: Any = getattr(module, "generation_config", None)
    if hasattr(config, "disable_compile"):
        config.disable_compile = True
