"""What a streamed module can't do like another (be written, moved, pickled) is done another way or refused.

Streamed weights lie in read-only memory of their own that the kernel can't read where it is absent, so they
are copied through user space for a state_dict, and never converted in place. A deep copy of a whole model
shares them; one of a part of it, which is made to go its own way, gets memory of its own.
"""

from __future__ import annotations

import copy
import logging
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from weightstream.freezing import Freezing, Holds
from weightstream.memory import format_bytes, free_memory

_logger = logging.getLogger("weightstream")

# Asking what is free takes milliseconds: not for every bias.
_WORTH_ASKING = 64 * 2**20
# Of copies nobody has asked for all of them together.
_WORTH_TELLING = 8 * 2**20
# Bytes of the weights of a layer that may leave the stream to be converted.
_SMALL_LAYER = 8 * 2**20


class Whole:
    """The streamed module and the copies that share its stream: a copy of anything less is on its own."""

    def __init__(self, module: nn.Module) -> None:
        self._modules = weakref.WeakSet([module])

    def is_copied(self, memo: dict[int, Any]) -> bool:
        """Whether the copy that `memo` belongs to is one of a whole module."""
        for module in tuple(self._modules):
            if (copied := memo.get(id(module))) is not None:
                self._modules.add(copied)
                return True
        return False


def protect_tensor(
    tensor: torch.Tensor, stream: Any, name: str, freezing: Freezing, *, is_written: bool = False
) -> None:
    """Have deep copies of a tensor of `stream` share its memory where they may; refuse pickling, gradients.

    is_written: its module may write to it, so that no copy shares it.
    """
    # Attributes of the instance go before the class's methods, and leave the class alone.
    _Share(tensor.data_ptr(), stream, name, freezing, is_written).mark(tensor)


def keep_unshared(tensor: torch.Tensor, name: str) -> None:
    """Refuse to move a streamed tensor of the host to shared memory, as queues between processes do.

    All tensors over the same memory are kept: views, copies, `.data`.
    """
    storage = tensor.untyped_storage()
    # What everything that shares comes to. Attributes of the instance go before the class's methods.
    storage.__dict__.update(_share_fd_cpu_=_Unshared(name), _share_filename_cpu_=_Unshared(name))


def protect_module(
    module: nn.Module, streamed: Sequence[torch.Tensor], whole: Whole | None = None
) -> list[RemovableHandle]:
    """Guard every module that holds one of the `streamed` tensors, itself or a child; returns the hooks.

    Without `whole` all deep copies share the tensors' memory.
    """
    for tensor in streamed:
        tensor.__dict__["__deepcopy__"].whole = whole
    ids = {id(tensor) for tensor in streamed}
    handles = []
    for owner in module.modules():
        if any(id(tensor) in ids for tensor in owner.parameters(recurse=False)) or any(
            id(tensor) in ids for tensor in owner.buffers(recurse=False)
        ):
            handles.append(owner.register_state_dict_post_hook(_materialise))  # type: ignore[no-untyped-call]
    for guarded in module.modules():
        if next(streamed_tensors(guarded), None) is not None:
            guarded.__dict__["_apply"] = _Apply(guarded)
            handles.append(guarded.register_load_state_dict_pre_hook(_refuse_load))  # type: ignore[no-untyped-call]
    handles.append(module.register_state_dict_pre_hook(_refuse_too_large))  # type: ignore[no-untyped-call]
    # DistributedDataParallel would write to every weight to make all processes' the same.
    ignored = {name for name, _ in streamed_tensors(module)}
    ignored.update(getattr(module, "_ddp_params_and_buffers_to_ignore", ()))
    module._ddp_params_and_buffers_to_ignore = sorted(ignored)  # type: ignore[assignment]
    return handles


def streamed_tensors(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """(name, tensor) of all streamed tensors of `module` and its children, all names of tied ones."""
    named: Iterator[tuple[str, torch.Tensor]] = chain(
        module.named_parameters(remove_duplicate=False), module.named_buffers(remove_duplicate=False)
    )
    return (pair for pair in named if is_streamed(pair[1]))


def is_streamed(tensor: torch.Tensor) -> bool:
    """Whether the tensor's values are streamed."""
    return _share_of(tensor) is not None


def _share_of(tensor: torch.Tensor) -> _Share | None:
    """What marks a streamed tensor; one whose user has given it other memory (`.data`) loses its mark."""
    share = tensor.__dict__.get("__deepcopy__")
    if not isinstance(share, _Share):
        return None
    if not share.holds(tensor):
        del tensor.__dict__["__deepcopy__"], tensor.__dict__["__reduce_ex__"]
        return None
    return share


def _address(streamed: torch.Tensor) -> int:
    address: int = streamed.__dict__["__deepcopy__"].address
    return address


def refuse_pickle(protocol: object = None) -> Any:
    """In place of __reduce_ex__ where pickling would write down every weight."""
    raise TypeError(
        "a streamed model can't be pickled: save model.state_dict(), or stream its checkpoint again elsewhere"
    )


class _Share:
    """A tensor's __deepcopy__: another tensor over the same streamed memory, or a real copy."""

    def __init__(self, address: int, stream: Any, name: str, freezing: Freezing, is_written: bool) -> None:
        self.stream = stream
        self.address = address  # on a device it can't be asked of the tensor at any time
        # It refers to no stream: the tensor's hooks keep it.
        self.holds: Holds = (lambda tensor: True) if is_on_device(stream) else _At(address)
        self.whole: Whole | None = None
        self._name, self._freezing, self._is_written = name, freezing, is_written
        self._tensor: weakref.ref[torch.Tensor] | None = None

    def mark(self, tensor: torch.Tensor) -> None:
        """Have it be this tensor's."""
        self._tensor = weakref.ref(tensor)  # weak: no cycle may keep the memory from being released
        tensor.__dict__.update(__deepcopy__=self, __reduce_ex__=_Pickling(tensor))
        self._freezing.watch(tensor, self._name, self.holds)

    def __call__(self, memo: dict[int, Any]) -> torch.Tensor:
        tensor = self._tensor() if self._tensor is not None else None
        assert tensor is not None, "a tensor that is being copied is alive"
        if not is_streamed(tensor):
            return copy.deepcopy(tensor, memo)
        shares = self.whole is None or (not self._is_written and self.whole.is_copied(memo))
        copied: torch.Tensor = tensor.detach() if shares else _own_copy(tensor)
        if isinstance(tensor, nn.Parameter):
            copied = nn.Parameter(copied, requires_grad=tensor.requires_grad)
        if shares:
            share = _Share(self.address, self.stream, self._name, self._freezing, self._is_written)
            share.whole = self.whole
            share.mark(copied)
        memo[id(tensor)] = copied
        return copied


class _At:
    """Whether a tensor still has the memory at this address."""

    def __init__(self, address: int) -> None:
        self._address = address

    def __call__(self, tensor: torch.Tensor) -> bool:
        return tensor.data_ptr() == self._address


class _Pickling:
    """A tensor's __reduce_ex__, refused while it is streamed."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._tensor = weakref.ref(tensor)

    def __call__(self, protocol: Any) -> Any:
        tensor = self._tensor()
        assert tensor is not None, "a tensor that is being pickled is alive"
        if is_streamed(tensor):
            return refuse_pickle()
        return tensor.__reduce_ex__(protocol)  # type: ignore[no-untyped-call]


def is_on_device(stream: Any) -> bool:
    """Whether the weights of `stream` lie on a GPU; they come there only when they are asked for."""
    return hasattr(stream, "copy")


def _own_copy(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.nbytes >= _WORTH_TELLING:
        _refuse_unless_free(tensor.nbytes, "a deep copy of a part of a streamed model holds its weights")
        size = format_bytes(tensor.nbytes)
        _logger.info("a deep copy of a streamed weight takes %s of memory, beside the budget", size)
    return _copy(tensor)


class _Unshared:
    """In place of a storage's methods that move it to shared memory."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, *args: object) -> Any:
        raise TypeError(
            f"{self._name} is streamed and can't be shared with another process, which would load all of it "
            "outside of the budget: stream the checkpoint there, or share a copy (weight.clone())"
        )


class _Apply:
    """A module's _apply (what to(), half(), share_memory() call), refused where it would change weights."""

    def __init__(self, module: nn.Module) -> None:
        self._module = weakref.ref(module)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Apply:
        return _Apply(memo[id(self._module())])

    def __call__(self, change: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> nn.Module:
        module = self._module()
        assert module is not None, "a module whose method is called is alive"
        if not _may_convert(module, change):
            tried = set()
            for name, tensor in streamed_tensors(module):
                kind = (tensor.dtype, tensor.dim())
                if kind not in tried:
                    tried.add(kind)
                    _refuse_change(name, tensor, change)
        type(module)._apply(module, change, recurse)  # type: ignore[no-untyped-call]
        return module


def _may_convert(module: nn.Module, change: Callable[[torch.Tensor], torch.Tensor]) -> bool:
    """Whether `change` gives the weights of one small layer another dtype.

    Models do that themselves (a router that computes in float32, whatever the others do): the layer's
    weights are ordinary ones from then on.
    """
    if next(module.children(), None) is not None:
        return False
    weights = [tensor for _, tensor in streamed_tensors(module)]
    if not weights or sum(weight.nbytes for weight in weights) > _SMALL_LAYER:
        return False
    for weight in weights:
        probe = _probe(weight)
        changed = change(probe)
        if changed.dtype == probe.dtype or changed.device != probe.device:
            return False
    names = ", ".join(name for name, _ in module.named_parameters())
    kind = type(module).__name__
    _logger.info("a %s's %s leave their stream: converted, they stay in memory", kind, names)
    return True


def _probe(tensor: torch.Tensor) -> torch.Tensor:
    """A small tensor to which what is done to `tensor` can be done first."""
    return torch.zeros([2] * tensor.dim(), dtype=tensor.dtype, device=tensor.device)


def _refuse_change(name: str, tensor: torch.Tensor, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    probe = _probe(tensor)
    changed = change(probe)
    # Memory of a GPU always says that it is shared.
    shared = probe.device.type == "cpu" and probe.is_shared()  # type: ignore[no-untyped-call]
    if changed is probe and not shared:
        return
    if changed.device != probe.device:
        wanted, remedy = (
            f"be moved to {changed.device}",
            f"streamed weights stay on {tensor.device}; move the inputs instead",
        )
    elif changed.dtype != probe.dtype:
        wanted = f"become {changed.dtype}"
        remedy = f"load the model as such: weightstream.load(path, dtype={changed.dtype})"
    else:
        wanted, remedy = "be changed in place", "they are read-only; change the module before it is streamed"
    raise TypeError(f"{name} is streamed from a checkpoint as {tensor.dtype} and can't {wanted}: {remedy}")


def _refuse_load(module: nn.Module, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
    for name, _ in streamed_tensors(module):
        if prefix + name in state_dict:
            raise TypeError(
                f"{prefix + name} is streamed and can't be loaded into: stream the other checkpoint instead, "
                "weightstream.stream(module, checkpoint), or load only the other tensors with strict=False"
            )


def _refuse_too_large(module: nn.Module, prefix: str, keep_vars: bool) -> None:
    if not keep_vars:
        nbytes = sum({_address(t): t.nbytes for _, t in streamed_tensors(module)}.values())
        _refuse_unless_free(nbytes, "a state_dict holds the weights", _KEEP_VARS)


_KEEP_VARS = "; state_dict(keep_vars=True) gives the streamed tensors themselves"


def _refuse_unless_free(nbytes: int, what: str, remedy: str = "") -> None:
    if nbytes > (free := free_memory()):
        raise MemoryError(
            f"{what} in memory: it needs {format_bytes(nbytes)}, {format_bytes(free)} are free{remedy}"
        )


class _Copies(threading.local):
    """The copies in the state_dict that this thread is making, for tied tensors to stay tied in it."""

    state_dict: weakref.ref[Any] | None = None
    made: weakref.WeakValueDictionary[int, torch.Tensor]


_copies = _Copies()


def _copy(tensor: torch.Tensor) -> torch.Tensor:
    """The values of a streamed tensor in memory of their own.

    Raises ReadError where they can't be loaded, ClosedError where they are gone.
    """
    stream = tensor.__dict__["__deepcopy__"].stream
    if is_on_device(stream):
        copied: torch.Tensor = stream.copy(tensor)
        return copied
    stream.enter()
    try:
        return tensor.detach().clone()
    finally:
        stream.leave()


def _materialise(module: nn.Module, state_dict: dict[str, Any], prefix: str, local_metadata: Any) -> None:
    if _copies.state_dict is None or _copies.state_dict() is not state_dict:
        _copies.state_dict, _copies.made = weakref.ref(state_dict), weakref.WeakValueDictionary()
    for name, tensor in [*module._parameters.items(), *module._buffers.items()]:
        held = state_dict.get(prefix + name)
        if tensor is None or held is None or held is tensor or not is_streamed(tensor):
            continue  # `held is tensor`: keep_vars=True
        copied = _copies.made.get(_address(tensor))
        if copied is None:
            if tensor.nbytes >= _WORTH_ASKING:
                _refuse_unless_free(tensor.nbytes, "a state_dict holds the weights", _KEEP_VARS)
            copied = _copies.made[_address(tensor)] = _copy(tensor)
        state_dict[prefix + name] = copied
