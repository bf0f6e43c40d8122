"""What a process may do to a streamed model while it lives: signals, threads, closing. Each runs in a process of its own.

A scenario is a function without arguments that opens what it needs and returns where all went as promised; an assertion
that fails, an exception or a death is told. `tests/attack.py --scenarios` runs all of them.
"""

from __future__ import annotations

from collections.abc import Callable

Scenario = Callable[[], None]
SCENARIOS: dict[str, Scenario] = {}


def scenario(function: Scenario) -> Scenario:
    """Add a function to the scenarios, under its name."""
    SCENARIOS[function.__name__] = function
    return function
