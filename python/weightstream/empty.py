"""`with empty():` builds modules without memory for their parameters."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as torch_module

from weightstream.attributes import replace_own
from weightstream.deferred_initialisation import DeferredInitialisation


class _Built(threading.local):
    """The modules that this thread builds in a context; None outside of all."""

    modules: dict[int, nn.Module] | None = None


_built = _Built()


@contextmanager
def empty() -> Iterator[None]:
    """Construct modules whose parameters take no memory.

    While a module is built, its parameters look like what they will be: on the CPU, of their dtype and shape.
    A constructor may read them, compute with them and run what it has built: it finds initialised values, and
    what it makes of them is kept. When the context ends, parameters and views of them are on the meta device.
    Buffers stay real, so values that a constructor computes (rotary frequencies) are right; tied parameters
    stay tied. Give the module its weights with `weightstream.stream`. Nests; concerns only the thread that
    entered it.
    """
    if _built.modules is not None:
        yield
        return
    _built.modules = {}
    deferred = DeferredInitialisation()
    try:
        with ExitStack() as stack:
            for register in (
                torch_module.register_module_parameter_registration_hook,
                torch_module.register_module_module_registration_hook,
            ):
                stack.callback(register(_note).remove)
            stack.enter_context(deferred)
            yield
        _give_memory_up(list(_built.modules.values()), deferred)
    finally:
        _built.modules = None


def _note(module: nn.Module, name: str, registered: Any) -> None:
    if _built.modules is not None:
        _built.modules[id(module)] = module


def _give_memory_up(noted: Iterable[nn.Module], deferred: DeferredInitialisation) -> None:
    """Move parameters of the `noted` modules, and the views of them that modules hold, to the meta device."""
    # Copies of modules are registered whole, without their parts.
    modules = list({id(module): module for top in noted for module in top.modules()}.values())
    parameters = {
        id(parameter): parameter
        for module in modules
        for parameter in module._parameters.values()
        if type(parameter) is nn.Parameter and parameter.device.type == "cpu"
    }
    storages = {_address(parameter): _without_memory(parameter) for parameter in parameters.values()}
    deferred.fill_all_but(parameters.values())

    def moved_along(name: str, held: torch.Tensor) -> torch.Tensor:
        return _moved(held, storages) if _address(held) in storages else held

    for module in modules:
        replace_own(module, "", moved_along)
    for parameter in parameters.values():
        moved = nn.Parameter(_moved(parameter, storages), requires_grad=parameter.requires_grad)
        moved.__dict__.update(parameter.__dict__)
        _replace(parameter, moved, modules)


def _address(tensor: torch.Tensor) -> int | None:
    """What tells the storage of a tensor on the CPU from others; None for tensors that have none."""
    if tensor.device.type != "cpu" or tensor.layout != torch.strided:
        return None
    try:
        return int(tensor.untyped_storage()._cdata)
    except NotImplementedError:  # a tensor made of other tensors
        return None


def _without_memory(tensor: torch.Tensor) -> torch.UntypedStorage:
    nbytes = tensor.untyped_storage().nbytes()
    return torch.empty(nbytes, dtype=torch.uint8, device="meta").untyped_storage()


def _moved(tensor: torch.Tensor, storages: Mapping[int | None, torch.UntypedStorage]) -> torch.Tensor:
    """`tensor` at the same place of the storage on the meta device."""
    moved = torch.empty(0, dtype=tensor.dtype, device="meta")
    return moved.set_(storages[_address(tensor)], tensor.storage_offset(), tensor.size(), tensor.stride())


def _replace(parameter: nn.Parameter, moved: nn.Parameter, modules: Iterable[nn.Module]) -> None:
    """Make `parameter` what `moved` is, for whoever holds it."""
    try:
        torch.utils.swap_tensors(parameter, moved)  # type: ignore[no-untyped-call]
    except RuntimeError:
        # A view or a graph that lives on refers to it from C++: the modules at least hold the other one.
        for module in modules:
            for name, held in module._parameters.items():
                if held is parameter:
                    module._parameters[name] = moved
