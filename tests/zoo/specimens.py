"""What a collection consists of: a module and what it is called with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

#: A module, its positional arguments, its named ones.
Made = tuple[nn.Module, tuple[Any, ...], dict[str, Any]]


#: The most parameters of a model that is built.
LARGEST = 120_000_000


@dataclass(frozen=True)
class Specimen:
    """One model of a collection; `make` builds it and its inputs, the same ones at every call."""

    collection: str
    name: str
    make: Callable[[], Made]

    def made(self) -> Made:
        """The module in evaluation mode, its weights away from 0, 1 and other values that hide a mistake."""
        torch.manual_seed(0)
        module, args, kwargs = self.make()
        module = module.eval().requires_grad_(False)
        with torch.no_grad():
            for parameter in module.parameters():
                if parameter.is_floating_point() and parameter.numel() and not parameter.std() > 0.005:
                    parameter.add_(torch.randn_like(parameter), alpha=0.03)
        return module, args, kwargs


def check_size(model: nn.Module) -> None:
    """Refuses what would take more memory than a test machine has to spare."""
    count = sum(parameter.numel() for parameter in model.parameters())
    if count > LARGEST:
        raise ValueError(f"expected at most {LARGEST} parameters, got {count}")
