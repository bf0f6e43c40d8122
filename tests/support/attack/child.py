"""One case in a forked process with limits, and what became of it."""

from __future__ import annotations

import os
import resource
import select
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass

# A case that takes longer hangs; one that takes more memory is out of bounds.
SECONDS = 20
BYTES = 1 << 30

ACCEPTED, REFUSED, UNNAMED = 0, 1, 2
PANICS = ("panicked at", "PanicException", "a bug in weightstream", "memory allocation of", "stack overflow")


@dataclass
class Outcome:
    """What became of a case: "accepted", "refused", "unnamed" (another library's error), or how it died."""

    word: str
    said: str
    peak: int = 0
    seconds: float = 0.0

    @property
    def died(self) -> bool:
        """Whether that is what must never be."""
        return self.word not in ("accepted", "refused", "unnamed")


def run(case: Callable[[], int], resident: int) -> Outcome:
    """Call `case`, which gives an exit code, in a child of this process of `resident` bytes of memory."""
    with tempfile.TemporaryFile() as words:
        begin = time.monotonic()
        child = os.fork()
        if child == 0:
            _become(case, words.fileno())
        ended = _wait(child)
        if not ended:
            os.kill(child, signal.SIGKILL)
        _, status, usage = os.wait4(child, 0)
        words.seek(0)
        said = words.read(1 << 16).decode(errors="replace")
    outcome = Outcome("", said, usage.ru_maxrss * 1024 - resident, time.monotonic() - begin)
    outcome.word = _judged(ended, status, said, outcome.peak)
    return outcome


def _become(case: Callable[[], int], words: int) -> None:
    code = 70
    try:
        os.dup2(words, 1)
        os.dup2(words, 2)
        # Twice the bound: beyond the first its peak tells, beyond the second there is no memory.
        limit = _address_space() + 2 * BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        code = case()
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
    sys.stderr.flush()
    os._exit(code)


def _wait(child: int) -> bool:
    descriptor = os.pidfd_open(child)
    try:
        return bool(select.select([descriptor], [], [], SECONDS)[0])
    finally:
        os.close(descriptor)


def _judged(ended: bool, status: int, said: str, peak: int) -> str:
    if not ended:
        return "hang"
    if os.WIFSIGNALED(status):
        return f"signal {os.WTERMSIG(status)}"
    if any(word in said for word in PANICS):
        return "panic"
    if peak > BYTES:
        return f"{peak >> 20} MiB"
    code = os.WEXITSTATUS(status)
    return {ACCEPTED: "accepted", REFUSED: "refused", UNNAMED: "unnamed"}.get(code, f"exit code {code}")


def resident() -> int:
    """Bytes of memory that a child of this process begins with."""
    return run(lambda: ACCEPTED, 0).peak


def _address_space() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()
