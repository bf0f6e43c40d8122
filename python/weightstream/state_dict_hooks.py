"""What the hooks of a module make of a checkpoint when it is loaded: other names, other tensors.

Modules rename and convert what older versions of them have saved, in hooks and overrides of their own.
These run as in `load_state_dict`, on a copy of the module without memory and with lazy tensors, so that they
read nothing and the module itself stays as it is until all fits.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from itertools import chain

import torch
from torch import nn

from weightstream.deferred import Call, Deferred, Source
from weightstream.errors import CheckpointError
from weightstream.lazy import Holder, Lazy
from weightstream.parameters import slots
from weightstream.stored import Stored

_EXTRA_STATE = "_extra_state"


def has_hooks(module: nn.Module) -> bool:
    """Whether loading a state_dict into `module` runs code that is not PyTorch's own."""
    return any(_changes(child) for child in module.modules())


def _changes(module: nn.Module) -> bool:
    return (
        bool(module._load_state_dict_pre_hooks)
        or bool(module._load_state_dict_post_hooks)
        or _loads_itself(module)
        or _has_extra_state(module)
    )


def _loads_itself(module: nn.Module) -> bool:
    return not type(module)._load_from_state_dict.__module__.startswith("torch.")


def _has_extra_state(module: nn.Module) -> bool:
    return type(module).set_extra_state is not nn.Module.set_extra_state


def through_hooks(
    module: nn.Module, tensors: Mapping[str, Stored], holder: Holder, strict: bool
) -> tuple[dict[str, Source], Callable[[], None]]:
    """`tensors` by the names of `module`, and what gives it its extra state once its weights are there.

    Raises CheckpointError in the words of `load_state_dict`, which are the hooks' too.
    """
    shadow = _without_memory(module)
    state_dict = OrderedDict((name, Lazy(stored, holder)) for name, stored in tensors.items())
    # A checkpoint doesn't say which version of the module wrote it: the present one, for those who ask.
    state_dict._metadata = {  # type: ignore[attr-defined]
        path: {"version": child._version} for path, child in shadow.named_modules() if _loads_itself(child)
    }
    extra = dict(_extra_states(shadow, state_dict))
    try:
        shadow.load_state_dict(state_dict, strict=strict, assign=True)
    except RuntimeError as error:
        raise CheckpointError(str(error)) from error
    sources = {
        name: _source(slot.tensor) for slot in slots(shadow) if not slot.tensor.is_meta for name in slot.names
    }

    def finish() -> None:
        for path, state in extra.items():
            module.get_submodule(path).set_extra_state(state)

    return sources, finish


def _source(tensor: torch.Tensor) -> Source:
    """Where a tensor's values come from, which may be one that a hook has made itself."""
    if isinstance(tensor, Lazy):
        return tensor.source
    made = Call(torch.ops.aten.clone.default, (tensor.detach(),), {})
    return Deferred(tensor.dtype, tuple(tensor.shape), made)


def _without_memory(module: nn.Module) -> nn.Module:
    """A copy of `module` whose parameters and buffers are on the meta device."""
    memo: dict[int, object] = {}
    for tensor in chain(module.parameters(), module.buffers()):
        empty = torch.empty_like(tensor, device="meta")
        is_parameter = isinstance(tensor, nn.Parameter)
        memo[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if is_parameter else empty
    return copy.deepcopy(module, memo)


def _extra_states(module: nn.Module, state_dict: Mapping[str, Lazy]) -> Iterator[tuple[str, torch.Tensor]]:
    """What `set_extra_state` of each submodule is given, by its path: tensors, as all in a checkpoint."""
    for path, child in module.named_modules():
        name = f"{path}.{_EXTRA_STATE}" if path else _EXTRA_STATE
        if _has_extra_state(child) and name in state_dict:
            yield path, state_dict[name].read()
