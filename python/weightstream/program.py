"""Exported programs, run by the runtime for phones instead of torch."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch.utils import _pytree as pytree

from weightstream import _native
from weightstream.memory import parse_memory

_DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
    "C64": torch.complex64,
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


class Program:
    """A `.pt2` file that `torch.export.save` wrote, run as a phone runs it: in Rust, its weights streamed.

    Called as the module that was exported; tensors go in and come out by copy, on the CPU.

    >>> program = ws.Program("model.pt2", memory="64MiB")
    >>> logits = program(input_ids)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        memory: int | float | str | None = None,
        *,
        model: str | None = None,
        threads: int | None = None,
    ) -> None:
        """Open the program.

        `memory` is for its weights; None keeps all of them. `model` names one where the file has several.
        """
        budget = None if memory is None else parse_memory(memory)
        self._program = _native.Program.open(os.fspath(path), budget, model, threads)
        inputs, outputs = self._program.structure()
        self._inputs = pytree.treespec_loads(inputs)
        self._outputs = pytree.treespec_loads(outputs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run it once. A program with a KV cache, or other buffers that it writes to, goes on from there."""
        order = self._inputs.child(1).context if self._inputs.num_children == 2 else None
        if order and set(order) == set(kwargs):
            kwargs = {name: kwargs[name] for name in order}
        leaves, spec = pytree.tree_flatten((args, kwargs))
        if spec != self._inputs:
            raise TypeError(f"expected arguments of the structure {self._inputs}, got {spec}")
        results = self._program.run([_to_native(leaf) for leaf in leaves])
        return pytree.tree_unflatten([_from_native(result) for result in results], self._outputs)

    def reset(self) -> None:
        """Forget what earlier runs left in buffers."""
        self._program.reset()

    def seed(self, seed: int) -> None:
        """Begin random numbers anew: those that torch draws on a CPU after `torch.manual_seed(seed)`."""
        self._program.seed(seed)

    def resize(self, memory: int | float | str) -> None:
        """Give the weights another budget, also while the program runs."""
        self._program.resize(parse_memory(memory))

    @property
    def activation_peak(self) -> int:
        """The most bytes that activations and state took at once."""
        return self._program.activation_peak()

    @property
    def stats(self) -> dict[str, Any]:
        """What reading the weights took so far; sizes in bytes, times in nanoseconds."""
        return self._program.stats()


def _to_native(leaf: Any) -> Any:
    if not isinstance(leaf, torch.Tensor):
        return leaf
    if leaf.dtype not in _NAMES:
        raise TypeError(f"expected a tensor of {', '.join(map(str, _NAMES))}, got {leaf.dtype}")
    flat = leaf.detach().cpu().resolve_conj().contiguous().reshape(-1)
    data = flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""
    return _NAMES[leaf.dtype], tuple(leaf.shape), data


def _from_native(result: Any) -> Any:
    if not isinstance(result, tuple):
        return result
    dtype, shape, data = result
    if not data:
        return torch.empty(shape, dtype=_DTYPES[dtype])
    return torch.frombuffer(data, dtype=_DTYPES[dtype]).reshape(shape)
