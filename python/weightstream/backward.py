"""Where a backward pass is.

In a backward pass nobody calls a block's forward hooks, but autograd comes by the nodes that made the blocks'
outputs. There the stream is told which block comes next, so that threads read together that go backward at
once. Gradients are left as they are.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from weakref import ref

import torch
from torch.autograd import Variable
from torch.utils._pytree import tree_leaves

if TYPE_CHECKING:
    from weightstream import _native
    from weightstream.freezing import Freezing


class Backward(threading.local):
    """The backward passes over one stream, as each thread sees its own.

    They use the numbers behind those of the `blocks` forward ones: first the module itself, then its blocks
    from the last to the first.
    """

    def __init__(self, stream: _native.Stream, blocks: int, freezing: Freezing) -> None:
        self._stream = stream
        self._freezing = freezing
        self._blocks = blocks
        # Only autograd holds a pass, so that one which ends by an error is gone with it.
        self._innermost: ref[_Pass] | None = None

    def number(self, block: int) -> int:
        """The number that `block` has in a backward pass."""
        return self._blocks + (self._blocks - block) % self._blocks

    def watch(self, block: int, output: Any) -> None:
        """Have the backward pass through `output`, which the forward of `block` gave, tell that it is there.

        It raises ReadError at its end where a weight was missing.
        """
        if torch._C._get_tracing_state() is not None:
            return
        for leaf in tree_leaves(output):
            if isinstance(leaf, torch.Tensor) and leaf.grad_fn is not None and not _is_wrapped(leaf):
                leaf.grad_fn.register_prehook(lambda gradients: self._come_to(block))

    def is_under_way(self) -> bool:
        """Whether the calling thread is in a backward pass, of which a forward pass is a part then."""
        return self._innermost is not None and self._innermost() is not None

    def _come_to(self, block: int) -> None:
        task = torch._C._current_graph_task_id()
        current = self._innermost() if self._innermost is not None else None
        if current is None or current.task != task:
            outer = self._innermost
            current = _Pass(self._stream, task, self.number(0), lambda: self._ended(outer))
            self._innermost = ref(current)
            self._freezing.tell()
            Variable._execution_engine.queue_callback(current)
        if block > 0:
            current.come_to(self.number(block))

    def _ended(self, outer: ref[_Pass] | None) -> None:
        self._innermost = outer


class _Pass:
    """One backward pass, whose end autograd calls, or drops where the pass ends by an error."""

    def __init__(self, stream: _native.Stream, task: int, number: int, ended: Callable[[], None]) -> None:
        self.task = task
        self._stream = stream
        self._ended = ended
        self._thread = threading.get_ident()
        # Of the module and of the block that the pass is in.
        self._inside: list[int] = []
        self._mark = stream.mark()
        self._begin(number)

    def come_to(self, number: int) -> None:
        """The next block begins, and with that the one before has ended."""
        if self._inside[-1] == number:
            return
        if len(self._inside) > 1:
            self._stream.end(self._inside.pop())
        self._begin(number)

    def __call__(self) -> None:
        """Raise ReadError where a weight was missing."""
        self._end()
        self._stream.check(self._mark)

    def __del__(self) -> None:
        """The same for the stream, after an error of somebody else's."""
        # A thread of autograd's may be the one to drop it, but no other tells for this one.
        if threading.get_ident() == self._thread:
            self._end()

    def _begin(self, number: int) -> None:
        self._inside.append(number)
        self._stream.begin(number)

    def _end(self) -> None:
        if not self._inside:
            return
        while self._inside:
            self._stream.end(self._inside.pop())
        self._ended()


def _is_wrapped(tensor: torch.Tensor) -> bool:
    return bool(torch._C._functorch.is_functorch_wrapped_tensor(tensor))
