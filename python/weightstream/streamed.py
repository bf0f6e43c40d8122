"""What a streamed module carries with it."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from weightstream import guard
from weightstream.backward import Backward
from weightstream.errors import WeightstreamError
from weightstream.freezing import Freezing
from weightstream.progress import Progress
from weightstream.protection import Whole, refuse_pickle

_ATTRIBUTE = "_weightstream"


class Streamed:
    """The stream behind a module. It refers to no module, so a module goes as soon as nobody holds it."""

    def __init__(self, stream: Any, block_names: list[str], freezing: Freezing) -> None:
        self.stream = stream
        self.number = guard.register(stream)
        self.backward = Backward(stream, len(block_names), freezing)
        backward = [f"{name} backward" for name in (*block_names[:1], *block_names[:0:-1])]
        # By the numbers that the stream knows them by.
        self.block_names = block_names + backward
        # Where each weight lies in the checkpoint, by its names: (content, offset, length) of its parts.
        self.parts: dict[str, tuple[tuple[int, int, int], ...]] = {}
        self.handles: list[RemovableHandle] = []
        # Which modules share the stream; None where all copies do.
        self.whole: Whole | None = None
        self.freezing = freezing
        self.progress: Progress | None = Progress(stream)

    def advance(self) -> None:
        """Show how far the first pass is."""
        progress = self.progress
        if progress is not None and progress.show():
            self.finish_progress()

    def finish_progress(self) -> None:
        """The first pass is over."""
        progress, self.progress = self.progress, None
        if progress is not None:
            progress.close()

    def __deepcopy__(self, memo: dict[int, Any]) -> Streamed:
        return self

    __reduce_ex__ = staticmethod(refuse_pickle)


def attach(module: nn.Module, streamed: Streamed) -> None:
    """Make `module` the streamed module of `streamed`."""
    module.__dict__[_ATTRIBUTE] = streamed


def detach_closed(module: nn.Module) -> None:
    """Make a module whose streams are closed ready to be streamed anew.

    Raises WeightstreamError where one is still open.
    """
    for child in module.modules():
        streamed = child.__dict__.get(_ATTRIBUTE)
        if streamed is None:
            continue
        if not streamed.stream.closed:
            raise WeightstreamError(
                f"this {type(child).__name__} is streamed already: weightstream.close(model) first, "
                "or change its memory with weightstream.resize"
            )
        for handle in streamed.handles:
            handle.remove()
        del child.__dict__[_ATTRIBUTE]


def streamed_parts(module: nn.Module) -> list[Streamed]:
    """All streams behind `module` and its children."""
    found = (child.__dict__.get(_ATTRIBUTE) for child in module.modules())
    return list({id(streamed): streamed for streamed in found if streamed is not None}.values())


def streamed_of(module: object) -> Streamed:
    """The stream behind `module`, or behind the one module inside it that is streamed (wrappers).

    Raises TypeError where there is none, or more than one.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"expected a streamed torch.nn.Module, got {type(module).__name__}")
    found = streamed_parts(module)
    if len(found) != 1:
        reason = (
            "is not streamed: see weightstream.stream and weightstream.load"
            if not found
            else (f"holds {len(found)} streamed modules: name one of them")
        )
        raise TypeError(f"this {type(module).__name__} {reason}")
    return found[0]
