"""Streamed weights require gradients as loaded ones do, until a backward pass would give them some.

Operators look at the flag, also under no_grad: a product with a frozen weight may be another one in the last bits.
Gradients of all weights, however, would need the memory that streaming saves.
"""

from __future__ import annotations

import logging
import weakref

import torch

_logger = logging.getLogger("weightstream")


class Freezing:
    """The weights of one stream, which are frozen together."""

    def __init__(self) -> None:
        self._watched: list[tuple[weakref.ref[torch.Tensor], str]] = []
        self._frozen = False

    def watch(self, tensor: torch.Tensor, name: str) -> None:
        """Freeze all weights, once, where a gradient of `tensor` would be kept."""
        if tensor.requires_grad:
            self._watched.append((weakref.ref(tensor), name))
            tensor.register_post_accumulate_grad_hook(self._freeze)

    def _freeze(self, tensor: torch.Tensor) -> None:
        if self._frozen:
            return  # whoever has made them require gradients again wants these
        self._frozen = True
        tensor.grad = None
        name = ""
        for reference, watched in self._watched:
            weight = reference()
            if weight is not None:
                name = watched if weight is tensor else name
                weight.requires_grad_(False)  # the rest of this backward pass leaves them out as well
        self._watched.clear()
        _logger.warning(
            "a backward pass came to %s: streamed weights are frozen from now on and get no gradients, inputs and "
            "other parameters do. model.requires_grad_(False) beforehand spares this pass the work; "
            "requires_grad_(True) afterwards has gradients of the weights kept",
            name,
        )
