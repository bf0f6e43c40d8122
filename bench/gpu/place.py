"""The device that is measured: a GPU, or host memory that stands for one."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from weightstream import cuda

GIB = 2**30


@dataclass(frozen=True)
class Place:
    """Where models run. `device` is for weightstream, `tensors` for torch."""

    device: cuda.Device

    @staticmethod
    def open(simulated: bool, number: int = 0) -> Place:
        return Place(cuda.simulate(4 * GIB) if simulated else cuda.Device.of(number))

    def another(self) -> cuda.Device | None:
        """A second device of the same kind, if there is one."""
        if not self.is_gpu:
            return cuda.simulate(4 * GIB)
        return cuda.Device.of(1 - self.tensors.index) if torch.cuda.device_count() > 1 else None

    @property
    def tensors(self) -> torch.device:
        return self.device.tensors

    @property
    def is_gpu(self) -> bool:
        return self.tensors.type == "cuda"

    def synchronize(self) -> None:
        if self.is_gpu:
            torch.cuda.synchronize(self.tensors)

    def used(self) -> int:
        """Bytes of device memory in use, by whomever."""
        free, total = self.device.native.memory()
        return total - free

    def allocated(self) -> int:
        """The most that torch had allocated since the last `forget_peak`."""
        return torch.cuda.max_memory_allocated(self.tensors) if self.is_gpu else 0

    def forget_peak(self) -> None:
        if self.is_gpu:
            # What another GPU still writes here must be done before memory is given back.
            for number in range(torch.cuda.device_count()):
                torch.cuda.synchronize(number)
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.tensors)

    def seconds(self, call: Callable[[], Any], warm: int, times: int) -> dict[str, float]:
        """How long `call` takes once it has run `warm` times: the median and the least of `times` runs."""
        for _ in range(warm):
            call()
        measured = []
        for _ in range(times):
            self.synchronize()
            start = time.perf_counter()
            call()
            self.synchronize()
            measured.append(time.perf_counter() - start)
        measured.sort()
        return {"median": measured[len(measured) // 2], "least": measured[0]}
