"""Models of diffusers: loaded by its own from_pretrained, which finds lazy tensors in the files it opens."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

import torch

from weightstream.config import read_config
from weightstream.errors import CheckpointError
from weightstream.opened import Opened
from weightstream.packed import is_packed, refuse_choice_of_files
from weightstream.parameters import failure
from weightstream.substitute import substituted

# What from_pretrained takes itself; it ignores all else, unless the class's constructor has it.
_FILES = {"cache_dir", "force_download", "proxies", "local_files_only", "token", "revision", "subfolder"}
_TAKEN = _FILES | {"variant", "use_safetensors"}
# How to read and build: load has its own way to the same model.
_OWN_WAY = {"low_cpu_mem_usage", "disable_mmap", "offload_state_dict"}
_REFUSED = {
    "output_loading_info": "what doesn't fit is raised, or told by diffusers' log with strict=False",
    "quantization_config": "streamed weights stay as they are stored",
    "max_memory": "that is load's memory=",
    "offload_folder": "weights are streamed from the checkpoint itself",
    "parallel_config": "one process streams the whole model",
    "use_flashpack": "weights are streamed from safetensors, .bin or packed checkpoints",
    "flashpack_kwargs": "weights are streamed from safetensors, .bin or packed checkpoints",
    "ignore_mismatched_sizes": "diffusers can do that only for a model that is in memory as a whole",
}


def build(
    folder: Path,
    dtype: torch.dtype | None,
    model_class: type[Any] | None,
    config: Any,
    strict: bool,
    kwargs: dict[str, Any],
) -> tuple[Opened, Any]:
    """The model of `folder` as from_pretrained makes it, and the files that its lazy tensors lie in."""
    described = config or read_config(folder / (kwargs.get("subfolder") or "")) or {}
    if model_class is None:
        model_class = _class_of(described["_class_name"], folder)
    if described.get("quantization_config"):
        raise CheckpointError(
            f"{folder}: the weights are quantised ({described['quantization_config'].get('quant_method')}), "
            "which can't be streamed yet"
        )
    kwargs = _understood(model_class, kwargs)
    opened, model, report = _loaded(folder, dtype, model_class, config, kwargs)
    # from_pretrained can't be asked for the checkpoint's own dtype, which is known only now.
    if dtype is None and opened.floating not in (None, torch.float32):
        opened, model, report = _loaded(folder, opened.floating, model_class, config, kwargs)
    missing, unexpected = report["missing_keys"], report["unexpected_keys"]
    if strict and (error := failure(model_class.__name__, unexpected, missing, [])):
        raise error
    return opened, model


def refuse(kwargs: Mapping[str, Any]) -> None:
    """Raise TypeError where load can't do as from_pretrained does."""
    for name in kwargs.keys() & _REFUSED.keys():
        if kwargs[name]:
            raise TypeError(f"load() takes no {name}: {_REFUSED[name]}")


def _loaded(
    folder: Path, dtype: torch.dtype | None, model_class: type[Any], config: Any, kwargs: dict[str, Any]
) -> tuple[Opened, Any, dict[str, Any]]:
    opened = Opened()
    with _files(folder, opened, kwargs), _described(model_class, config):
        model, report = model_class.from_pretrained(
            folder, torch_dtype=dtype, low_cpu_mem_usage=True, output_loading_info=True, **kwargs
        )
    return opened, model, report


def _understood(model_class: type[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The kwargs that from_pretrained heeds; raises TypeError for one that it would ignore."""
    known = {*inspect.signature(model_class.__init__).parameters} | _TAKEN | _OWN_WAY | _REFUSED.keys()
    if unknown := kwargs.keys() - known:
        names = ", ".join(map(repr, sorted(unknown)))
        raise TypeError(f"load() got unexpected arguments for {model_class.__name__}: {names}")
    return {name: value for name, value in kwargs.items() if name not in _OWN_WAY | _REFUSED.keys()}


@contextmanager
def _files(folder: Path, opened: Opened, kwargs: Mapping[str, Any]) -> Iterator[None]:
    """Have diffusers find lazy tensors in the files that it opens, and the manifest of a packed folder."""
    from diffusers.models import model_loading_utils, modeling_utils

    with ExitStack() as stack:
        stack.enter_context(
            opened.found_by((modeling_utils, "load_state_dict"), (model_loading_utils, "load_state_dict"))
        )
        if is_packed(folder):
            refuse_choice_of_files(folder, kwargs)
            for name in ("_fetch_index_file", "_fetch_index_file_legacy"):
                stack.enter_context(substituted(modeling_utils, name, lambda **where: None))
            found = lambda *names, **where: str(folder)  # noqa: E731
            stack.enter_context(substituted(modeling_utils, "_get_model_file", found))
        yield


@contextmanager
def _described(model_class: type[Any], config: Any) -> Iterator[None]:
    """Have diffusers find `config` in place of the folder's config.json."""
    if config is None:
        yield
        return
    not_ours = _FILES | {"return_unused_kwargs", "return_commit_hash", "user_agent"}

    def load_config(path: Any, **kwargs: Any) -> Any:
        return dict(config), {name: value for name, value in kwargs.items() if name not in not_ours}, None

    with substituted(model_class, "load_config", load_config):
        yield


def _class_of(name: str, folder: Path) -> type[Any]:
    import diffusers

    found: type[Any] | None = getattr(diffusers, name, None) or _class_inside(name)
    if found is None:
        raise CheckpointError(
            f"{folder}: config.json names {name}, which diffusers {diffusers.__version__} lacks; "
            "pass model_class="
        )
    return found


def _class_inside(name: str) -> type[Any] | None:
    """A class that diffusers doesn't export at its top: parts of pipelines."""
    import diffusers

    root = Path(diffusers.__file__).parent
    defined = re.compile(rf"^class {re.escape(name)}\(", re.MULTILINE)
    for file in sorted((root / "pipelines").rglob("*.py")) + sorted((root / "models").rglob("*.py")):
        module = ".".join(("diffusers", *file.relative_to(root).with_suffix("").parts))
        if defined.search(SourceFileLoader(module, str(file)).get_source(module) or ""):
            found: type[Any] = getattr(importlib.import_module(module), name)
            return found
    return None
