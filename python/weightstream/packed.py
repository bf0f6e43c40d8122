"""Packed folders, which libraries can't open themselves: see docs/format.md."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

_CHOICES = ("variant", "subfolder", "use_safetensors")


def is_packed(folder: Path) -> bool:
    """Whether `folder` is a packed checkpoint."""
    return (folder / "manifest.weightstream").exists()


def refuse_choice_of_files(path: Path, kwargs: Mapping[str, Any]) -> None:
    """Raise TypeError where one of several checkpoints is asked for, but `path` is one."""
    for name in _CHOICES:
        if kwargs.get(name):
            raise TypeError(
                f"{path}: expected no {name!r}, got {kwargs[name]!r}: this is a single checkpoint"
            )
