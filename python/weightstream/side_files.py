"""The folder of converted weights: bounded, the least recently used leave first, those in use never.

Each side file is a packed checkpoint, so every byte has a checksum. Whoever uses one holds a shared lock on
its data; it is removed only under an exclusive one. Locks go with their process, so nothing is left behind by
one that was killed.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from weightstream import _native
from weightstream.errors import CheckpointError
from weightstream.memory import parse_memory

BOUND = "WEIGHTSTREAM_CACHE_BYTES"
DATA = "chunks-00001.weightstream"
_DEFAULT_BOUND = "32GiB"
# Which file the data was when all of it was last found right.
_CHECKED = "checked"
_PARTIAL = ".partial"
# A writer that has just made its file may not have locked it yet.
_NEW = 600.0


@dataclass(frozen=True)
class SideFile:
    """Converted weights in use."""

    path: Path
    _held: IO[Any]

    def close(self) -> None:
        """Let go of it: it may be removed from now on."""
        self._held.close()


def folder() -> Path:
    """Where side files lie: $XDG_CACHE_HOME/weightstream/converted, by default under ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "weightstream" / "converted"


def use(path: Path) -> SideFile | None:
    """Hold the side file at `path`; None where there is none, or one that is damaged."""
    with suppress(FileNotFoundError):
        held = (path / DATA).open("rb", buffering=0)
        _hold(held)
        # It may have been removed between opening and locking.
        if os.fstat(held.fileno()).st_nlink and _is_right(path):
            os.utime(path)
            return SideFile(path, held)
        held.close()
    return None


def make(path: Path, write: Callable[[Path, IO[Any]], None]) -> SideFile | None:
    """Put a side file in place at `path` and hold it; None where it doesn't read as it was written.

    `write` gets a folder of its own and the data file there, and makes a packed checkpoint of them. What is
    at `path` already is replaced if it is damaged, and used otherwise.
    """
    own = Path(tempfile.mkdtemp(dir=path.parent, suffix=_PARTIAL))
    try:
        with (own / DATA).open("w+b") as out:
            _hold(out)
            write(own, out)
            _note(own, _identity(own))
            with _placing():
                if found := use(path):  # another process was first
                    return found
                _discard(path)
                os.rename(own, path)
                # Before the writer's own lock goes with `out`.
                return use(path)
    finally:
        shutil.rmtree(own, ignore_errors=True)


@contextmanager
def _placing() -> Iterator[None]:
    """One process at a time: several may have found the same one damaged."""
    with folder().with_suffix(".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _discard(path: Path) -> None:
    """Take a damaged side file away; whoever uses it has it open."""
    own = Path(tempfile.mkdtemp(dir=path.parent, suffix=_PARTIAL))
    with suppress(FileNotFoundError):
        os.rename(path, own)
    shutil.rmtree(own)


def _hold(file: IO[Any]) -> None:
    fcntl.flock(file.fileno(), fcntl.LOCK_SH)


def _is_right(path: Path) -> bool:
    """Whether every byte is as it was written; what nobody has touched since that was seen is not read."""
    try:
        identity = _identity(path)
        with suppress(FileNotFoundError):
            if (path / _CHECKED).read_text() == identity:
                return True
        if _native.count_damages(str(path)):
            return False
    except CheckpointError:
        return False
    _note(path, identity)
    return True


def _identity(path: Path) -> str:
    return _native.Checkpoint.open(str(path)).contents.identity()


def _note(path: Path, identity: str) -> None:
    with tempfile.NamedTemporaryFile("w", dir=path, delete=False) as noted:
        noted.write(identity)
    os.replace(noted.name, path / _CHECKED)


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
    for path in folder().glob("*"):
        with suppress(FileNotFoundError):
            found.append((path.stat().st_mtime, _size(path), path))
    held = sum(length for _, length, _ in found)
    for used_at, length, path in sorted(found):
        abandoned = path.suffix == _PARTIAL and time.time() - used_at > _NEW
        if (abandoned or (held + size > bound and path.suffix != _PARTIAL)) and _remove(path):
            held -= length


def _size(path: Path) -> int:
    # A plain file is what an earlier version left.
    with suppress(FileNotFoundError):
        return (path / DATA if path.is_dir() else path).stat().st_size
    return 0


def _remove(path: Path) -> bool:
    try:
        with (path / DATA if path.is_dir() else path).open("rb") as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            _delete(path)
    except FileNotFoundError:  # its writer was killed before it wrote, or its remover before it had ended
        _delete(path)
    except BlockingIOError:
        return False
    return True


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
