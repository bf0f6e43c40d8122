"""No result of a weight that was not there, or was written to, is handed on, also where hooks see nobody.

A compiled graph and a backward pass touch weights without passing through a module's hooks. A graph therefore
gets an operator that looks for failures once all its outputs are there, and a backward pass looks at its end.
A use of a weight outside of all this is told at once in the main thread, in others at their next pass.
"""

from __future__ import annotations

import faulthandler
import itertools
import signal
import threading
from functools import cache
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch._higher_order_ops import effects
from torch.autograd import Variable
from torch.utils._pytree import tree_leaves, tree_map_only
from tqdm import TMonitor

from weightstream import _native

_streams: WeakValueDictionary[int, _native.Stream] = WeakValueDictionary()
_numbers = itertools.count(1)


def listen() -> None:
    """Have failures outside of blocks raised in the main thread.

    Takes SIGURG, which is ignored where it has no handler; does nothing where it has one.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGURG) == signal.SIG_DFL:
        signal.signal(signal.SIGURG, _look)
        _native.use_signal(signal.SIGURG)


def _look(number: int, frame: object) -> None:
    others = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    _native.look(all(isinstance(thread, TMonitor) for thread in others))


@cache
def show_deaths() -> None:
    """Have Python's own handler say in which line the process was, should it die of a weight; once."""
    if not faulthandler.is_enabled():
        faulthandler.enable(2)  # sys.stderr may be no file


def register(stream: _native.Stream) -> int:
    """The number by which graphs refer to `stream`."""
    number = next(_numbers)
    _streams[number] = stream
    return number


def guard_backward(stream: _native.Stream, output: Any) -> None:
    """Have the backward pass through `output`, the result of a pass, raise what that pass would."""
    if torch._C._get_tracing_state() is not None:
        return
    for leaf in tree_leaves(output):
        if isinstance(leaf, torch.Tensor) and leaf.grad_fn is not None and not _is_wrapped(leaf):
            leaf.register_hook(_Backward(stream))  # type: ignore[no-untyped-call]


def guard_graph(number: int, output: Any) -> Any:
    """While a compiler traces: `output` of a module of stream `number`, handed on if nothing was missing."""
    tensors = [leaf for leaf in tree_leaves(output) if isinstance(leaf, torch.Tensor)]
    torch.ops.weightstream.check(tensors, number)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        return tree_map_only(torch.Tensor, lambda tensor: _guarded(number, tensor), output)
    return None


def _is_wrapped(tensor: torch.Tensor) -> bool:
    return bool(torch._C._functorch.is_functorch_wrapped_tensor(tensor))


def _guarded(number: int, tensor: torch.Tensor) -> torch.Tensor:
    return _Guarded.apply(tensor, number) if tensor.requires_grad else tensor


class _Backward:
    """Called when a backward pass comes to the output of a pass."""

    def __init__(self, stream: _native.Stream) -> None:
        self._stream = stream

    def __call__(self, grad: torch.Tensor) -> None:
        stream = self._stream
        mark = stream.mark()
        Variable._execution_engine.queue_callback(lambda: stream.check(mark))


class _Guarded(torch.autograd.Function):
    """The same tensor, whose backward pass is looked at. Only within graphs: there nobody writes to views."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, number: int) -> torch.Tensor:
        """`tensor` itself, as a view."""
        ctx.number = number
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        """`grad` itself."""
        torch.ops.weightstream.check_backward(grad, ctx.number)
        return grad, None


# Torch 2.6 can't tell this schema from the annotations.
@torch.library.custom_op(
    "weightstream::check", mutates_args=(), schema="(Tensor[] outputs, int number) -> ()"
)
def _check(outputs: list[torch.Tensor], number: int) -> None:
    stream = _streams.get(number)
    if stream is not None:
        stream.check()


@torch.library.custom_op("weightstream::check_backward", mutates_args=())
def _check_backward(grad: torch.Tensor, number: int) -> None:
    stream = _streams.get(number)
    if stream is not None:
        _Backward(stream)(grad)


_check.register_fake(lambda outputs, number: None)
_check_backward.register_fake(lambda grad, number: None)
# Operators without a result; without this, compilers would leave them out.
for _name in ("check", "check_backward"):
    effects._register_effectful_op(
        getattr(torch.ops.weightstream, _name).default, effects._EffectType.ORDERED
    )
