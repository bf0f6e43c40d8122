"""The folder of converted weights: bounded, the least recently used leave first, those in use never.

Whoever uses a side file holds a shared lock on it; it is removed only under an exclusive one. Locks go with
their process, so nothing is left behind by one that was killed.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from weightstream.memory import parse_memory

BOUND = "WEIGHTSTREAM_CACHE_BYTES"
_DEFAULT_BOUND = "32GiB"
# A writer that has just made its file may not have locked it yet.
_NEW = 600.0


def folder() -> Path:
    """Where side files lie: $XDG_CACHE_HOME/weightstream/converted, by default under ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "weightstream" / "converted"


def hold(file: IO[Any]) -> None:
    """Keep the file from being removed while it is open."""
    fcntl.flock(file.fileno(), fcntl.LOCK_SH)


def use(path: Path, size: int) -> IO[Any] | None:
    """Open and hold the side file at `path`; None where there is none of `size` bytes."""
    with suppress(FileNotFoundError):
        file = path.open("rb", buffering=0)
        hold(file)
        status = os.fstat(file.fileno())
        # It may have been removed between opening and locking.
        if status.st_nlink and status.st_size == size:
            os.utime(path)
            return file
        file.close()
    return None


def make_room(size: int) -> None:
    """Remove side files that nobody uses until one of `size` bytes fits the bound, least recently used first.

    The bound is $WEIGHTSTREAM_CACHE_BYTES (bytes or "20GiB"), by default 32 GiB.

    Raises ValueError where that isn't a size.
    """
    given = os.environ.get(BOUND, _DEFAULT_BOUND)
    try:
        bound = parse_memory(given)
    except ValueError as error:
        raise ValueError(f"{BOUND}: expected bytes or a size such as '20GiB', got {given!r}") from error
    found = []
    for path in folder().iterdir():
        with suppress(FileNotFoundError):
            status = path.stat()
            found.append((status.st_mtime, status.st_size, path))
    held = sum(length for _, length, _ in found)
    for used_at, length, path in sorted(found):
        abandoned = path.suffix == ".partial" and time.time() - used_at > _NEW
        if (abandoned or (held + size > bound and path.suffix == ".safetensors")) and _remove(path):
            held -= length


def _remove(path: Path) -> bool:
    with suppress(FileNotFoundError, BlockingIOError), path.open("rb") as file:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
        return True
    return False
