"""The floor's disk half: a raw direct-I/O sweep of exactly the bytes that a pass must read.

Runs as a process of its own, so that the same throttle applies: `python -m bench.floor BYTES FILE...`
prints the seconds that the sweep took.
"""

import ctypes
import mmap
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import local

READ = 4 << 20  # bytes of one read
IN_FLIGHT = 8  # reads at once
HUGE_PAGE = 2 << 20
ALIGNMENT = 4096  # of offsets and lengths in direct I/O


def ranges(files: Sequence[Path], wanted: int) -> Iterator[tuple[Path, int, int]]:
    """(file, offset, length) of aligned reads that add up to `wanted`; over again where the files end."""
    left = wanted
    while left > 0:
        before = left
        for path in files:
            for offset in range(0, path.stat().st_size // ALIGNMENT * ALIGNMENT, READ):
                length = min(READ, path.stat().st_size // ALIGNMENT * ALIGNMENT - offset, left)
                if length <= 0:
                    return
                yield path, offset, -(-length // ALIGNMENT) * ALIGNMENT
                left -= length
        if left == before:
            raise ValueError(f"nothing to read in {len(files)} files")


def huge_pages() -> memoryview:
    """READ bytes of private memory in huge pages: anything smaller costs a direct read half its speed."""
    memory = mmap.mmap(-1, READ + HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)
    start = -ctypes.addressof(ctypes.c_char.from_buffer(memory)) % HUGE_PAGE
    aligned = memoryview(memory)[start : start + READ]
    aligned[:] = bytes(READ)  # the pages are there before the clock runs
    return aligned


def sweep(files: Sequence[Path], wanted: int) -> float:
    """Seconds to read `wanted` bytes around the page cache into huge-page buffers."""
    opened = {path: os.open(path, os.O_RDONLY | os.O_DIRECT) for path in files}
    buffers = local()

    def read(place: tuple[Path, int, int]) -> int:
        path, offset, length = place
        if not hasattr(buffers, "memory"):
            buffers.memory = huge_pages()
        got = os.preadv(opened[path], [buffers.memory[:length]], offset)
        if got != length:
            raise OSError(f"{path}: read {got} of {length} bytes at {offset}")
        return got

    places = list(ranges(files, wanted))
    try:
        with ThreadPoolExecutor(IN_FLIGHT) as threads:
            start = time.perf_counter()
            sum(threads.map(read, places))
            return time.perf_counter() - start
    finally:
        for descriptor in opened.values():
            os.close(descriptor)


if __name__ == "__main__":
    print(sweep([Path(name) for name in sys.argv[2:]], int(sys.argv[1])))
