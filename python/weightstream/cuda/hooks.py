"""Hooks that bring a block's weights to the device before its work is launched.

Unlike those of models on the CPU they run, uncompiled, also where a compiler traces: the graph is broken
there, and each block is compiled by itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from weightstream.cuda.split import SplitWeights
from weightstream.cuda.watch import Watch
from weightstream.cuda.weights import DeviceWeights
from weightstream.hook import Hook
from weightstream.streamed import Streamed


def install_hooks(
    module: nn.Module,
    weights: DeviceWeights | SplitWeights,
    blocks: Sequence[tuple[nn.Module, DeviceWeights]],
    streamed: Streamed,
) -> list[RemovableHandle]:
    """Report passes of `module` (block 0) to `weights`, and those of each block (1, 2, ...) to its own."""
    # A graph that was compiled for a model without these hooks, of the same class, is not for this one.
    torch._dynamo.config.skip_nnmodule_hook_guards = False
    handles = []
    first = _FirstPass(weights)
    everything: list[tuple[nn.Module, DeviceWeights | SplitWeights]] = [(module, weights), *blocks]
    for number, (block, told) in enumerate(everything):
        for_pass = first if number == 0 else None
        enter = Enter(told, streamed, number, for_pass)
        leave = Leave(told, streamed, number, for_pass)
        handles.append(block.register_forward_pre_hook(enter, prepend=True))
        handles.append(block.register_forward_hook(leave, always_call=True))
    return handles


_Method = TypeVar("_Method", bound=Callable[..., Any])


def _uncompiled(method: _Method) -> _Method:
    return cast(_Method, torch._dynamo.disable(method))  # type: ignore[no-untyped-call]


class _FirstPass:
    """Watches the first pass, or several where they begin together."""

    def __init__(self, weights: DeviceWeights | SplitWeights) -> None:
        self._weights = weights
        self._over = False
        self._threads = threading.local()

    def begin(self) -> None:
        if not self._over and not hasattr(self._threads, "watch"):
            self._threads.watch = Watch(self._weights)
            self._threads.watch.__enter__()

    def end(self) -> None:
        if hasattr(self._threads, "watch"):
            self._threads.watch.__exit__(None, None, None)
            del self._threads.watch
            self._over = True


class _AtBlock(Hook):
    def __init__(
        self,
        weights: DeviceWeights | SplitWeights,
        streamed: Streamed,
        block: int,
        first: _FirstPass | None,
    ) -> None:
        super().__init__(streamed)
        self.weights = weights
        self.block = block
        self.first = first


class Enter(_AtBlock):
    """Before a block's forward."""

    @_uncompiled
    def __call__(self, module: nn.Module, args: Any) -> None:
        """Raise ReadError where a weight of the block can't be loaded, BudgetError where it doesn't fit."""
        self.streamed.freezing.begin()
        self.weights.begin(self.block)
        if self.first is not None:
            self.first.begin()
        if self.streamed.progress is not None:
            self.streamed.advance()


class Leave(_AtBlock):
    """After a block's forward, also one that raised."""

    @_uncompiled
    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        """Let the block's weights go when the device is done with them."""
        if self.first is not None:
            self.first.end()
            self.streamed.finish_progress()
        self.weights.end(self.block)
