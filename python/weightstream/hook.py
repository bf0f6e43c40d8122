"""What all hooks on a streamed module have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from weightstream.protection import refuse_pickle

if TYPE_CHECKING:
    from weightstream.streamed import Streamed


class Hook:
    """A hook of a module whose weights `streamed` brings; a copy of the module shares it."""

    def __init__(self, streamed: Streamed) -> None:
        self.streamed = streamed

    def __deepcopy__(self, memo: dict[int, Any]) -> Hook:
        return self

    __reduce_ex__ = staticmethod(refuse_pickle)
