"""The one way to read JSON that came with a checkpoint: a regular file of its folder, within limits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from weightstream import _native
from weightstream.errors import CheckpointError

# Larger than any configuration; what it holds takes some twenty times as much in memory.
MOST_BYTES = 16 * 2**20
# Deeper than any configuration; transformers and diffusers go through theirs by recursion.
_DEEPEST = 100

_WORDS: dict[type[Any], str] = {dict: "an object", list: "a list"}


def read_object(folder: Path, name: str) -> dict[str, Any] | None:
    """The JSON object in the file `name` of a checkpoint's folder; None where there is no such file.

    Raises CheckpointError where something else is there, which is never waited for nor read without end.
    """
    value: dict[str, Any] | None = _read_json(folder, name, dict)
    return value


def read_list(folder: Path, name: str) -> list[Any] | None:
    """As `read_object`, for a JSON list."""
    value: list[Any] | None = _read_json(folder, name, list)
    return value


def _read_json(folder: Path, name: str, kind: type[Any]) -> Any:
    file = _native.inside(str(folder), name)
    text = _native.read_small(str(file), MOST_BYTES)
    if text is None:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file}: expected JSON, got something else: {error}") from error
    if not isinstance(value, kind):
        raise CheckpointError(f"{file}: expected {_WORDS[kind]}, got {type(value).__name__}")
    if _is_deeper(value, _DEEPEST):
        raise CheckpointError(f"{file}: expected at most {_DEEPEST} levels, got more")
    return value


def _is_deeper(value: Any, levels: int) -> bool:
    level = [value]
    for _ in range(levels):
        level = [inner for outer in level for inner in _inside(outer)]
    return bool(level)


def _inside(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
