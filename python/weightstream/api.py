"""load, stream, stats, resize, close."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import nn

from weightstream import _native
from weightstream.attributes import Aliases, read_lazies
from weightstream.blocks import Refuse, find_blocks, install_hooks
from weightstream.budget import Budget, Share, parse_budget
from weightstream.config import read_config
from weightstream.deferred import Source
from weightstream.errors import CheckpointError
from weightstream.freezing import Freezing
from weightstream.gguf import is_gguf
from weightstream.guard import show_deaths
from weightstream.handing_over import handed_over
from weightstream.lazy import Lazy
from weightstream.memory import parse_memory
from weightstream.opened import Opened
from weightstream.parameters import Slot, match, place, refuse_meta, refuse_unrelated, settle, slots
from weightstream.protection import Whole, protect_module
from weightstream.report import Stats
from weightstream.state_dict_hooks import has_hooks, through_hooks
from weightstream.streamed import Streamed, attach, detach_closed, streamed_of

if TYPE_CHECKING:
    from weightstream.cuda import Device

Memory = int | float | str
ModelMemory: TypeAlias = "Memory | Budget | Share | Mapping[Any, Memory]"
DeviceLike: TypeAlias = "str | int | torch.device | Device | None"


@contextmanager
def _ordinary_tensors() -> Iterator[None]:
    """Weights made under inference_mode could neither be moved to their memory nor get gradients later."""
    recorded = torch.is_grad_enabled()
    with torch.inference_mode(False), torch.set_grad_enabled(recorded):
        yield


@_ordinary_tensors()
def load(
    path: str | os.PathLike[str],
    memory: ModelMemory = "1GiB",
    *,
    dtype: torch.dtype | str | None = None,
    model_class: type[Any] | None = None,
    config: Any = None,
    strict: bool = True,
    device: DeviceLike = None,
    host_memory: Memory | None = None,
    resident: Sequence[str] = (),
    **kwargs: Any,
) -> Any:
    """Build the model of a checkpoint folder or GGUF file and stream its weights through `memory` bytes.

    The folder has the layout of transformers, diffusers (one model's folder) or sentence-transformers; the
    class comes from its config.json unless given. The model and its weights are, bit for bit, what
    `from_pretrained(path, dtype="auto")` makes of it.

    Args:
        path: the folder, or the .gguf file.
        memory: bytes, a size ("1.5GiB"), a share of the free memory (0.5, "50%"), or a Budget; to spread the
            model's blocks over several GPUs, that of each: {"cuda:0": "4GiB", "cuda:1": "4GiB"}.
        dtype: of the floating weights; None or "auto" for that of config.json, or else of the checkpoint.
            Weights stored as another dtype are converted once, one by one, to a side file under
            ~/.cache/weightstream (at most $WEIGHTSTREAM_CACHE_BYTES of them, by default 32 GiB).
        model_class: the class to build, where not the one that config.json names.
        config: a config of the library's own kind in place of the folder's config.json.
        strict: raise where names of the checkpoint and the model don't agree.
        device: a GPU to stream to ("cuda", "cuda:1"), whose memory `memory` then is; None for the CPU.
        host_memory: pinned host memory behind the GPU, at most; half of what is free by default. What fits
            neither is read from disk in each pass.
        resident: names of weights that stay on the GPU, for models that use them in places of their own.
        kwargs: go to the library's from_pretrained (variant=..., subfolder=..., attn_implementation=...,
            trust_remote_code=...).

    Raises:
        TypeError: an argument that neither load nor the library heeds, or that can't be done while streaming.
        CheckpointError: the checkpoint doesn't fit the model, or is damaged.
        BudgetError: `memory` is too small; the message names the least that works.
    """
    folder = Path(path)
    start = _starter(memory, device, host_memory, resident)
    describes_itself = is_gguf(folder) or (config is not None and model_class is not None)
    described = {} if describes_itself else _read_config(folder, kwargs.get("subfolder"))
    if _is_of(model_class, "diffusers") if model_class else "_class_name" in described:
        from weightstream import diffusers as library
    else:
        from weightstream import transformers as library  # type: ignore[no-redef]
    library.refuse(kwargs)
    _refuse_elsewhere(kwargs)
    dtype = _parse_dtype(dtype, kwargs.pop("torch_dtype", None))
    part = folder / kwargs["subfolder"] if kwargs.get("subfolder") else folder
    with handed_over(part, described, kwargs):
        opened, model = library.build(folder, dtype, model_class, config, strict, kwargs)
        read_lazies(model)
    pairs = [(slot, slot.tensor.source) for slot in slots(model) if isinstance(slot.tensor, Lazy)]
    opened.over = True
    return start(model, opened.contents, pairs)


@_ordinary_tensors()
def stream(
    module: nn.Module,
    checkpoint: str | os.PathLike[str],
    memory: ModelMemory = "1GiB",
    *,
    strict: bool = True,
    prefix: str = "",
    keys: Mapping[str, str | None] | Callable[[str], str | None] | None = None,
    device: DeviceLike = None,
    host_memory: Memory | None = None,
    resident: Sequence[str] = (),
) -> nn.Module:
    """Stream the weights of `module` from `checkpoint` through `memory` bytes; in place, and returned.

    Parameters (and persistent buffers of 64 KiB or more) become tensors whose values arrive from the
    checkpoint when they are used. Gradients flow through them; the first pass that autograd records freezes
    them. Where they are made to require gradients again these are kept, but a write to a weight,
    an optimiser's too, is undone and raises WriteError. What a module writes to its buffers stays in memory,
    as part of the budget.

    Args:
        module: on the CPU; real and in the checkpoint's dtype, or built under `weightstream.empty()`, which
            takes that dtype.
        checkpoint: a .safetensors file, a *.safetensors.index.json, or a folder that holds either.
        memory: as in `load`.
        strict: as in load_state_dict. Without it, parameters that the checkpoint lacks keep their values.
        prefix: take only the checkpoint's names that begin with this, without it ("model.").
        keys: the module's name for each of the checkpoint's names (after `prefix`), None to leave it out. A
            mapping leaves names that it doesn't hold as they are.
        device, host_memory, resident: as in `load`.

    Raises:
        CheckpointError: missing, unexpected or mismatched tensors, all at once; or a damaged checkpoint.
        BudgetError: `memory` is too small; the message names the least that works. `module` is unchanged.
    """
    start = _starter(memory, device, host_memory, resident)
    _refuse_scripted(module)
    detach_closed(module)
    opened = Opened()
    tensors = {}
    for name, stored in opened.open(checkpoint).tensors.items():
        wanted = _renamed(name, prefix, keys)
        if wanted is not None:
            tensors[wanted] = stored
    finish = None
    if has_hooks(module):
        sources, finish = through_hooks(module, tensors, opened, strict)
        pairs = match(module, sources, strict=False)
    else:
        pairs = match(module, tensors, strict)
    if not pairs:
        refuse_unrelated(module, tensors)
    start(module, opened.contents, pairs)
    if finish is not None:
        finish()
    return module


def _refuse_scripted(module: nn.Module) -> None:
    for name, child in module.named_modules():
        if isinstance(child, torch.jit.ScriptModule):
            raise TypeError(
                f"{name or 'module'}: expected a module whose code is Python, got a TorchScript one: stream "
                "the module that it was made of (torch.jit.trace takes a streamed one), or export that one "
                "and open the program with weightstream.Program"
            )


def stats(model: nn.Module) -> Stats:
    """What the streamed `model` has read and waited for; `print` it for a report.

    Raises TypeError where `model` is not streamed.
    """
    return Stats.of(streamed_of(model).stream.stats())


def resize(model: nn.Module, memory: Memory | Mapping[Any, Memory]) -> None:
    """Change the memory of the streamed `model`, also while it runs; on several GPUs, that of each.

    Raises BudgetError where that is too small, TypeError where `model` is not streamed or `memory` is not of
    the kind that it was given, ValueError where its memory is a share of a Budget.
    """
    stream = streamed_of(model).stream
    parts = getattr(stream, "parts", [])  # one for each GPU
    if not isinstance(memory, Mapping) and len(parts) <= 1:
        stream.resize(parse_memory(memory))
    elif isinstance(memory, Mapping) and parts:
        from weightstream.cuda import resize_parts

        resize_parts(parts, _of_devices(memory))
    else:
        wanted = "{'cuda:0': '4GiB', ...}" if parts else "bytes or a size such as '4GiB'"
        raise TypeError(f"memory: expected {wanted}, got {memory!r}")


def close(model: nn.Module) -> None:
    """Give the memory of the streamed `model` back; its forward raises ClosedError from then on.

    Passes of other threads end at their next module, with ClosedError; for those that take longer it waits
    two seconds. A weight that is used later, by whatever still goes on, reads as NaN, and the pass raises
    ClosedError at its end; in the main thread a use outside of any pass raises it at once.

    Closing twice is fine. A model that is no longer referred to closes by itself. Copies of the model share
    its stream and are closed with it. Raises TypeError where `model` is not streamed.
    """
    streamed = streamed_of(model)
    if not streamed.stream.closed:
        streamed.finish_progress()
        # Every module refuses, not only blocks: behind its weights there is nothing any more.
        for child in model.modules():
            streamed.handles.append(child.register_forward_pre_hook(Refuse(streamed), prepend=True))
    # Where another thread is at it, this waits for it.
    streamed.stream.close()


def _starter(
    memory: ModelMemory, device: DeviceLike, host_memory: Memory | None, resident: Sequence[str]
) -> Callable[[Any, _native.Contents, Sequence[tuple[Slot, Source]]], Any]:
    """What starts to stream a module: on the CPU or to a GPU, with budgets that make sense."""
    if isinstance(memory, Mapping):
        if device is not None:
            raise ValueError("memory names the devices already, each with its own: leave device out")
    elif device is None or (isinstance(device, str | torch.device) and torch.device(device).type == "cpu"):
        if host_memory is not None or resident:
            raise ValueError("host_memory and resident belong to a GPU: pass device='cuda'")
        budget = parse_budget(memory)
        return lambda module, contents, pairs: _start(module, contents, pairs, budget)
    from weightstream import cuda

    if isinstance(memory, Budget | Share):
        raise TypeError("memory: a Budget is memory of the host; give a GPU's as bytes or a share of it")
    on_devices = _of_devices(memory if isinstance(memory, Mapping) else {device: memory})
    host = parse_memory(0.5 if host_memory is None else host_memory)
    return lambda module, contents, pairs: cuda.start(module, contents, pairs, on_devices, host, resident)


def _of_devices(memory: Mapping[Any, Memory]) -> dict[Device, int]:
    from weightstream import cuda

    if not memory:
        raise ValueError("memory: expected at least one GPU, {'cuda:0': '4GiB', ...}; got an empty mapping")
    devices = {cuda.Device.of(device): size for device, size in memory.items()}
    return {device: parse_memory(size, device.free_memory) for device, size in devices.items()}


def _start(
    module: nn.Module, contents: _native.Contents, pairs: Sequence[tuple[Slot, Source]], budget: int | Share
) -> nn.Module:
    settled, contents, side = settle(pairs, contents)
    aliases = Aliases(module, [slot for slot, _ in settled])
    show_deaths()
    freezing = Freezing()
    stream, streamed_slots = place(settled, contents, budget, freezing)
    aliases.follow()
    if side is not None:
        weakref.finalize(stream, side.close)
    refuse_meta(module)
    streamed = Streamed(stream, [type(module).__name__, *find_blocks(module)], freezing)
    streamed.whole = Whole(module)
    guards = protect_module(module, [slot.tensor for slot in streamed_slots], streamed.whole)
    streamed.parts = {name: stored.parts for slot, stored in settled for name in slot.names}
    streamed.handles = [*guards, *install_hooks(module, streamed)]
    attach(module, streamed)
    return module


def _renamed(
    name: str, prefix: str, keys: Mapping[str, str | None] | Callable[[str], str | None] | None
) -> str | None:
    if not name.startswith(prefix):
        return None
    name = name[len(prefix) :]
    if keys is None:
        return name
    return keys.get(name, name) if isinstance(keys, Mapping) else keys(name)


def _read_config(folder: Path, subfolder: str | None) -> dict[str, Any]:
    folder = folder / subfolder if subfolder else folder
    config = read_config(folder) if folder.is_dir() else None
    if config is not None:
        return config
    if (folder / "model_index.json").exists():
        raise CheckpointError(
            f"{folder}: expected one model, got a whole pipeline: load each of its models with a Budget in "
            "common, and give them to the pipeline's from_pretrained"
        )
    if not any((folder / name).exists() for name in ("modules.json", "adapter_config.json")):
        got = _native.found_at(str(folder))
        raise CheckpointError(f"{folder}: expected a model's folder, with a config.json; got {got}")
    return {}


def _parse_dtype(
    dtype: torch.dtype | str | None, torch_dtype: torch.dtype | str | None
) -> torch.dtype | None:
    if None not in (dtype, torch_dtype) and dtype != torch_dtype:
        raise TypeError(f"load() got dtype={dtype} and torch_dtype={torch_dtype}, which say the same")
    wanted = torch_dtype if dtype is None else dtype
    if wanted is None or wanted == "auto":
        return None
    found = getattr(torch, wanted, None) if isinstance(wanted, str) else wanted
    if not isinstance(found, torch.dtype):
        raise TypeError(f'dtype: expected a torch.dtype, its name or "auto", got {wanted!r}')
    return found


def _refuse_elsewhere(kwargs: dict[str, Any]) -> None:
    """Raise TypeError where a hub or a device is asked for in words that are not load's."""
    device_map, revision = kwargs.pop("device_map", None), kwargs.pop("revision", None)
    if device_map not in (None, "cpu", torch.device("cpu"), {"": "cpu"}, {"": torch.device("cpu")}):
        raise TypeError(
            f'load() takes no device_map, got {device_map!r}: GPUs are given by device="cuda", or by '
            'memory={"cuda:0": "4GiB", ...}'
        )
    if revision not in (None, "main"):
        raise TypeError(
            f"load() takes no revision, got {revision!r}: download that revision, and load its folder "
            "(huggingface_hub.snapshot_download)"
        )


def _is_of(model_class: type[Any], library: str) -> bool:
    return any(base.__module__.split(".")[0] == library for base in model_class.__mro__)
