"""A model's config.json, checked before a library reads it for itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from weightstream.errors import CheckpointError, WeightstreamError
from weightstream.small_file import read_object

NAME = "config.json"


def read_config(folder: Path) -> dict[str, Any] | None:
    """What config.json says, and None where there is none.

    Raises CheckpointError where it, or a file that transformers reads because of it, is no configuration.
    """
    config = read_object(folder, NAME)
    if config is None:
        return None
    for name in _names(folder, config, "configuration_files"):
        read_object(folder, name)
    _names(folder, config, "architectures")
    return config


def _names(folder: Path, config: dict[str, Any], key: str) -> list[str]:
    names = config.get(key) or []
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        return names
    raise CheckpointError(f"{folder / NAME}: {key}: expected a list of names, got {names!r:.100}")


@contextmanager
def refused_by(library: str, file: Path) -> Iterator[None]:
    """Raise what `library` has against `file` as CheckpointError, in its own words.

    Libraries take what a configuration says on trust: a damaged one ends in whatever error is met first.
    """
    try:
        yield
    except (ImportError, WeightstreamError):
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        raise CheckpointError(f"{file}: {library} can't make a model of it: {said}") from error
