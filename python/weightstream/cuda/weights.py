"""The weights of one model on one device, and who may use them when."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from weightstream import _native
from weightstream.cuda.device import Device
from weightstream.cuda.guard import Guard
from weightstream.protection import refuse_pickle, streamed_tensors


class DeviceWeights:
    """A native stream with the tensors over it. It stands where models on the CPU have the native stream."""

    def __init__(self, native: _native.DeviceStream, device: Device, blocks: Sequence[Sequence[int]]) -> None:
        self.native = native
        self.device = device
        self.blocks = [[], *blocks]  # by block number; block 0 is the model
        self.guard: Guard
        self._kept: set[int] = set()
        self._indices = {address: index for index, address in enumerate(native.addresses())}
        self._storages: dict[int, int] = {}
        self._inside = threading.local()
        self._backward: dict[int, tuple[int, int]] = {}

    def attach(self, tensors: Sequence[torch.Tensor], names: Sequence[str]) -> None:
        """Take charge of the tensors, in the order of the native stream's parameters."""
        self._tensors = [weakref.ref(tensor) for tensor in tensors]
        self._identities = {id(tensor): index for index, tensor in enumerate(tensors)}
        self._storages = {tensor.untyped_storage()._cdata: index for index, tensor in enumerate(tensors)}
        self.guard = Guard(tensors, names)
        self.keep(sorted(set(range(len(tensors))).difference(*self.blocks)))

    def keep(self, indices: Sequence[int]) -> None:
        """Have these weights on the device from now on, wherever they are used.

        Raises BudgetError where they don't fit beside the largest block.
        """
        wanted = [index for index in indices if index not in self._kept]
        if wanted:
            self.native.keep(wanted, self.device.stream)
            self._kept.update(wanted)
            self.guard.open(wanted)

    def keep_used(self, tensors: Sequence[torch.Tensor]) -> None:
        """Have those of `tensors` that are weights not on the device now there from now on: see `keep`."""
        indices = [self.index_of(tensor) for tensor in tensors]
        missing = [index for index in indices if index is not None and not self.guard.is_open(index)]
        if missing:
            self.keep(missing)

    def index_of(self, tensor: torch.Tensor) -> int | None:
        """The number of a streamed weight, or of the one that `tensor` is a view of."""
        if torch._C._has_storage(tensor):
            return self._storages.get(tensor.untyped_storage()._cdata)
        index = self._identities.get(id(tensor))
        return index if index is not None and self._tensors[index]() is tensor else None

    def begin(self, block: int) -> None:
        """This thread begins block `block`; work that it launches from now on may use the block's weights."""
        if block == 0:
            self.native.begin_pass()
            return
        ticket = self.native.enter(block, self.device.stream)
        self.guard.open(self.blocks[block])
        # Only where autograd may save a weight: the transforms of torch.func refuse to run under these.
        saving = torch.is_grad_enabled()
        if saving:
            torch._C._autograd._push_saved_tensors_default_hooks(self.pack, self.unpack)
        self._entered().append((block, ticket, saving))

    def end(self, block: int) -> None:
        """This thread has launched all work of the block."""
        if block == 0:
            self.native.end_pass()
            return
        entered = self._entered()
        # Its beginning may have raised.
        if entered and entered[-1][0] == block:
            _, ticket, saving = entered.pop()
            if saving:
                torch._C._autograd._pop_saved_tensors_default_hooks()
            self.guard.close(self.blocks[block])
            self.native.leave(ticket, self.device.stream)

    def _entered(self) -> list[tuple[int, int, bool]]:
        if not hasattr(self._inside, "blocks"):
            self._inside.blocks = []
        blocks: list[tuple[int, int, bool]] = self._inside.blocks
        return blocks

    @contextmanager
    def hold(self, indices: Sequence[int]) -> Iterator[None]:
        """Have these weights on the device inside the `with`."""
        ticket = self.native.hold(indices, self.device.stream)
        self.guard.open(indices)
        try:
            yield
        finally:
            self.guard.close(indices)
            self.native.leave(ticket, self.device.stream)

    def copy(self, tensor: torch.Tensor) -> torch.Tensor:
        """The values of a streamed tensor in memory of their own."""
        index = self.index_of(tensor)
        assert index is not None, "a tensor that refers to these weights is one of them"
        with self.hold([index]):
            return tensor.detach().clone()

    # A backward pass uses weights outside of the hooks' sight. What autograd saves in a block's forward knows
    # its block, and has it brought back when it is asked for.

    def pack(self, tensor: torch.Tensor) -> Any:
        """What autograd is to save for `tensor`."""
        entered = self._entered()
        # Subclasses (fake, functional tensors) have no address to look at.
        if not entered or type(tensor) not in (torch.Tensor, nn.Parameter):
            return tensor
        start = tensor.untyped_storage().data_ptr()
        return _Saved(entered[-1][0], tensor) if start in self._indices else tensor

    def unpack(self, saved: Any) -> torch.Tensor:
        """The tensor again, on the device until the next one is asked for or the pass is over."""
        if not isinstance(saved, _Saved):
            unsaved: torch.Tensor = saved
            return unsaved
        thread = threading.get_ident()
        block, ticket = self._backward.get(thread, (0, 0))
        if block != saved.block:
            if block:
                self._end_backward(thread)
            else:
                engine = torch.autograd.Variable._execution_engine
                engine.queue_callback(lambda: self._end_backward(thread))
            ticket = self.native.enter(saved.block, self.device.stream)
            self.guard.open(self.blocks[saved.block])
            self._backward[thread] = (saved.block, ticket)
        return saved.tensor

    def _end_backward(self, thread: int) -> None:
        block, ticket = self._backward.pop(thread, (0, 0))
        if block:
            self.guard.close(self.blocks[block])
            self.native.leave(ticket, self.device.stream)

    # What the rest of the package asks of a stream.

    def addresses(self) -> list[int]:
        """Where each weight lies."""
        return self.native.addresses()

    def stats(self) -> dict[str, Any]:
        """Counters, see `weightstream.Stats`."""
        return self.native.stats()

    @property
    def parts(self) -> list[DeviceWeights]:
        """As of a model on several devices: itself."""
        return [self]

    def resize(self, memory: int) -> None:
        """Change the budget of device memory."""
        self.native.resize(memory)

    def events(self, record: bool) -> list[tuple[str, int, int, int, int]]:
        """Record from now on or not; takes what there is."""
        return self.native.events(record)

    def close(self) -> None:
        """Give host and device memory back."""
        self.guard.close(sorted(self._kept))
        self._kept.clear()
        self.native.close()

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self.native.closed

    def __deepcopy__(self, memo: dict[int, Any]) -> DeviceWeights:
        return self  # a copy of the module shares the stream

    __reduce_ex__ = staticmethod(refuse_pickle)


class _Saved:
    def __init__(self, block: int, tensor: torch.Tensor) -> None:
        self.block = block
        self.tensor = tensor


@contextmanager
def resident(module: nn.Module) -> Iterator[None]:
    """Have the streamed weights of `module` in its device's memory inside the `with`, whoever uses them.

    For what hooks can't see: replaying a CUDA graph that was captured inside a block, or computing with a
    weight outside of any forward. Models on the CPU need none of it. Raises BudgetError where they don't fit.
    """
    wanted: dict[int, tuple[DeviceWeights, set[int]]] = {}
    for _, tensor in streamed_tensors(module):
        weights = tensor.__dict__["__deepcopy__"].stream
        if isinstance(weights, DeviceWeights):
            _, indices = wanted.setdefault(id(weights), (weights, set()))
            if (index := weights.index_of(tensor)) is not None:
                indices.add(index)
    with ExitStack() as stack:
        for weights, indices in wanted.values():
            stack.enter_context(weights.hold(sorted(indices)))
        yield
