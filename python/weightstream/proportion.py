"""No model is built that is out of proportion to its checkpoint: ten million layers take for ever."""

from __future__ import annotations

import functools
import math
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.nn.modules import module as modules

from weightstream import _native
from weightstream.errors import CheckpointError, WeightstreamError

# Modules and parameters for each tensor: one of fused experts may become some for each of 128.
_FOR_EACH = 100
# Elements of parameters for each byte: four are quantised to one, and some are registered several times.
_ELEMENTS = 16
# What no checkpoint is too small for.
_ALWAYS = 2000
_ALWAYS_ELEMENTS = 2**26
_LAYERS = re.compile(r"(layers?|blocks?|depths?|block_count)$")
_WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.weightstream")


class _Thread(threading.local):
    counting: Callable[[Any], None] | None = None


_thread = _Thread()


@contextmanager
def in_proportion(path: Path, config: Mapping[str, Any]) -> Iterator[None]:
    """Raise CheckpointError where this thread builds far more parts or elements than `path` has.

    Args:
        path: a checkpoint's folder, or one file.
        config: numbers of layers that are as far off are refused before lists of so many are made.
    """
    stored = functools.cache(lambda: _stored(path))

    def refuse(what: str, number: int, always: int, for_each: int, unit: str) -> None:
        if number > always and number > always + for_each * stored()[unit]:
            expected = f"a model in proportion to its {stored()[unit]} {unit}"
            raise CheckpointError(f"{path}: expected {expected}, got {what}")

    for key, number in _numbers(config):
        if _LAYERS.search(key):
            refuse(f"{key} of {number}", number, _ALWAYS, _FOR_EACH, "tensors")
    parts = elements = 0

    def registered(value: Any) -> None:
        nonlocal parts, elements
        parts += 1
        elements += value.numel() if isinstance(value, torch.Tensor) else 0
        refuse(f"one of {parts} modules and parameters and more", parts, _ALWAYS, _FOR_EACH, "tensors")
        refuse(f"one of {elements} elements and more", elements, _ALWAYS_ELEMENTS, _ELEMENTS, "bytes")

    _listen()
    outer, _thread.counting = _thread.counting, registered
    try:
        yield
    finally:
        _thread.counting = outer


@functools.cache
def _listen() -> None:
    """Hear of every module and parameter from now on: hooks that come and go would disturb other threads."""
    modules.register_module_module_registration_hook(_registered)
    modules.register_module_parameter_registration_hook(_registered)


def _registered(owner: Any, name: str, value: Any) -> None:
    if _thread.counting is not None:
        _thread.counting(value)


def _stored(path: Path) -> dict[str, int]:
    """How many tensors and bytes the files of `path` have together; those that can't be read none."""
    files = [file for ending in _WEIGHTS for file in path.rglob(ending)] if path.is_dir() else [path]
    found = []
    for file in files:
        try:
            found += _native.Checkpoint.open(str(file)).tensors()
        except WeightstreamError:
            continue
    return {"tensors": len(found), "bytes": sum(tensor.length for tensor in found)}


def _numbers(value: Any, key: str = "") -> Iterator[tuple[str, int]]:
    """Every whole number of a configuration and the key that it has, or that the list around it has."""
    if isinstance(value, Mapping):
        for inner, item in value.items():
            yield from _numbers(item, inner)
    elif isinstance(value, list):
        for item in value:
            yield from _numbers(item, key)
    elif isinstance(value, int | float) and math.isfinite(value):
        yield key, int(value)
