"""`with empty():` builds modules without memory for their parameters."""

import threading
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager

import torch
from torch import nn
from torch.utils.weak import WeakIdKeyDictionary


class _Depth(threading.local):
    value = 0


_depth = _Depth()
_lock = threading.Lock()
_users = 0
_register = nn.Module.register_parameter
# A parameter that is registered twice (tied) must become one and the same empty parameter.
_emptied: MutableMapping[nn.Parameter, nn.Parameter] = WeakIdKeyDictionary()


@contextmanager
def empty() -> Iterator[None]:
    """Construct modules whose parameters take no memory (they are on the meta device).

    Buffers stay real, so values that a constructor computes (rotary frequencies) are right; tied parameters
    stay tied; initialisers find nothing to fill. Give the module its weights with `weightstream.stream`.
    Nests; concerns only the thread that entered it.
    """
    global _users, _register
    with _lock:
        if _users == 0:
            _register = nn.Module.register_parameter
            nn.Module.register_parameter = _register_empty  # type: ignore[method-assign, assignment]
        _users += 1
    _depth.value += 1
    try:
        yield
    finally:
        _depth.value -= 1
        with _lock:
            _users -= 1
            if _users == 0:
                nn.Module.register_parameter = _register  # type: ignore[method-assign]


def _register_empty(module: nn.Module, name: str, param: nn.Parameter | None) -> None:
    _register(module, name, param)
    if _depth.value and param is not None and module._parameters.get(name) is param:
        module._parameters[name] = _empty_like(param)


def _empty_like(param: nn.Parameter) -> nn.Parameter:
    if param.device.type == "meta" or type(param) is not nn.Parameter:
        return param
    with _lock:
        made = _emptied.get(param)
        if made is None:
            made = nn.Parameter(torch.empty_like(param, device="meta"), requires_grad=param.requires_grad)
            made.__dict__.update(param.__dict__)
            _emptied[param] = made
    return made
