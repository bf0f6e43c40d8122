"""Whether two outputs are the same, bit for bit, however they are nested."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


def assert_equal(left: Any, right: Any, path: str = "output") -> None:
    """Raise AssertionError naming the first place where `left` and `right` differ."""
    assert type(left) is type(right), f"{path}: {type(left)} and {type(right)}"
    if isinstance(left, torch.Tensor):
        assert left.shape == right.shape and left.dtype == right.dtype, path
        if not torch.equal(left, right):
            unequal = left != right
            raise AssertionError(
                f"{path}: {int(unequal.sum())} of {left.numel()} numbers of {left.dtype} differ, "
                f"by up to {(left - right).abs().max():.3g}"
            )
        assert left.isfinite().all() or not left.is_floating_point(), f"{path}: not finite"
    elif isinstance(left, Mapping):
        assert left.keys() == right.keys(), path
        for key in left:
            assert_equal(left[key], right[key], f"{path}.{key}")
    elif isinstance(left, list | tuple):
        assert len(left) == len(right), path
        for index, (one, other) in enumerate(zip(left, right, strict=True)):
            assert_equal(one, other, f"{path}[{index}]")
    elif hasattr(left, "__dict__"):
        assert_equal(vars(left), vars(right), path)  # key-value caches
    else:
        assert left == right, f"{path}: {left} and {right}"
