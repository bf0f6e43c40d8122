"""Weights of which a pass needs only the slices that its inputs name: rows of embeddings, fused experts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from weightstream.hook import Hook
from weightstream.protection import is_streamed

if TYPE_CHECKING:
    from weightstream.streamed import Streamed

_CONVOLUTIONS = (nn.modules.conv._ConvNd,)
_EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)

# Indices that are worth looking at one by one; with more, most of the weight is used anyway.
MANY = 16384


def is_sliced(owners: Sequence[nn.Module], dimensions: int) -> bool:
    """Whether a parameter of so many dimensions is used by rows, or by experts, along its first one."""
    if any(isinstance(owner, _EMBEDDINGS) for owner in owners):
        return True
    return dimensions >= 3 and not any(isinstance(owner, _CONVOLUTIONS) for owner in owners)


def install_slices(module: nn.Module, streamed: Streamed) -> list[RemovableHandle]:
    """Have the slices that embeddings and mixtures of experts in `module` will use come together."""
    handles: list[RemovableHandle] = []
    for child in module.modules():
        if isinstance(child, _EMBEDDINGS) and is_streamed(child.weight):
            handles.append(child.register_forward_pre_hook(Rows(streamed)))
        elif fused_experts(child):
            handles.append(child.register_forward_pre_hook(Experts(streamed), with_kwargs=True))
    return handles


def fused_experts(module: nn.Module) -> list[nn.Parameter]:
    """The module's own streamed parameters that hold a slice for each expert."""
    own = [parameter for parameter in module._parameters.values() if parameter is not None]
    return [weight for weight in own if is_streamed(weight) and is_sliced([module], weight.dim())]


class Rows(Hook):
    """Before an embedding's forward: fetch the rows that it will look up, in few reads."""

    def __call__(self, module: nn.Embedding | nn.EmbeddingBag, args: Any) -> None:
        """Look at the ids in `args`, where they can be seen."""
        if not _is_traced() and (ranges := slice_ranges(module.weight, args[0] if args else None)):
            self.streamed.stream.fetch(ranges)


class Experts(Hook):
    """Before the forward of fused experts: announce those that the router chose, all at once."""

    def __call__(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        """Take the first integers among the inputs for numbers of experts. A wrong guess costs reads only."""
        if _is_traced():
            return
        inputs = (value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor))
        chosen = next((value for value in inputs if value.dtype in (torch.int64, torch.int32)), None)
        # All of one weight, then all of the next: the order in which grouped products use them.
        ranges = [place for weight in fused_experts(module) for place in slice_ranges(weight, chosen)]
        if ranges:
            self.streamed.stream.announce(ranges)


def _is_traced() -> bool:
    return torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None


def slice_ranges(weight: torch.Tensor, indices: object) -> Sequence[tuple[int, int]]:
    """(address, length) of the slices `indices` of `weight` along its first dimension, neighbours as one.

    indices: integers of any shape on the CPU; anything else gives no ranges.
    """
    # Subclasses (fake, functional tensors) and other devices have no values to look at.
    if type(indices) is not torch.Tensor or indices.device.type != "cpu" or indices.is_floating_point():
        return []
    if not 0 < indices.numel() <= MANY or torch._C._functorch.is_functorch_wrapped_tensor(indices):
        return []
    length, count = weight.stride(0) * weight.itemsize, weight.shape[0]
    ranges: list[tuple[int, int]] = []
    for index in sorted(set(indices.reshape(-1).tolist())):
        address = weight.data_ptr() + index * length
        if not 0 <= index < count:
            continue  # the module itself says what is wrong
        if ranges and sum(ranges[-1]) == address:
            ranges[-1] = (ranges[-1][0], ranges[-1][1] + length)
        else:
            ranges.append((address, length))
    return ranges
