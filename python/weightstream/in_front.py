"""Python's faulthandler leaves weightstream's handler of touches in front.

`faulthandler.enable` puts its own handler there, which shows a traceback at the next touch of a weight, and
`disable` what was there before it was enabled, often none, with which the next touch ends the process.
Neither tells anybody, so both are wrapped.
"""

from __future__ import annotations

import faulthandler
import functools
from collections.abc import Callable
from typing import Any

from weightstream import _native

_MARK = "leaves_weightstream_in_front"


def stay_in_front() -> None:
    """Wrap faulthandler's functions, once."""
    for name in ("enable", "disable"):
        change = getattr(faulthandler, name)
        if not hasattr(change, _MARK):
            setattr(faulthandler, name, _then_in_front(change))


def _then_in_front(change: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(change)
    def changed(*args: Any, **kwargs: Any) -> Any:
        try:
            return change(*args, **kwargs)
        finally:
            _native.ensure_fault_handler()

    setattr(changed, _MARK, True)
    return changed
