"""What holds while a library makes a model of a folder that someone else has written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from weightstream import _native
from weightstream.errors import CheckpointError, WeightstreamError
from weightstream.proportion import in_proportion
from weightstream.small_file import MOST_BYTES

# What is an error of the caller's, or of the machine.
_NOT_OF_THE_CHECKPOINT = (ImportError, MemoryError, OSError, WeightstreamError)
# An index of a million tensors, or the largest vocabularies.
_LARGE = 100 * 2**20


@contextmanager
def handed_over(path: Path, config: Mapping[str, Any], given: Mapping[str, Any]) -> Iterator[None]:
    """Let a library read the folder or file at `path`, and raise CheckpointError for what is wrong with it.

    Libraries take on trust what lies in a folder, and what it says: a damaged configuration ends in whatever
    error is met first, a pipe is waited for.

    Args:
        path: what the library reads.
        config: the configuration that lies in it.
        given: arguments of the caller's own; errors about them stay what they are.
    """
    if path.is_dir():
        _check_files(path)
    try:
        with in_proportion(path, config):
            yield
    except _NOT_OF_THE_CHECKPOINT as error:
        if type(error) is OSError and error.errno is None:
            # A library's words for files that it looked for, where the system itself has nothing to say.
            raise CheckpointError(f"{path}: {error}") from error
        raise
    except Exception as error:
        said = str(error)
        named = any(re.search(rf"\b{name}\b", said) for name in given)
        if named and isinstance(error, TypeError | ValueError):
            raise
        said = f"{type(error).__name__}: {said}"
        raise CheckpointError(f"{path}: no model can be made of it: {said}") from error


def _check_files(folder: Path) -> None:
    """Raise CheckpointError where what a library may read is no file, too large, or lies elsewhere."""
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and not entry.is_symlink() and entry.suffix != ".json":
            continue
        file = _native.inside(str(folder), entry.name)
        if file.exists() and not file.is_file():
            raise CheckpointError(f"{file}: expected a regular file, got something else")
        limit = _LARGE if "tokenizer" in file.name or file.name.endswith(".index.json") else MOST_BYTES
        if file.suffix == ".json" and file.exists() and (length := file.stat().st_size) > limit:
            raise CheckpointError(f"{file}: expected at most {limit} bytes, got {length}")
