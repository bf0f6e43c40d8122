"""Which device is meant, and which stream work goes into."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from weightstream import _native


@dataclass(frozen=True, eq=False)
class Device:
    """A GPU as the native part and as torch know it. Two of the same GPU are equal."""

    native: _native.Device
    tensors: torch.device  # where torch has its tensors

    @staticmethod
    def of(device: str | int | torch.device | Device) -> Device:
        """The GPU meant by "cuda", "cuda:1", a number or a torch.device.

        Raises ValueError for another kind of device, WeightstreamError where there is no such GPU.
        """
        if isinstance(device, Device):
            return device
        meant = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
        if meant.type != "cuda":
            raise ValueError(f"device: expected 'cuda', 'cuda:0', ... or 'cpu', got {device!r}")
        torch.cuda.init()  # type: ignore[no-untyped-call]
        number = torch.cuda.current_device() if meant.index is None else meant.index
        return Device(_native.Device.open(number), torch.device("cuda", number))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    @property
    def _identity(self) -> object:
        # Simulated ones are all torch's CPU.
        return self.tensors if self.tensors.type == "cuda" else id(self.native)

    @property
    def stream(self) -> int:
        """The handle of the stream that torch puts this thread's work into now."""
        if self.tensors.type != "cuda":
            return 0
        handle: int = torch._C._cuda_getCurrentRawStream(self.tensors.index)
        return handle

    def free_memory(self) -> int:
        """Bytes of device memory that are free."""
        return self.native.memory()[0]


def simulate(memory: int, granularity: int = 64 * 2**10, seed: int = 1) -> Device:
    """A device made of host memory, whose tensors are CPU tensors: for tests on machines without a GPU.

    Touching a weight that is not on the device is a segmentation fault, as on a GPU it ends the context.
    """
    return Device(_native.Device.simulate(memory, granularity, seed), torch.device("cpu"))
