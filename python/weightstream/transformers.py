"""Models of transformers: loaded by its own from_pretrained, which finds lazy tensors in the files it opens."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from weightstream import gguf
from weightstream.errors import CheckpointError
from weightstream.opened import Opened
from weightstream.packed import is_packed, refuse_choice_of_files
from weightstream.parameters import failure

_REFUSED = {
    "state_dict": "the weights are those of the checkpoint",
    "output_loading_info": "what doesn't fit is raised, or told by transformers' log with strict=False",
    "gguf_file": "give load the path of the .gguf file itself",
    "quantization_config": "streamed weights stay as they are stored",
    "max_memory": "that is load's memory=",
    "offload_folder": "weights are streamed from the checkpoint itself",
    "offload_buffers": "weights are streamed from the checkpoint itself",
    "tp_plan": "one process streams the whole model",
    "tp_size": "one process streams the whole model",
    "device_mesh": "one process streams the whole model",
    "distributed_config": "one process streams the whole model",
}


def build(
    folder: Path,
    dtype: torch.dtype | None,
    model_class: type[Any] | None,
    config: Any,
    strict: bool,
    kwargs: dict[str, Any],
) -> tuple[Opened, Any]:
    """The model of `folder` as from_pretrained makes it, and the files that its lazy tensors lie in.

    Which files are read, renaming, fusing of experts, tying, casting, buffers, adapters and generation settings
    are transformers' own doing.
    """
    import transformers

    opened = Opened()
    kwargs = {**kwargs, _dtype_argument(): "auto" if dtype is None else dtype, "output_loading_info": True}
    kwargs.pop("disable_mmap", None)  # nothing is mapped
    if gguf.is_gguf(folder):
        model, report = _of_gguf(folder, model_class, config, opened, kwargs)
    elif is_packed(folder := _transformer_part(folder)):
        refuse_choice_of_files(folder, kwargs)
        if config is None:
            config, kwargs = transformers.AutoConfig.from_pretrained(
                folder, return_unused_kwargs=True, **kwargs
            )
        model_class = model_class or _class_of(config, folder, kwargs)
        model, report = _of_tensors(opened.lazies(folder), model_class, config, folder, kwargs)
    else:
        if model_class is None:
            model_class = _class_of(config or _config_of(folder, kwargs), folder, kwargs)
        if config is not None:
            kwargs["config"] = config
        library = transformers.modeling_utils
        with opened.found_by((library, "safe_open"), (library, "load_state_dict")):
            model, report = model_class.from_pretrained(folder, **kwargs)
    if strict:
        _refuse(report, type(model), bool(kwargs.get("ignore_mismatched_sizes")))
    return opened, model


def refuse(kwargs: Mapping[str, Any]) -> None:
    """Raise TypeError where load can't do as from_pretrained does."""
    for name in kwargs.keys() & _REFUSED.keys():
        if kwargs[name] is not None:
            raise TypeError(f"load() takes no {name}: {_REFUSED[name]}")


def _of_gguf(path: Path, model_class: Any, config: Any, opened: Opened, kwargs: Any) -> tuple[Any, Any]:
    refuse_choice_of_files(path, kwargs)
    if config is None:
        config, kwargs = gguf.config_of(path, kwargs)
    if model_class is None:
        model_class = gguf.class_of(config, path)
    return _of_tensors(gguf.named(path, opened, model_class, config), model_class, config, path.parent, kwargs)


def _of_tensors(
    tensors: dict[str, Any], model_class: Any, config: Any, folder: Path, kwargs: Any
) -> tuple[Any, Any]:
    """The model made of tensors from a file that transformers itself can't open."""
    model, report = model_class.from_pretrained(None, config=config, state_dict=tensors, **kwargs)
    model.config.name_or_path = model.name_or_path = str(folder)
    if model.can_generate() and (folder / "generation_config.json").exists():
        model.generation_config = type(model.generation_config).from_pretrained(folder)
    return model, report


def _transformer_part(folder: Path) -> Path:
    """`folder`, or the part of a sentence-transformers folder that holds the transformer."""
    modules = folder / "modules.json"
    if (folder / "config.json").exists() or not modules.exists():
        return folder
    for part in json.loads(modules.read_text()):
        if part["type"].rpartition(".")[2] == "Transformer":
            return folder / str(part["path"])
    raise CheckpointError(f"{modules}: expected a part of type Transformer, found none")


def _config_of(folder: Path, kwargs: Mapping[str, Any]) -> Any:
    import transformers

    wanted = ("subfolder", "trust_remote_code", "revision", "code_revision", "token", "cache_dir")
    given = {name: kwargs[name] for name in wanted if name in kwargs}
    return transformers.AutoConfig.from_pretrained(folder, **given)


def _class_of(config: Any, folder: Path, kwargs: Mapping[str, Any]) -> type[Any]:
    """The class that the config names: transformers' own, or the one that comes with the checkpoint."""
    import transformers

    names = getattr(config, "architectures", None) or []
    remote = _models(getattr(config, "auto_map", None) or {})
    found: type[Any]
    if remote and kwargs.get("trust_remote_code"):
        from transformers.dynamic_module_utils import get_class_from_dynamic_module

        named = [reference for reference in remote if reference.rpartition(".")[2] in names]
        found = get_class_from_dynamic_module((named or remote)[0], str(folder))
        return found
    if not names:
        found = transformers.AutoModel._model_mapping[type(config)]  # type: ignore[assignment]
        return found
    for name in names:
        if hasattr(transformers, name):
            found = getattr(transformers, name)
            return found
    raise CheckpointError(
        f"{folder}: config.json names the architecture {', '.join(names)}, which transformers "
        f"{transformers.__version__} doesn't have; pass model_class=, or trust_remote_code=True"
    )


def _models(remote: dict[str, str]) -> list[str]:
    return [reference for kind, reference in remote.items() if kind.startswith("AutoModel")]


def _dtype_argument() -> str:
    import transformers

    return "dtype" if int(transformers.__version__.split(".")[0]) >= 5 else "torch_dtype"


def _refuse(report: dict[str, Any], model_class: type[Any], other_sizes: bool) -> None:
    """Raise CheckpointError where the checkpoint and the model didn't agree."""
    wrong = [
        f"size mismatch for {name}: copying a param with shape {list(stored)} from checkpoint, "
        f"the shape in current model is {list(expected)}."
        for name, stored, expected in report.get("mismatched_keys", [])
        if not other_sizes
    ]
    wrong += [str(message) for message in report.get("error_msgs", [])]
    if error := failure(model_class.__name__, report["unexpected_keys"], report["missing_keys"], wrong):
        raise error
