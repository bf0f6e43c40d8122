"""The native module (Rust). Everything here releases the GIL where it waits."""

from collections.abc import Sequence
from typing import Any

class WeightstreamError(RuntimeError):
    """Any error of weightstream; the more exact ones below derive from it."""

class CheckpointError(WeightstreamError):
    """A checkpoint that can't be used: names file, tensor, what was expected and what came."""

class BudgetError(WeightstreamError):
    """The memory given is too small; the message names the least that works."""

class ReadError(WeightstreamError):
    """A weight that could not be read: names tensor, file, offset and cause."""

class ClosedError(WeightstreamError):
    """The stream was closed."""

class Tensor:
    """One tensor of a checkpoint, as stored. Nothing of it is read."""

    name: str
    dtype: str  # the format's own word: "BF16", "F32", "I8", "F8_E4M3", ...
    shape: tuple[int, ...]
    file: int  # index into Checkpoint.files
    offset: int  # bytes from the start of that file
    length: int  # bytes

class Checkpoint:
    """An index of a checkpoint, from headers alone."""

    @staticmethod
    def open(path: str) -> Checkpoint:
        """A .safetensors file, a *.safetensors.index.json, or a folder holding either."""
    @property
    def files(self) -> list[str]: ...
    @property
    def metadata(self) -> dict[str, str]: ...
    def tensors(self) -> list[Tensor]:
        """All tensors, in the order of (file, offset)."""

class Parameter:
    """What the stream must place at one address: the bytes of its parts, one after another."""

    def __init__(
        self,
        name: str,
        parts: Sequence[tuple[int, int, int]],  # (index into files, offset, length) in bytes
        itemsize: int,
        unit: int = 0,  # bytes used together: 0 = the whole, a row of an embedding, one expert of a 3-D one
    ) -> None: ...

class Stream:
    """Weights of one model: fixed addresses, a pool of `memory` bytes, a thread that reads ahead."""

    def __init__(self, files: Sequence[str], parameters: Sequence[Parameter], memory: int) -> None: ...
    @staticmethod
    def least_memory(files: Sequence[str], parameters: Sequence[Parameter]) -> int: ...
    def addresses(self) -> list[int]:
        """Where each parameter lies, in the order given."""
    def expect(self, block: int, parameters: Sequence[int]) -> None:
        """A guess for first passes: the block will use these parameters (indices), in about this order."""
    def enter(self, block: int | None = None) -> None:
        """This thread begins block `block` (any small number the caller chose). Raises a pending ReadError.

        None is no part of a pass, and only has leave() tell of what could not be loaded.
        """
    def leave(self, block: int | None = None) -> None:
        """This thread has finished the block. Raises ReadError where a weight that it touched was missing."""
    def fetch(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Make these (address, length) ranges readable now, in few reads. Never needed for correctness."""
    def resident(self, ranges: Sequence[tuple[int, int]]) -> list[int]:
        """Bytes of each (address, length) range that are in memory at this moment."""
    def resize(self, memory: int) -> None: ...
    def stats(self) -> dict[str, Any]:
        """Counters, see `weightstream.Stats`."""
    def events(self, record: bool) -> list[tuple[str, int, int, int, int]]:
        """Record from now on or not; takes what there is (kind, start_ns, end_ns, chunk or block, thread)."""
    def close(self) -> None: ...
    @property
    def closed(self) -> bool: ...
