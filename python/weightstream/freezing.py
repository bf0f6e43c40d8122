"""Streamed weights require gradients as loaded ones do, until a backward pass would give them some.

Operators look at the flag, also under no_grad: a product with a frozen weight may differ in the last bits.
Gradients of all weights, however, would need the memory that streaming saves.
"""

from __future__ import annotations

import logging
import weakref

import torch
from torch.autograd import Variable

_logger = logging.getLogger("weightstream")


class Freezing:
    """The weights of one stream, which are frozen together."""

    def __init__(self) -> None:
        self._watched: list[tuple[weakref.ref[torch.Tensor], str]] = []
        self._frozen = False

    def watch(self, tensor: torch.Tensor, name: str) -> None:
        """Freeze all weights, once, where a gradient of `tensor` would be kept."""
        if tensor.requires_grad and not self._frozen:
            self._watched.append((weakref.ref(tensor), name))
            tensor.register_post_accumulate_grad_hook(self._drop)  # type: ignore[no-untyped-call]

    def _drop(self, tensor: torch.Tensor) -> None:
        if self._frozen:
            return  # whoever has made them require gradients again wants these
        tensor.grad = None
        # Not before the pass is over: checkpointed blocks run again in it, and have to find the same flags.
        Variable._execution_engine.queue_callback(self._freeze)

    def _freeze(self) -> None:
        if self._frozen:
            return
        self._frozen = True
        weights = [(weight, name) for reference, name in self._watched if (weight := reference()) is not None]
        for weight, _ in weights:
            weight.requires_grad_(False)
        self._watched.clear()
        _logger.warning(
            "a backward pass came to %s and %d more weights that are streamed: they are frozen from now on "
            "and get no gradients; inputs and other parameters do. model.requires_grad_(False) beforehand "
            "spares that pass the work, model.requires_grad_(True) afterwards has gradients of weights kept",
            weights[0][1],
            len(weights) - 1,
        )
