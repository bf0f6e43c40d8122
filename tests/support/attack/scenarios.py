"""What a process may do to a streamed model while it lives: signals, threads, closing.

A scenario is a function without arguments that opens what it needs and returns where all went as promised.
`tests/attack.py --scenarios` runs each in a process of its own, and tells of assertions that fail, exceptions
and deaths.
"""

from __future__ import annotations

from collections.abc import Callable

Scenario = Callable[[], None]
SCENARIOS: dict[str, Scenario] = {}


def scenario(function: Scenario) -> Scenario:
    """Add a function to the scenarios, under its name."""
    SCENARIOS[function.__name__] = function
    return function
