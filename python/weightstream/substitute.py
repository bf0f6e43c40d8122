"""Functions of a library that one thread finds replaced for a while; all others find them as they are."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

Owner = ModuleType | type[Any]

_lock = threading.Lock()
_standing: dict[tuple[Owner, str], _Substitute] = {}


class _Substitute:
    """In the function's place as long as any thread has it replaced."""

    def __init__(self, owner: Owner, name: str) -> None:
        self.original = getattr(owner, name)
        self.users = 0
        self.here = threading.local()
        self._owner, self._name = owner, name
        self._own = vars(owner).get(name)  # None where it is inherited
        setattr(owner, name, self)

    def remove(self) -> None:
        if self._own is None:
            delattr(self._owner, self._name)
        else:
            setattr(self._owner, self._name, self._own)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        ours = getattr(self.here, "ours", None)
        return ours(*args, **kwargs) if ours else self.original(*args, **kwargs)


@contextmanager
def substituted(owner: Owner, name: str, ours: Callable[..., Any]) -> Iterator[None]:
    """Have this thread find `ours` where it looks for the function `name` of a module or class."""
    place = (owner, name)
    with _lock:
        substitute = _standing.get(place)
        if substitute is None:
            substitute = _standing[place] = _Substitute(owner, name)
        substitute.users += 1
    before = getattr(substitute.here, "ours", None)
    substitute.here.ours = ours
    try:
        yield
    finally:
        substitute.here.ours = before
        with _lock:
            substitute.users -= 1
            if substitute.users == 0:
                _standing.pop(place).remove()
