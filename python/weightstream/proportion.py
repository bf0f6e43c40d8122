"""No model is built that is out of proportion to its checkpoint: ten million layers take for ever."""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch.nn.modules import module as modules

from weightstream import _native
from weightstream.errors import CheckpointError, WeightstreamError

# Modules and parameters for each tensor: one of fused experts may become some for each of 128.
_FOR_EACH = 100
# What no checkpoint is too small for.
_ALWAYS = 2000
_LAYERS = re.compile(r"(layers?|blocks?|depths?|block_count)$")
_WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.weightstream")


class _Thread(threading.local):
    counting: Callable[[], None] | None = None


_thread = _Thread()


@contextmanager
def in_proportion(path: Path, config: Mapping[str, Any]) -> Iterator[None]:
    """Raise CheckpointError where this thread builds far more modules and parameters than `path` has tensors.

    Args:
        path: a checkpoint's folder, or one file.
        config: numbers of layers that are as far off are refused before lists of so many are made.
    """
    tensors = functools.cache(lambda: _tensors(path))
    for key, number in _numbers(config):
        if _LAYERS.search(key):
            _refuse_more(path, f"{key} of {number}", number, tensors)
    count = 0

    def part() -> None:
        nonlocal count
        count += 1
        _refuse_more(path, f"a model of {count} modules and parameters and more", count, tensors)

    _listen()
    outer, _thread.counting = _thread.counting, part
    try:
        yield
    finally:
        _thread.counting = outer


def _refuse_more(path: Path, what: str, number: int, tensors: Callable[[], int]) -> None:
    if number > _ALWAYS and number > _ALWAYS + _FOR_EACH * tensors():
        raise CheckpointError(
            f"{path}: expected a model in proportion to its {tensors()} tensors, got {what}"
        )


@functools.cache
def _listen() -> None:
    """Hear of every module and parameter from now on; hooks that come and go would disturb other threads."""
    modules.register_module_module_registration_hook(_registered)
    modules.register_module_parameter_registration_hook(_registered)


def _registered(owner: Any, name: str, value: Any) -> None:
    if _thread.counting is not None:
        _thread.counting()


def _tensors(path: Path) -> int:
    """How many the files of `path` have together; those that can't be read none."""
    files = [file for ending in _WEIGHTS for file in path.rglob(ending)] if path.is_dir() else [path]
    count = 0
    for file in files:
        try:
            count += len(_native.Checkpoint.open(str(file)).tensors())
        except WeightstreamError:
            continue
    return count


def _numbers(value: Any, key: str = "") -> Iterator[tuple[str, int]]:
    """Every whole number of a configuration and the key that it has, or that the list around it has."""
    if isinstance(value, Mapping):
        for inner, item in value.items():
            yield from _numbers(item, inner)
    elif isinstance(value, list):
        for item in value:
            yield from _numbers(item, key)
    elif isinstance(value, int | float) and value == value and abs(value) != float("inf"):
        yield key, int(value)
