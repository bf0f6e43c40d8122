"""A model's config.json, checked before a library reads it for itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from weightstream.errors import CheckpointError
from weightstream.small_file import read_object

NAME = "config.json"


def read_config(folder: Path) -> dict[str, Any] | None:
    """What the config.json of `folder` says; None where there is none.

    Raises CheckpointError where it, or a file that transformers reads because of it, is no configuration.
    """
    config = read_object(folder, NAME)
    if config is None:
        return None
    for name in _names(folder, config, "configuration_files"):
        read_object(folder, name)
    _names(folder, config, "architectures")
    name = config.get("_class_name", "")
    if not isinstance(name, str):
        raise CheckpointError(f"{folder / NAME}: _class_name: expected a name, got {name!r:.100}")
    return config


def _names(folder: Path, config: dict[str, Any], key: str) -> list[str]:
    names = config.get(key) or []
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        return names
    raise CheckpointError(f"{folder / NAME}: {key}: expected a list of names, got {names!r:.100}")
