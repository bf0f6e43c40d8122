"""Models of transformers: loaded by its from_pretrained, which finds lazy tensors in the files it opens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from weightstream import _native, gguf
from weightstream.config import read_config
from weightstream.errors import CheckpointError
from weightstream.opened import Opened
from weightstream.packed import is_packed, refuse_choice_of_files
from weightstream.parameters import failure
from weightstream.small_file import read_list, read_object
from weightstream.substitute import substituted

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

    Which files are read, renaming, fusing of experts, tying, casting, buffers, adapters and generation
    settings are transformers' own doing.
    """
    opened = Opened()
    kwargs.pop("disable_mmap", None)  # nothing is mapped
    ours = {_dtype_argument(): "auto" if dtype is None else dtype, "output_loading_info": True}
    if gguf.is_gguf(folder):
        refuse_choice_of_files(folder, kwargs)
        model, report = _of_gguf(folder, model_class, config, opened, kwargs, ours)
    else:
        folder = _transformer_part(folder)
        if model_class is None:
            names = getattr(config, "architectures", None)
            model_class = _class_of(config if names else _config_of(folder, kwargs), folder, kwargs)
        if config is not None:
            kwargs["config"] = config
        with _files(folder, opened, kwargs):
            model, report = model_class.from_pretrained(folder, **kwargs, **ours)
    if strict:
        _refuse(report, type(model), bool(kwargs.get("ignore_mismatched_sizes")))
    return opened, model


def refuse(kwargs: Mapping[str, Any]) -> None:
    """Raise TypeError where load can't do as from_pretrained does."""
    for name in kwargs.keys() & _REFUSED.keys():
        if kwargs[name] is not None:
            raise TypeError(f"load() takes no {name}: {_REFUSED[name]}")


@contextmanager
def _files(folder: Path, opened: Opened, kwargs: Mapping[str, Any]) -> Iterator[None]:
    """Have transformers find lazy tensors in the files that it opens, and all of them in a packed folder."""
    from transformers import modeling_utils

    with ExitStack() as stack:
        stack.enter_context(
            opened.found_by((modeling_utils, "safe_open"), (modeling_utils, "load_state_dict"))
        )
        if is_packed(folder):
            refuse_choice_of_files(folder, kwargs)
            found = substituted(
                modeling_utils, "_get_resolved_checkpoint_files", lambda *where, **how: ([str(folder)], None)
            )
            stack.enter_context(found)
        yield


def _of_gguf(
    path: Path, model_class: Any, config: Any, opened: Opened, kwargs: Any, ours: Any
) -> tuple[Any, Any]:
    if config is None:
        config, kwargs = gguf.config_of(path, kwargs)
    if model_class is None:
        model_class = gguf.class_of(config, path)
    tensors = gguf.named(path, opened, model_class, config)
    model, report = model_class.from_pretrained(None, config=config, state_dict=tensors, **kwargs, **ours)
    folder = path.parent
    model.config.name_or_path = model.name_or_path = str(folder)
    if model.can_generate() and (folder / "generation_config.json").exists():
        model.generation_config = type(model.generation_config).from_pretrained(folder)
    return model, report


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


def _config_of(folder: Path, kwargs: Mapping[str, Any]) -> Any:
    import transformers

    wanted = ("subfolder", "trust_remote_code", "code_revision")
    given = {name: kwargs[name] for name in wanted if name in kwargs}
    adapter = None if (folder / "config.json").exists() else read_object(folder, "adapter_config.json")
    if not adapter:
        return transformers.AutoConfig.from_pretrained(folder, **given)
    base = adapter.get("base_model_name_or_path")
    place = f"{folder / 'adapter_config.json'}: base_model_name_or_path"
    if not isinstance(base, str):
        raise CheckpointError(f"{place}: expected a name, got {base!r:.100}")
    try:
        return transformers.AutoConfig.from_pretrained(base, **given)
    except OSError as error:
        raise CheckpointError(
            f"{place}: expected a folder, or a model that the hub's cache has or the hub gives, got {base!r}"
        ) from error


def _class_of(config: Any, folder: Path, kwargs: Mapping[str, Any]) -> type[Any]:
    """The class that the config names, or the AutoModel class that finds it in the checkpoint's own code."""
    import transformers

    names = getattr(config, "architectures", None) or []
    found: type[Any]
    if kwargs.get("trust_remote_code") and (
        remote := _remote(getattr(config, "auto_map", None) or {}, names)
    ):
        found = getattr(transformers, remote)
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


def _remote(references: Mapping[str, str], names: Sequence[str]) -> str | None:
    """Which kind of AutoModel stands for a class among `names`, else the first."""
    kinds = [kind for kind in references if kind.startswith("AutoModel")]
    named = [kind for kind in kinds if references[kind].rpartition(".")[2] in names]
    return next(iter(named or kinds), None)


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
