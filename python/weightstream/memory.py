"""What `memory=` may be, and what this machine has free."""

import os
import re
from collections.abc import Callable
from pathlib import Path

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_UNITS |= {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]i?)?(b)?\s*", re.IGNORECASE)
_MOST = 2**63 - 1
_PERCENT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*")


def parse_memory(memory: int | float | str, free: Callable[[], int] | None = None) -> int:
    """Bytes meant by `memory`: an int (bytes), "1.5GiB", "800MB", or a share of free memory (0.5, "50%").

    What is free is asked of `free`, of this machine by default. Raises ValueError for anything else.
    """
    given = memory
    if isinstance(memory, bool) or not isinstance(memory, int | float | str):
        raise ValueError(f"memory: expected bytes, a size such as '1GiB' or a fraction, got {memory!r}")
    if isinstance(memory, str):
        if percent := _PERCENT.fullmatch(memory):
            return parse_memory(float(percent[1]) / 100, free)
        size = _SIZE.fullmatch(memory)
        if size is None or (size[2] is None and "." in size[1]):
            raise ValueError(f"memory: expected a size such as '1.5GiB', '800MB' or '50%', got {memory!r}")
        # Beyond the most it doesn't matter by how much; more digits than a float takes are infinite.
        memory = int(min(float(size[1]) * _UNITS[(size[2] or "").lower()], 2.0**64))
    elif isinstance(memory, float):
        if not 0 < memory <= 1:
            raise ValueError(
                f"memory: a fraction of free memory must be above 0 and at most 1, got {memory!r}"
            )
        memory = int(memory * (free or free_memory)())
    if memory <= 0:
        raise ValueError(f"memory: must be more than 0 bytes, got {memory}")
    if memory > _MOST:
        raise ValueError(f"memory: expected at most 2**63 - 1 bytes, got {given!r}")
    return memory


def format_bytes(count: float) -> str:
    """`count` bytes as a person writes them: "1.50 GiB"."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.2f} {unit}"
        count /= 1024
    return f"{count:.2f} TiB"


def free_memory() -> int:
    """Bytes this process can still take: what the machine has free, or its cgroup (v1 or v2), the lesser."""
    return max(0, min([_machine_free(), *_cgroups_free()]))


def _machine_free() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _cgroups_free(proc: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> list[int]:
    """What each memory cgroup around this process has left; page cache that can go counts as free."""
    try:
        lines = proc.read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            names = ("memory.max", "memory.current", "inactive_file")
            base = root if (root / "cgroup.controllers").exists() else root / "unified"
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            base = root / "memory"
        else:
            continue
        # A limit may lie on any ancestor; inside a container the own path may not be visible at all.
        folder = base / path.lstrip("/")
        for level in [folder, *folder.parents]:
            if (free := _cgroup_free(level, *names)) is not None:
                found.append(free)
            if level == base:
                break
    return found


def _cgroup_free(folder: Path, limit: str, usage: str, cache: str) -> int | None:
    try:
        allowed = (folder / limit).read_text().strip()
        used = int((folder / usage).read_text())
        counters = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    return None if allowed == "max" else int(allowed) - used + int(counters.get(cache, 0))
