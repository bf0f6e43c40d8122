"""GGUF files, as transformers understands them: its own tables name, permute and configure; we read."""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from weightstream import _native
from weightstream.errors import CheckpointError
from weightstream.lazy import Lazy
from weightstream.opened import Opened

_lock = threading.Lock()


def is_gguf(path: Path) -> bool:
    """Whether `path` is a GGUF file."""
    return _native.starts_with(str(path), b"GGUF")


def config_of(path: Path, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """What transformers makes of the file's metadata, and the kwargs that it has no use for."""
    import transformers

    with _in_gguf(path, GGUFReader=_Reader):
        config, rest = transformers.AutoConfig.from_pretrained(
            path.parent, gguf_file=path.name, return_unused_kwargs=True, **kwargs
        )
    rest.pop("gguf_file", None)
    return config, rest


def class_of(config: Any, path: Path) -> type[Any]:
    """The class for the config: a language model where there is one."""
    import transformers

    names = config.architectures or []
    if names and hasattr(transformers, names[0]):
        found: type[Any] = getattr(transformers, names[0])
        return found
    for auto in (transformers.AutoModelForCausalLM, transformers.AutoModel):
        if type(config) in auto._model_mapping:
            made: Any = auto._model_mapping[type(config)]
            return made  # type: ignore[no-any-return]
    raise CheckpointError(f"{path}: transformers has no model for its architecture; pass model_class=")


def named(path: Path, opened: Opened, model_class: type[Any], config: Any) -> dict[str, Lazy]:
    """The file's tensors by the names that they have in the model, as float32 with the model's rows."""
    import transformers.modeling_gguf_pytorch_utils as tables

    architecture = json.loads(opened.open(path).metadata["general.architecture"])
    if architecture in _new_architectures():
        raise CheckpointError(
            f"{path}: weightstream can't read GGUF files of the architecture {architecture} yet"
        )
    with torch.device("meta"):
        skeleton = model_class(config)
    kind = getattr(tables, "TENSOR_PROCESSORS", {}).get(architecture, tables.TensorProcessor)
    processor = _with_lazy_experts(kind)(config=config.to_dict())
    # transformers asks for the table once for each module of the model: 20 ms each, for the same table.
    table = functools.cache(_package(path).get_tensor_name_map)
    with _in_gguf(path, get_tensor_name_map=table):
        names = tables.get_gguf_hf_weights_map(skeleton, processor)
    tensors: dict[str, Any] = {}
    parsed = {"tensors": tensors, "config": config.to_dict()}
    for name, lazy in opened.lazies(path).items():
        try:
            result = processor.process(
                weights=_Array(lazy),
                name=name,
                tensor_key_mapping=names,
                parsed_parameters=parsed,
            )
        except (TypeError, AttributeError) as error:
            raise CheckpointError(
                f"{path}: tensor {name!r}: what transformers does with it for {architecture} "
                f"can't be done to weights that are not loaded: {error}"
            ) from error
        if result.name in names:
            tensors[names[result.name]] = result.weights.tensor
    return tensors


def _new_architectures() -> set[str]:
    """Those that transformers reads by conversions of another kind."""
    try:
        module = importlib.import_module("transformers.integrations.gguf")
    except ImportError:
        return set()
    return set(getattr(module, "GGUF_ARCHS", ()))


class _Array:
    """The few methods of numpy's arrays that transformers uses to put rows in order, over a lazy tensor."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)

    @property
    def T(self) -> _Array:
        return _Array(self.tensor.t())

    def reshape(self, *shape: Any) -> _Array:
        sizes = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
        return _Array(self.tensor.reshape(tuple(sizes)))

    def swapaxes(self, first: int, second: int) -> _Array:
        return _Array(self.tensor.transpose(first, second).contiguous())

    def flatten(self) -> _Array:
        return _Array(self.tensor.reshape(-1))

    def __neg__(self) -> _Array:
        return _Array(-self.tensor)

    def __sub__(self, other: float) -> _Array:
        return _Array(self.tensor - other)

    def __array_ufunc__(self, function: Any, method: str, *inputs: Any, **kwargs: Any) -> _Array:
        made = {"log": torch.log}.get(function.__name__)
        if made is None or method != "__call__" or kwargs:
            raise TypeError(f"numpy.{function.__name__}")
        return _Array(made(inputs[0].tensor))

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if function.__name__ == "expand_dims":
            return _Array(self.tensor.unsqueeze(kwargs.get("axis", args[-1])))
        if function.__name__ == "array_split":
            return [_Array(part) for part in self.tensor.tensor_split(args[1], dim=kwargs.get("axis", 0))]
        if function.__name__ == "stack":
            return _Array(torch.stack([item.tensor for item in args[0]], dim=kwargs.get("axis", 0)))
        raise TypeError(f"numpy.{function.__name__}")


def _with_lazy_experts(kind: type[Any]) -> type[Any]:
    """The processor, but for its way to fuse experts: it would write to memory that holds all of them."""
    if not hasattr(kind, "_set_moe_expert_tensor"):
        return kind

    class LazyExperts(kind):  # type: ignore[misc]
        def _set_moe_expert_tensor(self, weights: _Array, parsed: Any, name: str, part: str) -> None:
            tensors = parsed["tensors"]
            if part == "down":
                tensors[name] = weights.tensor
                return
            halves = self.__dict__.setdefault("halves", {}).setdefault(name, {})
            halves[part] = weights.tensor
            if len(halves) == 2:
                tensors[name] = torch.cat([halves["gate"], halves["up"]], dim=1)

    return LazyExperts


def _package(path: Path) -> Any:
    try:
        return importlib.import_module("gguf")
    except ImportError as error:
        raise CheckpointError(
            f"{path}: transformers needs the package gguf to read GGUF files: pip install gguf"
        ) from error


@contextlib.contextmanager
def _in_gguf(path: Path, **ours: Any) -> Iterator[None]:
    """Have transformers find `ours` in the package gguf in place of what does the same slowly."""
    package = _package(path)
    with _lock:
        theirs = {name: getattr(package, name) for name in ours}
        package.__dict__.update(ours)
        try:
            yield
        finally:
            package.__dict__.update(theirs)


class _Reader:
    """What transformers asks of gguf.GGUFReader for a config; gguf's takes half a minute for a vocabulary."""

    def __init__(self, path: Any, mode: str = "r") -> None:
        checkpoint = _native.Checkpoint.open(str(path))
        self.fields = {key: _Field(json.loads(value)) for key, value in checkpoint.metadata.items()}
        self.tensors = [_Named(tensor.name) for tensor in checkpoint.tensors()]


# No type of the format: transformers takes such values as they come, which matters for 100000 of them.
_AS_IT_IS = -1


class _Named:
    def __init__(self, name: str) -> None:
        self.name = name


class _Field:
    """One value: parts, which of them are data, and types as the format numbers them."""

    types: list[int]
    data: Any
    parts: Any

    def __init__(self, value: Any) -> None:
        if isinstance(value, dict):  # a vocabulary, of which only the length matters
            self.types, self.data, self.parts = [_AS_IT_IS], range(value["length"]), _Blank()
            return
        values = value if isinstance(value, list) else [value]
        kind, parts = _numbered(values)
        self.types = [9, kind] if isinstance(value, list) else [kind]
        self.parts, self.data = parts, range(len(parts))


class _Blank:
    def __getitem__(self, index: int) -> bytes:
        return b""


def _numbered(values: list[Any]) -> tuple[int, list[Any]]:
    first = values[0] if values else 0
    if isinstance(first, str):
        return 8, [value.encode() for value in values]
    if isinstance(first, bool):
        return 7, [[value] for value in values]
    return (6 if isinstance(first, float) else 4), [[value] for value in values]
