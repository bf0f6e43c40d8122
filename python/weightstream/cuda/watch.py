"""The first pass is watched for weights that are used outside of their block."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from weightstream.cuda.weights import DeviceWeights

_log = logging.getLogger("weightstream")


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operator before it runs, and has weights that it needs but that are closed kept for good."""

    def __init__(self, weights: DeviceWeights) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._weights = weights
        self.found: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run `func`, with what it needs on the device."""
        kwargs = kwargs or {}
        missing = [
            index
            for leaf in tree_leaves((args, kwargs))
            if isinstance(leaf, torch.Tensor) and (index := self._closed(leaf)) is not None
        ]
        if missing:
            self._weights.keep(missing)
            self.found += missing
        return func(*args, **kwargs)

    def _closed(self, tensor: torch.Tensor) -> int | None:
        index = self._weights.index_of(tensor)
        return None if index is None or self._weights.guard.is_open(index) else index
