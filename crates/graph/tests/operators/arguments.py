"""Arguments of operators, of random shapes, dtypes, strides and values, and their form in JSON.

Tensors that are arguments are not stored: this and `tests/operators.rs` make the same of a seed.
"""

import base64
import math
import random

import numpy as np
import torch

DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
    torch.complex64: "C64",
}
REALS = [torch.float32, torch.float32, torch.bfloat16, torch.float16]
INTEGERS = [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8]
MASK = (1 << 64) - 1

#: Seeded anew for each family, so that each can be made alone.
rng = random.Random(0)


def uniform(seed, count):
    """`count` integers of 24 random bits (the SplitMix64 generator)."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed & MASK) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return (z ^ (z >> np.uint64(31))) >> np.uint64(40)


class Argument:
    """A tensor made from a seed: elements of storage between `low` and `high`, seen with strides."""

    def __init__(self, dtype, shape, low, high, strides=None, offset=0, storage=None, special=False):
        self.dtype, self.shape, self.low, self.high = dtype, list(shape), low, high
        self.strides, self.offset = strides, offset
        self.storage = math.prod(shape) if storage is None else storage
        self.special = special
        self.seed = rng.getrandbits(32)

    def tensor(self):
        bits = uniform(self.seed, self.storage)
        if self.dtype.is_floating_point:
            values = bits.astype(np.float64) / (1 << 24) * (self.high - self.low) + self.low
            if self.special:
                for place, value in enumerate([math.nan, math.inf, -math.inf, 0.0]):
                    if place < len(values):
                        values[place] = value
            flat = torch.from_numpy(values).to(
                torch.float32 if self.dtype != torch.float64 else torch.float64
            )
        else:
            values = bits.astype(np.int64) % max(1, self.high - self.low) + self.low
            flat = torch.from_numpy(values)
        flat = flat.to(self.dtype)
        if self.strides is None:
            return flat.reshape(self.shape)
        return torch.as_strided(flat, self.shape, self.strides, self.offset)

    def json(self):
        spec = {
            "dtype": DTYPES[self.dtype],
            "shape": self.shape,
            "seed": self.seed,
            "low": self.low,
            "high": self.high,
        }
        if self.strides is not None:
            spec |= {"strides": self.strides, "offset": self.offset, "storage": self.storage}
        if self.special:
            spec["special"] = True
        return {"tensor": spec}


class Values:
    """A tensor of the values given."""

    def __init__(self, values, dtype):
        self.value = torch.as_tensor(values, dtype=dtype)

    def tensor(self):
        return self.value.clone()

    def json(self):
        return stored(self.value)


def stored(tensor):
    flat = torch.empty(tensor.numel(), dtype=tensor.dtype).copy_(tensor.detach().reshape(-1))
    raw = flat.view(torch.uint8) if flat.numel() else torch.empty(0, dtype=torch.uint8)
    data = base64.b64encode(raw.numpy().tobytes()).decode()
    return {"stored": {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data": data}}


def as_torch(value):
    if isinstance(value, (Argument, Values)):
        return value.tensor()
    if isinstance(value, (list, tuple)):
        return [as_torch(item) for item in value]
    return value


def as_json(value):
    if isinstance(value, (Argument, Values)):
        return value.json()
    if isinstance(value, torch.dtype):
        return {"dtype": DTYPES[value]}
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if isinstance(value, float):
        return {"float": value if math.isfinite(value) else str(value)}
    if isinstance(value, (list, tuple)):
        return [as_json(item) for item in value]
    return value


def results_json(value):
    if isinstance(value, torch.Tensor):
        return stored(value)
    if isinstance(value, (list, tuple)):
        return [results_json(item) for item in value]
    return as_json(value)


def shape(least=0, most=4, largest=5):
    return [rng.randint(1, largest) for _ in range(rng.randint(least, most))]


def tensor(dtype=None, size=None, low=-2.0, high=2.0, strided=True, special=False, expanded=True):
    """A tensor, one time in three with its own strides (transposed, every second element, or expanded)."""
    dtype = dtype or rng.choice(REALS)
    size = shape() if size is None else size
    if not dtype.is_floating_point:
        low, high = int(low) if low != -2.0 else -5, int(high) if high != 2.0 else 6
        if dtype == torch.uint8:
            low = max(low, 0)
        if dtype == torch.bool:
            low, high = 0, 2
    kind = rng.randrange(9) if strided and len(size) > 0 else 9
    if kind == 0 and len(size) > 1:
        order = list(range(len(size)))
        rng.shuffle(order)
        strides, step = [0] * len(size), 1
        for dim in order:
            strides[dim] = step
            step *= size[dim]
        return Argument(dtype, size, low, high, strides, 0, step, special)
    if kind == 1:
        strides, step = [0] * len(size), 2
        for dim in reversed(range(len(size))):
            strides[dim] = step
            step *= size[dim]
        return Argument(dtype, size, low, high, strides, 1, step + 1, special)
    if kind == 2 and expanded:
        gone = rng.randrange(len(size))
        strides, step = [0] * len(size), 1
        for dim in reversed(range(len(size))):
            if dim != gone:
                strides[dim] = step
                step *= size[dim]
        return Argument(dtype, size, low, high, strides, 0, step, special)
    return Argument(dtype, size, low, high, special=special)


def complex_tensor(size):
    """A tensor of complex numbers."""
    return Values(torch.complex(*[tensor(torch.float32, size).tensor() for _ in range(2)]), torch.complex64)


def indices(size, low, high, dtype=torch.int64):
    """Integers from `low` up to but not including `high`."""
    return Argument(dtype, size, low, high)


def broadcast_pair(dtype=None, other=None, low=-2.0, high=2.0):
    """Two tensors whose shapes broadcast."""
    whole = shape()

    def part(of):
        cut = list(of[rng.randint(0, len(of)) :]) if rng.random() < 0.3 else list(of)
        return [1 if rng.random() < 0.2 else size for size in cut]

    return tensor(dtype, part(whole), low, high), tensor(other or dtype, part(whole), low, high)


def any_dim(rank):
    return rng.randrange(-rank, rank) if rank else 0
