"""What all hooks on a streamed module have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from weightstream.protection import refuse_pickle

if TYPE_CHECKING:
    from weightstream.streamed import Streamed


def nothing(*args: Any, **kwargs: Any) -> None:
    """The hook of a copy whose weights are its own."""


class _Unscriptable(TypeError, AttributeError):
    """For torch.jit.script an error, for those who only ask whether there is a name, none."""


class Hook:
    """A hook of a module whose weights `streamed` brings; a copy of the whole model shares it."""

    def __init__(self, streamed: Streamed) -> None:
        self.streamed = streamed

    @property
    def __name__(self) -> str:
        """What torch.jit.script asks of hooks before it compiles them."""
        raise _Unscriptable(
            f"{type(self).__name__}: a streamed model can't be scripted; jit.trace and torch.export take it"
        )

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        whole = self.streamed.whole
        return self if whole is None or whole.is_copied(memo) else nothing

    __reduce_ex__ = staticmethod(refuse_pickle)
