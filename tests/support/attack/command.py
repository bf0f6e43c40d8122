"""The command `weightstream`, called in this process without importing torch."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import weightstream_command

_NATIVE = weightstream_command._native()


def run(arguments: Sequence[str]) -> int:
    """Run the command; gives its exit code."""
    return int(_NATIVE.run_command(["weightstream", *arguments], sys.executable))
