"""Models of transformers: built by their own class, which is given lazy tensors in place of loaded ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from weightstream import _native, gguf
from weightstream.config import read_config
from weightstream.errors import CheckpointError
from weightstream.lazy import Lazy, Source
from weightstream.parameters import Slot, failure, slots
from weightstream.small_file import read_list
from weightstream.stored import Index, weights_in


def build(
    folder: Path,
    dtype: torch.dtype | None,
    model_class: type[Any] | None,
    config: Any,
    strict: bool,
    kwargs: Any,
) -> tuple[Index, Any, list[tuple[Slot, Source]]]:
    """The model of `folder` as its class's from_pretrained makes it, and the source of each of its weights.

    Renaming, fusing of experts, tying, casting, buffers and generation settings are transformers' own doing.
    """
    if gguf.is_gguf(folder):
        if config is None:
            config, kwargs = gguf.config_of(folder, kwargs)
        if model_class is None:
            model_class = gguf.class_of(config, folder)
        index = Index.open(folder)
        lazies = gguf.named(folder, index, model_class, config)
        folder = folder.parent
    else:
        folder = _transformer_part(folder)
        if config is None:
            from transformers import AutoConfig

            config, kwargs = AutoConfig.from_pretrained(folder, return_unused_kwargs=True, **kwargs)
        if model_class is None:
            model_class = _class_of(config, folder, kwargs)
        index = Index.open(weights_in(folder, "model"))
        lazies = {name: Lazy(stored, index.contents) for name, stored in index.tensors.items()}
    model, report = model_class.from_pretrained(
        None,
        config=config,
        state_dict=lazies,
        output_loading_info=True,
        **{_dtype_argument(): "auto" if dtype is None else dtype},
        **kwargs,
    )
    if strict:
        _refuse(report, model_class)
    model.config.name_or_path = model.name_or_path = str(folder)
    if model.can_generate() and (folder / "generation_config.json").exists():
        model.generation_config = type(model.generation_config).from_pretrained(folder)
    return (
        index,
        model,
        [(slot, slot.tensor.source) for slot in slots(model) if isinstance(slot.tensor, Lazy)],
    )


def _transformer_part(folder: Path) -> Path:
    """`folder`, or the part of a sentence-transformers folder that holds the transformer."""
    parts = None if (folder / "config.json").exists() else read_list(folder, "modules.json")
    if parts is None:
        return folder
    for part in parts:
        if isinstance(part, dict) and str(part.get("type")).rpartition(".")[2] == "Transformer":
            part_folder = _native.inside(str(folder), str(part["path"])) if part.get("path") else folder
            if read_config(part_folder) is None:
                raise CheckpointError(f"{part_folder}: expected a folder with a config.json, got none")
            return part_folder
    raise CheckpointError(f"{folder}: modules.json: expected a part of type Transformer, got none")


def _class_of(config: Any, folder: Path, kwargs: dict[str, Any]) -> type[Any]:
    import transformers

    names = getattr(config, "architectures", None) or []
    remote = _models(getattr(config, "auto_map", None) or {})
    found: type[Any]
    if remote and kwargs.get("trust_remote_code"):
        from transformers.dynamic_module_utils import get_class_from_dynamic_module

        found = get_class_from_dynamic_module(remote[0], str(folder))
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


def _refuse(report: dict[str, Any], model_class: type[Any]) -> None:
    """Raise CheckpointError where the checkpoint and the model didn't agree."""
    wrong = [
        f"size mismatch for {name}: copying a param with shape {list(stored)} from checkpoint, "
        f"the shape in current model is {list(expected)}."
        for name, stored, expected in report.get("mismatched_keys", [])
    ]
    wrong += [str(message) for message in report.get("error_msgs", [])]
    if error := failure(model_class.__name__, report["unexpected_keys"], report["missing_keys"], wrong):
        raise error
