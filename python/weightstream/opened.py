"""The checkpoint files that a library opens while it loads a model: what it finds there are lazy tensors."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any

import torch

from weightstream import _native
from weightstream.lazy import Lazy
from weightstream.stored import DTYPE_WORDS, Index, Stored
from weightstream.substitute import substituted


class Opened:
    """Files, one behind another: what they hold, and where lazy tensors find their values."""

    def __init__(self) -> None:
        self._contents: _native.Contents | None = None
        self._files: dict[str, Index] = {}
        self._tensors: list[Stored] = []
        self.over = False

    @property
    def contents(self) -> _native.Contents:
        """What all files hold together."""
        assert self._contents is not None, "lazy tensors come from an opened file"
        return self._contents

    def open(self, path: str | os.PathLike[str]) -> Index:
        """The file's tensors as parts of `contents`, behind those of the files opened before.

        Raises CheckpointError where the file is damaged.
        """
        place = os.path.realpath(path)
        if place not in self._files:
            index = Index.open(path)
            before = 0 if self._contents is None else len(self._contents)
            tensors = {name: stored.behind(before) for name, stored in index.tensors.items()}
            self._contents = (
                index.contents if self._contents is None else self._contents.joined(index.contents)
            )
            self._files[place] = Index(self._contents, tensors, index.metadata)
            self._tensors += tensors.values()
        return self._files[place]

    def lazies(self, path: str | os.PathLike[str]) -> dict[str, Lazy]:
        """The file's tensors, none of them read."""
        return {name: Lazy(stored, self) for name, stored in self.open(path).tensors.items()}

    @property
    def floating(self) -> torch.dtype | None:
        """The dtype that most of the floating weights are stored as; None where there are none."""
        sizes: Counter[torch.dtype] = Counter()
        for stored in self._tensors:
            if stored.dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
                sizes[stored.dtype] += stored.nbytes
        return sizes.most_common(1)[0][0] if sizes else None

    @contextmanager
    def found_by(self, *places: tuple[ModuleType, str]) -> Iterator[None]:
        """Have this thread find lazy tensors where a library calls `safe_open` or `load_state_dict`."""
        with ExitStack() as stack:
            for library, name in places:
                stands_in: Callable[..., Any] = (
                    self._safe_open if name == "safe_open" else self._load_state_dict
                )
                stack.enter_context(substituted(library, name, stands_in))
            yield

    def _safe_open(self, path: Any, framework: str = "pt", **how: Any) -> _SafeOpen:
        return _SafeOpen(self.lazies(path), self.open(path).metadata)

    def _load_state_dict(self, path: Any, *args: Any, map_location: Any = "cpu", **how: Any) -> Any:
        if isinstance(path, dict):
            return path
        lazies = self.lazies(path)
        if str(map_location) != "meta":
            return lazies
        return {name: torch.empty_like(lazy, device="meta") for name, lazy in lazies.items()}


class _SafeOpen:
    """What `safetensors.safe_open` gives, as far as libraries use it."""

    def __init__(self, tensors: Mapping[str, Lazy], metadata: Mapping[str, str]) -> None:
        self._tensors = tensors
        self._metadata = metadata

    def __enter__(self) -> _SafeOpen:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def metadata(self) -> dict[str, str]:
        return dict(self._metadata)

    def keys(self) -> list[str]:
        return list(self._tensors)

    offset_keys = keys

    def get_tensor(self, name: str) -> Lazy:
        return self._tensors[name]

    def get_slice(self, name: str) -> _Slice:
        return _Slice(self._tensors[name])


class _Slice:
    """A tensor of which the library takes a part."""

    def __init__(self, tensor: Lazy) -> None:
        self._tensor = tensor

    def __getitem__(self, index: Any) -> Any:
        return self._tensor[index]

    def get_shape(self) -> list[int]:
        return list(self._tensor.shape)

    def get_dtype(self) -> str:
        return DTYPE_WORDS[self._tensor.dtype]
