"""What the bus allows from pinned host memory to the device."""

from __future__ import annotations

import time

import torch

from bench.gpu.place import Place

MIB = 2**20


def bus(place: Place, seconds: float = 1.0) -> float:
    """Bytes a second from pinned host memory to the device, in copies of 256 MiB."""
    size = 256 * MIB if place.is_gpu else 4 * MIB
    source = torch.empty(size, dtype=torch.uint8, pin_memory=place.is_gpu)
    target = torch.empty(size, dtype=torch.uint8, device=place.tensors)
    best = 0.0
    for _ in range(3):
        place.synchronize()
        start, copied = time.perf_counter(), 0
        while time.perf_counter() - start < seconds / 3:
            for _ in range(4):
                target.copy_(source, non_blocking=True)
            place.synchronize()
            copied += 4 * size
        best = max(best, copied / (time.perf_counter() - start))
    return best
