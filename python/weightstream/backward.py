"""Where a backward pass is.

Nobody calls a block's hooks in a backward pass, but autograd comes by the nodes that made the blocks' outputs. There
the stream is told which block comes next, as it is told in a forward pass, so that threads who go backward at once
read together. What a hook sees is left as it is.
"""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Any

import torch
from torch.autograd import Variable
from torch.utils._pytree import tree_leaves

if TYPE_CHECKING:
    from weightstream import _native


class Backward(threading.local):
    """The backward passes of each thread over one stream, whose forward blocks are numbered below `blocks`."""

    def __init__(self, stream: _native.Stream, blocks: int) -> None:
        self._stream = stream
        self._blocks = blocks
        # Of several, the innermost. Autograd holds them: one that is given up, by an error, is gone at once.
        self._pass: weakref.ref[_Pass] | None = None

    def watch(self, block: int, output: Any) -> None:
        """Have the backward pass through `output`, of this block's forward, tell where it is."""
        if torch._C._get_tracing_state() is not None:
            return
        for leaf in tree_leaves(output):
            if isinstance(leaf, torch.Tensor) and leaf.grad_fn is not None and not _is_wrapped(leaf):
                leaf.grad_fn.register_prehook(lambda gradients: self._arrive(block))

    @property
    def under_way(self) -> bool:
        """Whether the calling thread is in a backward pass: a forward pass is then a part of it."""
        return self._pass is not None and self._pass() is not None

    def _arrive(self, block: int) -> None:
        if self._stream.closed:
            return
        outer = self._pass and self._pass()
        task = torch._C._current_graph_task_id()
        if outer is None or outer.task != task:
            current = _Pass(self._stream, self._blocks, task, outer)
            Variable._execution_engine.queue_callback(current.finish)
            self._pass = weakref.ref(current, lambda gone: self._gone(gone, outer))
        ...


def _is_wrapped(tensor: torch.Tensor) -> bool:
    return bool(torch._C._functorch.is_functorch_wrapped_tensor(tensor))
