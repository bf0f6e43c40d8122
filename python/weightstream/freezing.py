"""Streamed weights require gradients as loaded ones do, until a pass begins that autograd records.

Operators look at the flag, also under no_grad: a product with a frozen weight may differ in the last bits.
Gradients of all weights, however, would need the memory that streaming saves. They can't be taken away from a
weight while several threads are in backward passes: autograd's nodes write them without Python's lock.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable

import torch
from torch.autograd import Variable

_logger = logging.getLogger("weightstream")

# Whether a tensor still has the memory that it was streamed into.
Holds = Callable[[torch.Tensor], bool]


class Freezing:
    """The weights of one stream, which are frozen together."""

    def __init__(self) -> None:
        self._watched: list[tuple[weakref.ref[torch.Tensor], str, Holds]] = []
        self._frozen = False
        self._untold: list[str] = []
        self._lock = threading.Lock()

    def begin(self) -> None:
        """A pass begins: freeze all weights, once, if autograd records it."""
        if not self._frozen and torch.is_grad_enabled():
            self._freeze()

    def tell(self) -> None:
        """A backward pass is under way: say, once, which weights get no gradients."""
        with self._lock:
            names, self._untold = self._untold, []
        if names:
            _logger.warning(
                "a backward pass comes through %s and %d more weights that are streamed: they are frozen and "
                "get no gradients; inputs and other parameters do. model.requires_grad_(True) afterwards has "
                "gradients of them kept",
                names[0],
                len(names) - 1,
            )

    def watch(self, tensor: torch.Tensor, name: str, holds: Holds) -> None:
        """Freeze all weights, once, where a gradient of `tensor` would be kept while it `holds`."""
        if tensor.requires_grad and not self._frozen:
            self._watched.append((weakref.ref(tensor), name, holds))
            tensor.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]
                lambda weight: self._drop(weight, holds)
            )

    def _drop(self, tensor: torch.Tensor, holds: Holds) -> None:
        if self._frozen or not holds(tensor):
            return  # whoever has made them require gradients again wants these
        tensor.grad = None
        # Not before the pass is over: checkpointed blocks run again in it, and have to find the same flags.
        Variable._execution_engine.queue_callback(self._end)

    def _end(self) -> None:
        self._freeze()
        self.tell()

    def _freeze(self) -> None:
        with self._lock:
            if self._frozen:
                return
            watched = [
                (weight, name)
                for reference, name, holds in self._watched
                if (weight := reference()) is not None and holds(weight)
            ]
            self._untold = [name for weight, name in watched if weight.requires_grad]
            for weight, _ in watched:
                weight.requires_grad_(False)
            self._watched.clear()
            self._frozen = True
