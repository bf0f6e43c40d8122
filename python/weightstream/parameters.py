"""Which stored tensor belongs to which parameter, and how a parameter comes to lie at a streamed address."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from weightstream import _native, side_files
from weightstream.budget import Share
from weightstream.convert import convert
from weightstream.deferred import Deferred, Source
from weightstream.errors import CheckpointError, WeightstreamError
from weightstream.freezing import Freezing
from weightstream.gather import permuted
from weightstream.in_front import stay_in_front
from weightstream.protection import keep_unshared, protect_tensor
from weightstream.side_files import SideFile
from weightstream.slices import is_sliced
from weightstream.stored import Stored

# Smaller buffers are loaded: modules write to theirs (running statistics), and each would take a chunk.
SMALL_BUFFER = 64 * 2**10


@dataclass
class Slot:
    """A parameter or persistent buffer of a module, with all the places where it is tied."""

    tensor: torch.Tensor
    names: list[str] = field(default_factory=list)
    owners: list[tuple[nn.Module, str]] = field(default_factory=list)

    @property
    def is_parameter(self) -> bool:
        """Whether this is a parameter rather than a buffer."""
        return isinstance(self.tensor, nn.Parameter)

    @property
    def is_written(self) -> bool:
        """Whether modules may write to it by themselves: any buffer, tables whose rows are renormalised."""
        return not self.is_parameter or any(
            isinstance(owner, nn.Embedding | nn.EmbeddingBag) and owner.max_norm is not None
            for owner, _ in self.owners
        )

    @property
    def order(self) -> list[int]:
        """The dimensions as they lie in memory, the one of the largest steps first."""
        steps = self.tensor.stride()
        wide = [dim for dim, size in enumerate(self.tensor.shape) if size > 1]
        by_step = iter(sorted(wide, key=lambda dim: -steps[dim]))
        return [next(by_step) if size > 1 else dim for dim, size in enumerate(self.tensor.shape)]

    @property
    def is_dense(self) -> bool:
        """Whether the tensor's elements are all that lies in its range of memory."""
        step = 1
        for dim in reversed(self.order):
            if self.tensor.shape[dim] > 1:
                if self.tensor.stride(dim) != step:
                    return False
                step *= self.tensor.shape[dim]
        return True

    def put(self, tensor: torch.Tensor) -> None:
        """Give all places `tensor`, whose dimensions are in `order`, in place of what they hold."""
        tensor = self._in_places_of_dimensions(tensor)
        plain = type(self.tensor) in (torch.Tensor, nn.Parameter)
        if plain and not self.tensor.is_meta and not self.tensor.is_inference():
            # The same object goes on, for whoever else holds it.
            self.tensor.data = tensor
            return
        if self.is_parameter:
            tensor = nn.Parameter(tensor, requires_grad=self.tensor.requires_grad)
        for owner, name in self.owners:
            (owner._parameters if self.is_parameter else owner._buffers)[name] = tensor  # type: ignore[assignment]
            if isinstance(owner, nn.RNNBase):
                owner._init_flat_weights()
        self.tensor = tensor

    def _in_places_of_dimensions(self, tensor: torch.Tensor) -> torch.Tensor:
        if self.is_dense:
            return tensor.as_strided(self.tensor.shape, self.tensor.stride())
        return tensor.permute([self.order.index(dim) for dim in range(tensor.dim())])


def slots(module: nn.Module) -> list[Slot]:
    """Every parameter and persistent buffer of `module`, once each, in the order of its state_dict."""
    found: dict[int, Slot] = {}
    for path, owner in module.named_modules(remove_duplicate=False):
        for name, tensor in _own_tensors(owner):
            slot = found.setdefault(id(tensor), Slot(tensor))
            slot.names.append(f"{path}.{name}" if path else name)
            if (owner, name) not in slot.owners:
                slot.owners.append((owner, name))
    return list(found.values())


def _own_tensors(owner: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    for name, param in owner._parameters.items():
        if param is not None:
            yield name, param
    for name, buffer in owner._buffers.items():
        if buffer is not None and name not in owner._non_persistent_buffers_set:
            yield name, buffer


def match(module: nn.Module, tensors: Mapping[str, Source], strict: bool) -> list[tuple[Slot, Source]]:
    """Pair each slot of `module` with its tensor by name.

    Raises CheckpointError with all that doesn't fit, in the words of `load_state_dict`.
    """
    missing, wrong, pairs = [], [], []
    other_dtype: dict[tuple[torch.dtype, torch.dtype], list[str]] = {}
    used: set[str] = set()
    for slot in slots(module):
        present = [name for name in slot.names if name in tensors]
        used.update(present)
        if not present:
            if slot.tensor.is_meta or (strict and not _may_be_missing(slot)):
                missing.append(slot.names[0])
            continue
        # load_state_dict copies tied names one after another: the last one stays.
        name = present[-1]
        stored, wanted = tensors[name], tuple(slot.tensor.shape)
        if stored.shape != wanted:
            wrong.append(
                f"size mismatch for {name}: copying a param with shape {list(stored.shape)} from checkpoint, "
                f"the shape in current model is {list(wanted)}."
            )
        elif problem := _unfit(slot, name):
            wrong.append(problem)
        elif not _takes_dtype(slot, stored):
            other_dtype.setdefault((stored.dtype, slot.tensor.dtype), []).append(name)
        else:
            pairs.append((slot, stored))
    for (stored_dtype, dtype), names in other_dtype.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        wrong.append(
            f"dtype mismatch for {names[0]}{more}: the checkpoint has {stored_dtype}, the module {dtype}; "
            f"make the module match first: module.to({stored_dtype})."
        )
    unexpected = [name for name in tensors if name not in used] if strict else []
    if error := failure(type(module).__name__, unexpected, missing, wrong):
        raise error
    return pairs


def refuse_unrelated(module: nn.Module, names: Iterable[str]) -> None:
    """Raise CheckpointError where a checkpoint with tensors of these `names` has none for `module`."""
    expected = next((slot.names[0] for slot in slots(module)), None)
    got = next(iter(names), None)
    if expected is not None:
        raise CheckpointError(
            f"{type(module).__name__}: expected a checkpoint with one of its weights at least ({expected!r}, "
            f"...), got one with none of them ({got!r}, ...): prefix= and keys= give names another form"
        )


def failure(
    class_name: str, unexpected: Iterable[str], missing: Iterable[str], wrong: Iterable[str]
) -> CheckpointError | None:
    """What `load_state_dict` would say of a checkpoint that doesn't fit; None where it does."""
    errors = [*_listed("Unexpected", unexpected), *_listed("Missing", missing), *wrong]
    lines = "".join(f"\n\t{error}" for error in errors)
    return CheckpointError(f"Error(s) in loading state_dict for {class_name}:{lines}") if errors else None


def _listed(kind: str, names: Iterable[str]) -> list[str]:
    quoted = ", ".join(f'"{name}"' for name in names)
    return [f"{kind} key(s) in state_dict: {quoted}. "] if quoted else []


def _may_be_missing(slot: Slot) -> bool:
    """As load_state_dict has it: checkpoints from before the counter existed lack it."""
    return all(
        isinstance(owner, nn.modules.batchnorm._NormBase) and name == "num_batches_tracked"
        for owner, name in slot.owners
    )


def _unfit(slot: Slot, name: str) -> str | None:
    kind = type(slot.tensor)
    if kind not in (torch.Tensor, nn.Parameter):
        return f"{name} is a {kind.__name__}; only plain tensors can be streamed."
    if slot.tensor.device.type not in ("cpu", "meta"):
        return f"{name} is on {slot.tensor.device}; only modules on the CPU can be streamed."
    return None


def _takes_dtype(slot: Slot, stored: Source) -> bool:
    """A tensor without memory takes the checkpoint's dtype, as load_state_dict(assign=True) has it."""
    return stored.dtype == slot.tensor.dtype or slot.tensor.is_meta or is_small_buffer(slot, stored)


def is_small_buffer(slot: Slot, stored: Source) -> bool:
    """Whether the buffer is loaded for good rather than streamed."""
    return not slot.is_parameter and stored.nbytes < SMALL_BUFFER


def settle(
    pairs: Sequence[tuple[Slot, Source]], contents: _native.Contents
) -> tuple[list[tuple[Slot, Stored]], _native.Contents, SideFile | None]:
    """Convert what is not stored as the module wants it.

    Returns pairs, the contents in which all lies, and a side file among them, which stays until it is closed.
    A tensor's dimensions are in its slot's order there.
    """
    pairs = [(slot, permuted(source, slot.order)) for slot, source in pairs]
    deferred = {slot.names[0]: source for slot, source in pairs if isinstance(source, Deferred)}
    if not deferred:
        return [(slot, source) for slot, source in pairs if isinstance(source, Stored)], contents, None
    try:
        side, converted = convert(deferred, contents)
    except OSError as error:
        raise CheckpointError(
            f"{side_files.folder()}: expected a folder that takes the converted weights ({error}); "
            "make room, or set XDG_CACHE_HOME to another place"
        ) from error
    settled = []
    for slot, source in pairs:
        if isinstance(source, Deferred):
            placed = converted.tensors[slot.names[0]]
            parts = tuple((len(contents), offset, length) for _, offset, length in placed.parts)
            source = Stored(placed.dtype, placed.shape, parts)
        settled.append((slot, source))
    return settled, contents.joined(converted.contents), side


def place(
    pairs: Sequence[tuple[Slot, Stored]],
    contents: _native.Contents,
    memory: int | Share,
    freezing: Freezing,
) -> tuple[_native.Stream, list[Slot]]:
    """Open a stream for `pairs` and bind each slot to its address; returns the stream and what it streams.

    Raises BudgetError, with nothing changed, where `memory` is too little.
    """
    streamed = [
        (slot, stored) for slot, stored in pairs if stored.nbytes and not is_small_buffer(slot, stored)
    ]
    parameters = [
        _native.Parameter(slot.names[0], list(stored.parts), stored.dtype.itemsize, _unit(slot, stored))
        for slot, stored in streamed
    ]
    written = [index for index, (slot, _) in enumerate(streamed) if slot.is_written]
    stay_in_front()
    if isinstance(memory, Share):
        budget, priority = memory.budget.native, memory.priority
        stream = _native.Stream(contents, parameters, 0, budget, priority, written)
    else:
        stream = _native.Stream(contents, parameters, memory, writable=written)
    for slot, stored in pairs:
        if is_small_buffer(slot, stored):
            slot.put(stored.read(contents).to(slot.tensor.dtype))
        elif not stored.nbytes:
            slot.put(torch.empty(stored.shape, dtype=stored.dtype))
    for (slot, stored), address in zip(streamed, stream.addresses(), strict=True):
        slot.put(_tensor_at(address, stored, stream))
        protect_tensor(slot.tensor, stream, slot.names[0], freezing, is_written=slot.is_written)
        keep_unshared(slot.tensor, slot.names[0])
    return stream, [slot for slot, _ in streamed]


def _tensor_at(address: int, stored: Stored, stream: _native.Stream) -> torch.Tensor:
    memory = (ctypes.c_char * stored.nbytes).from_address(address)
    # Tensors keep their buffer alive and the buffer the stream: weights can't outlive their memory.
    memory.stream = stream  # type: ignore[attr-defined]
    return torch.frombuffer(memory, dtype=torch.uint8).view(stored.dtype).view(stored.shape)


def _unit(slot: Slot, stored: Stored) -> int:
    """Bytes used together: a row of an embedding, one of several fused experts, else the whole (0)."""
    in_order = slot.order == sorted(slot.order)
    dimensions = len(stored.shape) if slot.is_parameter and in_order else 0
    sliced = is_sliced([owner for owner, _ in slot.owners], dimensions)
    return stored.nbytes // stored.shape[0] if sliced else 0


def refuse_meta(module: nn.Module) -> None:
    """Raise where a tensor of `module` was left without memory: computing with it gives garbage, no error."""
    named = [*module.named_parameters(), *module.named_buffers()]
    if left := [name for name, tensor in named if tensor.is_meta]:
        raise WeightstreamError(
            f"no values for {', '.join(left)}: neither in the checkpoint nor computed by the constructor; "
            "build the module under weightstream.empty(), which keeps buffers real"
        )
