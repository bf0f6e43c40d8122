"""A stand-in for the native module while it isn't built: same interface, all read at once."""

import ctypes
import json
import mmap
import struct
from pathlib import Path

_SIZES = {"BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "I16": 2, "U16": 2, "F16": 2}
_SIZES |= {"BF16": 2, "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8, "C64": 8}
_libc = ctypes.CDLL(None, use_errno=True)


class WeightstreamError(RuntimeError):
    pass


class CheckpointError(WeightstreamError):
    pass


class BudgetError(WeightstreamError):
    pass


class ReadError(WeightstreamError):
    pass


class ClosedError(WeightstreamError):
    pass


class Tensor:
    def __init__(self, name, dtype, shape, file, offset, length):
        self.name, self.dtype, self.shape = name, dtype, tuple(shape)
        self.file, self.offset, self.length = file, offset, length


class Checkpoint:
    def __init__(self, files):
        self.files = [str(file) for file in files]
        self.metadata = {}
        self._tensors = []
        for number, file in enumerate(files):
            with open(file, "rb") as stream:
                (length,) = struct.unpack("<Q", stream.read(8))
                header = json.loads(stream.read(length))
            self.metadata |= header.pop("__metadata__", {})
            found = [
                Tensor(name, t["dtype"], t["shape"], number, 8 + length + t["data_offsets"][0],
                       t["data_offsets"][1] - t["data_offsets"][0])
                for name, t in header.items()
            ]  # fmt: skip
            self._tensors += sorted(found, key=lambda tensor: tensor.offset)

    @staticmethod
    def open(path):
        path = Path(path)
        if path.is_dir():
            indexes = list(path.glob("*.safetensors.index.json"))
            if not indexes:
                files = sorted(path.glob("*.safetensors"))
                if not files:
                    raise CheckpointError(f"{path}: no safetensors here")
                return Checkpoint(files)
            path = indexes[0]
        if path.name.endswith(".index.json"):
            names = sorted(set(json.loads(path.read_text())["weight_map"].values()))
            return Checkpoint([path.parent / name for name in names])
        return Checkpoint([path])

    def tensors(self):
        return list(self._tensors)


class Parameter:
    def __init__(self, name, parts, itemsize, unit=0):
        self.name, self.parts, self.itemsize, self.unit = name, list(parts), itemsize, unit
        self.length = sum(length for _, _, length in self.parts)


class Stream:
    alive = 0

    def __init__(self, files, parameters, memory):
        if memory < (least := self.least_memory(files, parameters)):
            raise BudgetError(f"memory: {memory} bytes are too few, the least that works is {least}")
        self._memory = memory
        self._closed = False
        self._bytes = sum(parameter.length for parameter in parameters)
        self._addresses, self._maps, self.calls = [], [], []
        self._recording, self._events = False, []
        for parameter in parameters:
            held = mmap.mmap(-1, max(1, parameter.length))
            position = 0
            for file, offset, length in parameter.parts:
                with open(files[file], "rb") as stream:
                    stream.seek(offset)
                    held[position : position + length] = stream.read(length)
                position += length
            address = ctypes.addressof(ctypes.c_char.from_buffer(held))
            _libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(len(held)), 1)
            self._maps.append(held)
            self._addresses.append(address)
        Stream.alive += 1

    def __del__(self):
        if hasattr(self, "_events"):
            Stream.alive -= 1

    @staticmethod
    def least_memory(files, parameters):
        return 64 * 1024

    def addresses(self):
        return list(self._addresses)

    def _check(self):
        if self._closed:
            raise ClosedError("the stream was closed")

    def enter(self, block):
        self._check()
        self.calls.append(("enter", block))

    def leave(self, block):
        self._check()
        self.calls.append(("leave", block))
        if self._recording:
            self._events.append(("block", len(self.calls) * 10, len(self.calls) * 10 + 5, block, 1))

    def fetch(self, ranges):
        self.calls.append(("fetch", list(ranges)))

    def resize(self, memory):
        self._memory = memory

    def stats(self):
        passes = sum(call == ("leave", 0) for call in self.calls)
        return {
            "budget": self._memory, "used": self._memory, "model_bytes": self._bytes, "chunk_bytes": 4 << 20,
            "resident_bytes": self._bytes, "passes": passes, "bytes_read": self._bytes, "reads": 1, "faults": 0,
            "stall_ns": 0, "source": "stand-in", "pass_bytes": self._bytes, "pass_ns": 1000, "pass_stall_ns": 0,
            "read_rate": 1e9, "retries": 0, "errors": 0, "least": 65536, "something_new": 1,
        }  # fmt: skip

    def events(self, record):
        self._recording, taken, self._events = record, self._events, []
        return taken

    def close(self):
        self._closed = True

    @property
    def closed(self):
        return self._closed
