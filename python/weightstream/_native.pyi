"""The native module (Rust). Everything here releases the GIL where it waits."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

class WeightstreamError(RuntimeError):
    """Any error of weightstream; the more exact ones below derive from it."""

class CheckpointError(WeightstreamError):
    """A checkpoint that can't be used: names file, tensor, what was expected and what was got."""

class BudgetError(WeightstreamError):
    """The memory given is too small; the message names the least that works."""

class ReadError(WeightstreamError):
    """A weight that could not be read: names tensor, file, offset and cause."""

class WriteError(WeightstreamError):
    """A weight that was written to: names the tensor. The write is undone."""

class ClosedError(WeightstreamError):
    """The stream was closed."""

def statistics() -> list[tuple[str, str, str, str]]:
    """(name, unit, "sum" or "largest" over several devices, meaning) of every counter of stats()."""

def use_signal(number: int) -> None:
    """Send the main thread this signal when look() may have something to raise."""

def ensure_fault_handler() -> None:
    """Put the handler of touches in front again, and unblock its signal in this thread."""

def look(only: bool) -> None:
    """Raise what this thread's use of weights outside of blocks led to: ReadError, WriteError, ClosedError.

    only: no other thread of Python's may have had it used by a library's worker.
    """

class ProgramError(WeightstreamError):
    """An exported program that can't be read or run: names node, operator and what was expected."""

class Tensor:
    """One tensor of a checkpoint, as stored. Nothing of it is read."""

    name: str
    dtype: str  # the format's own word: "BF16", "F32", "I8", "F8_E4M3", ...
    shape: tuple[int, ...]
    file: int  # index into Checkpoint.contents
    offset: int  # bytes from the start of that content
    length: int  # bytes

class Contents:
    """What files hold, as tensors have it: bytes, each of which is at some offset in one of the contents."""

    @staticmethod
    def plain(path: str) -> Contents:
        """One content: the file as it is."""
    @property
    def paths(self) -> list[str]:
        """All files."""
    def identity(self) -> str:
        """A digest of which files these are: device, inode, length, times, and samples of what is in them.

        Raises CheckpointError where one can't be read.
        """
    def __len__(self) -> int: ...
    def joined(self, other: Contents) -> Contents:
        """These, and behind them the others."""
    def cast(self, parts: Sequence[tuple[int, int, int]], dtype: str) -> list[tuple[int, int, int]] | None:
        """Where the parts' elements are to be had as `dtype`; None where they are not."""
    def read(self, parts: Sequence[tuple[int, int, int]], address: int, length: int) -> None:
        """Write the parts' bytes one after another to memory of `length` bytes at `address`.

        Raises ReadError where a file can't be read, or is damaged.
        """

class Checkpoint:
    """An index of a checkpoint, from headers alone."""

    @staticmethod
    def open(path: str) -> Checkpoint:
        """A .safetensors file, a *.safetensors.index.json, or a folder holding either."""
    @property
    def contents(self) -> Contents: ...
    @property
    def metadata(self) -> dict[str, str]: ...
    @property
    def notes(self) -> list[str]:
        """What is odd about its files and does no harm."""
    def tensors(self) -> list[Tensor]:
        """All tensors, in the order of (file, offset)."""

class Parameter:
    """What the stream must place at one address: the bytes of its parts, one after another."""

    def __init__(
        self,
        name: str,
        parts: Sequence[tuple[int, int, int]],  # (index into the contents, offset, length) in bytes
        itemsize: int,
        unit: int = 0,  # bytes used together: 0 = the whole, a row of an embedding, one expert of a 3-D one
    ) -> None: ...

class Budget:
    """Memory that several streams share."""

    def __init__(self, memory: int) -> None: ...
    def memory(self) -> int: ...
    def least(self) -> int:
        """Bytes without which the streams that are open don't work."""
    def resize(self, memory: int) -> None: ...

class Governor:
    """Has the memory of a stream or a budget follow the pressure on this process' memory, until stopped."""

    @staticmethod
    def of_stream(stream: Stream, least: int, most: int) -> Governor: ...
    @staticmethod
    def of_budget(budget: Budget, least: int, most: int) -> Governor: ...
    def stop(self) -> None: ...

class Stream:
    """Weights of one model: fixed addresses, a pool of `memory` bytes, a thread that reads ahead.

    With a budget, its memory is a share of that in proportion to `priority`, and `memory` does not count.
    """

    def __init__(
        self,
        contents: Contents,
        parameters: Sequence[Parameter],
        memory: int,
        budget: Budget | None = None,
        priority: float = 1.0,
        writable: Sequence[int] = (),  # indices of parameters that keep what is written to them
    ) -> None: ...
    @staticmethod
    def least_memory() -> int: ...
    def addresses(self) -> list[int]:
        """Where each parameter lies, in the order given."""
    def expect(self, block: int, parameters: Sequence[int]) -> None:
        """A guess for first passes: the block will use these parameters (indices), in about this order."""
    def enter(self, block: int | None = None) -> None:
        """This thread begins block `block` (any small number the caller chose). Raises a pending ReadError.

        None is no part of a pass, and only has leave() tell of what could not be loaded.
        """
    def leave(self, block: int | None = None) -> bool:
        """This thread has finished the block; whether that was its outermost.

        Raises ReadError where a weight that it touched was missing, WriteError where one was written to.
        """
    def begin(self, block: int) -> None:
        """This thread begins a block; as enter(), but nothing is told of weights that were missing."""
    def end(self, block: int) -> None:
        """This thread is through with a block that it has begun."""
    def mark(self) -> int:
        """A number for check(), before weights are used where enter() and leave() can't be called."""
    def check(self, mark: int | None = None) -> None:
        """Raise what leave() would since `mark`, or what this thread was not told of."""
    def fetch(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Make these (address, length) ranges readable now, in few reads. Never needed for correctness."""
    def announce(self, ranges: Sequence[tuple[int, int]]) -> None:
        """These (address, length) ranges will be used soon, in this order; returns at once."""
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

def read_small(path: str, limit: int) -> bytes | None:
    """The bytes of a regular file that has at most `limit` of them; None where there is nothing.

    Raises CheckpointError, at once, where something else is there, or the file is larger or can't be read.
    """

def starts_with(path: str, start: bytes) -> bool:
    """Whether a regular file is there that begins with these bytes."""

def found_at(path: str) -> str:
    """What is at `path`, and what to do with it: for errors about paths that are not what was expected."""

def inside(folder: str, name: str) -> Path:
    """The path of what is called `name` in a checkpoint's folder; it need not be there.

    Raises CheckpointError where the name, or a link behind it, leads out of the folder and its hub's cache.
    """

def seal(folder: str, tensors: Sequence[tuple[str, str, Sequence[int], int]]) -> None:
    """Make a packed checkpoint of the image of its weights, chunks-00001.weightstream in `folder`.

    Tensors are (name, dtype, shape, offset), offsets multiples of 64.

    Raises WeightstreamError where the image can't be read.
    """

def count_damages(path: str) -> int:
    """Read all of the packed checkpoint at `path`, and count the pieces that are not as they were written.

    Raises CheckpointError where it can't be opened.
    """

def run_command(arguments: Sequence[str], executable: str) -> int:
    """Run the command `weightstream`; the first argument is its own name. Returns its exit code."""

class Program:
    """A program that torch.export.save wrote. Tensors are (dtype, shape, bytes); numbers are numbers."""

    @staticmethod
    def open(
        path: str, memory: int | None = None, model: str | None = None, threads: int | None = None
    ) -> Program: ...
    def structure(self) -> tuple[str, str]:
        """The serialised pytrees of inputs and outputs."""
    def inputs(self) -> list[str]: ...
    def outputs(self) -> list[str]: ...
    def run(self, inputs: Sequence[Any]) -> list[Any]: ...
    def reset(self) -> None: ...
    def seed(self, seed: int) -> None: ...
    def resize(self, memory: int) -> None: ...
    def activation_peak(self) -> int: ...
    def stats(self) -> dict[str, Any]: ...

class Device:
    """A GPU, or a simulated one."""

    @staticmethod
    def open(number: int) -> Device:
        """The GPU of this number. Raises WeightstreamError where there is none, or no driver."""
    @staticmethod
    def simulate(memory: int, granularity: int = 65536, seed: int = 1) -> Device:
        """A device of `memory` bytes of host memory; work is done in an order that `seed` decides."""
    @property
    def name(self) -> str: ...
    @property
    def is_simulated(self) -> bool: ...
    def memory(self) -> tuple[int, int]:
        """Bytes of device memory: free, total."""
    def broken_rules(self) -> list[str]:
        """What a simulated device found to be against its rules."""

class DeviceStream:
    """Weights of one model at fixed addresses of a device; `blocks` are lists of indices of parameters."""

    def __init__(
        self,
        contents: Contents,
        parameters: Sequence[Parameter],
        blocks: Sequence[Sequence[int]],
        device: Device,
        memory: int,
        host_memory: int,
    ) -> None: ...
    def addresses(self) -> list[int]:
        """Where each parameter lies on the device, in the order given."""
    def dlpack(self, index: int) -> Any:
        """A DLPack capsule of a parameter's bytes."""
    def begin_pass(self) -> None: ...
    def end_pass(self) -> None: ...
    def enter(self, block: int, stream: int) -> int:
        """Have a block's weights at their addresses, and `stream` wait for them; returns a ticket.

        Raises ReadError where one can't be read, BudgetError where they don't fit beside what this thread
        holds.
        """
    def hold(self, parameters: Sequence[int], stream: int) -> int:
        """Like enter for some parameters, as no part of a pass."""
    def leave(self, ticket: int, stream: int) -> None:
        """What needed the ticket's weights is launched into `stream`."""
    def keep(self, parameters: Sequence[int], stream: int) -> None:
        """These stay on the device from now on. Raises BudgetError where they don't fit."""
    def resize(self, memory: int) -> None: ...
    def stats(self) -> dict[str, Any]:
        """Counters, see `weightstream.Stats`."""
    def events(self, record: bool) -> list[tuple[str, int, int, int, int]]:
        """As `Stream.events`, with copies to the device."""
    def close(self) -> None: ...
    @property
    def closed(self) -> bool: ...

class Faults:
    """For tests only: reads of all streams opened while it is installed go wrong as told."""

    def __init__(self) -> None: ...
    def install(self, *, coded: bool | None = None) -> None:
        """Streams opened from now on have these faults; `coded`: weights stay as they are stored."""
    @staticmethod
    def uninstall() -> None: ...
    def add(
        self,
        effect: str,  # "fail", "short", "delay", "corrupt"
        *,
        errno: int = 5,
        seconds: float = 0.0,
        file: int | None = None,
        start: int = 0,
        end: int = ...,
        skip: int = 0,
        times: int | None = None,
    ) -> int:
        """Add a fault: it hits reads of the bytes from `start` to `end`, `times` times after `skip`."""
    def remove(self, number: int) -> None: ...
    def clear(self) -> None: ...
    @property
    def hits(self) -> int:
        """How often faults took effect."""
