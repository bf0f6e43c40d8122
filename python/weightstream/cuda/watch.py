"""The first pass is watched for weights that are used outside of their block."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from weightstream.cuda.split import SplitWeights
from weightstream.cuda.weights import DeviceWeights


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operator before it runs, and has weights that it needs but that are closed kept for good."""

    def __init__(self, weights: DeviceWeights | SplitWeights) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._weights = weights

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run `func`, with what it needs on the device."""
        kwargs = kwargs or {}
        self._weights.keep_used(
            [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        )
        return func(*args, **kwargs)
