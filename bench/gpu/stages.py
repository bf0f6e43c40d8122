"""What is measured, one function a stage. Each runs in a process of its own and returns what it found."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import weightstream as ws

from bench.floor import sweep
from bench.gpu import ceilings, models
from bench.gpu.place import GIB, Place
from bench.models import weight_bytes, weight_files

WORKLOADS = ("1 token", "4 x 4096 tokens")
VIDEO_WORKLOADS = ("352x240", "720x480")


@dataclass(frozen=True)
class Run:
    """What every stage is given."""

    place: Place
    folder: Path
    small: bool

    @property
    def memory(self) -> int:
        """VRAM for the weights of the language model: an eighth of it."""
        if self.small:
            # A GPU hands out 2 MiB at a time.
            return (10 if self.place.is_gpu else 3) * 2**20
        return 2 * GIB

    @property
    def host_limit(self) -> int:
        """Host memory that the model does not fit in."""
        return 6 * 2**20 if self.small else 6 * GIB

    @property
    def times(self) -> int:
        return 3 if self.small else 5


def digest(tensor: torch.Tensor) -> str:
    """Of the tensor's bits."""
    return hashlib.sha256(tensor.detach().cpu().contiguous().view(torch.uint8).numpy()).hexdigest()[:16]


def prepare(run: Run) -> dict[str, Any]:
    """Write the checkpoints, unless they are there."""
    started = time.perf_counter()
    found: dict[str, Any] = {"language_bytes": weight_bytes(models.language(run.folder, run.small))}
    try:
        found["video_bytes"] = weight_bytes(models.video(run.folder, run.small))
    except ImportError as error:
        found["video"] = f"left out: {error}"
    return found | {"seconds": time.perf_counter() - started}


def limits(run: Run) -> dict[str, Any]:
    """The ceilings: bus and disk."""
    files = weight_files(models.language(run.folder, run.small))
    size = min(6 * GIB, sum(file.stat().st_size for file in files) // 2)
    disk = max(size / sweep(files, size) for _ in range(2))
    return {
        "device": run.place.device.native.name,
        "torch": torch.__version__,
        "bus": ceilings.bus(run.place),
        "disk": disk,
        "device_memory": run.place.device.native.memory(),
        "processors": os.cpu_count(),
    }


def _measured(run: Run, model: Any, repeats: int | None = None) -> dict[str, Any]:
    """Time, bits and peak memory of the language model's workloads."""
    found: dict[str, Any] = {}
    for kind in WORKLOADS:
        call = models.forward(model, models.language_inputs(kind, run.small, run.place.tensors))
        call()
        run.place.forget_peak()
        found[kind] = run.place.seconds(call, 1, repeats or run.times)
        found[kind] |= {"bits": digest(call()), "torch_peak": run.place.allocated()}
    return found


def loaded(run: Run) -> dict[str, Any]:
    """All weights on the device."""
    from transformers import AutoModelForCausalLM

    folder = models.language(run.folder, run.small)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").to(run.place.tensors).eval()
    return _measured(run, model)


def _streamed(run: Run, folder: Path, **options: Any) -> Any:
    return ws.load(folder, run.memory, device=run.place.device, **options)


def _counters(model: Any) -> dict[str, Any]:
    return dict(model._weightstream.stream.stats())


def _idle_share(spans: list[tuple[int, int]]) -> float:
    """The share of the time from the first span's begin to the last one's end that none of them covers."""
    if not spans:
        return 0.0
    spans = sorted(spans)
    reached, idle = spans[0][0], 0
    for start, end in spans:
        idle += max(0, start - reached)
        reached = max(reached, end)
    return idle / max(1, reached - spans[0][0])


def _against_floor(run: Run, model: Any, found: dict[str, Any]) -> dict[str, Any]:
    """How near the one-token pass came to what bus and disk allow, with ceilings measured here and now."""
    bus = ceilings.bus(run.place)
    call = models.forward(model, models.language_inputs("1 token", run.small, run.place.tensors))
    call()
    before = _counters(model)
    seconds = run.place.seconds(call, 0, run.times)["median"]
    after = _counters(model)
    stream = model._weightstream.stream
    stream.events(True)
    call()
    run.place.synchronize()
    events = stream.events(False)
    copied = (after["copied_bytes"] - before["copied_bytes"]) / run.times
    read = (after["bytes_read"] - before["bytes_read"]) / run.times
    floor = (after["model_bytes"] - after["kept_bytes"]) / bus
    return found | {
        "bus": bus,
        "copied_per_pass": copied,
        "read_per_pass": read,
        "floor_of_bus": floor,
        "times_floor_of_bus": seconds / floor if floor else None,
        "share_of_bus": copied / seconds / bus,
        "bus_idle": _idle_share([(start, end) for kind, start, end, *_ in events if kind == "copy"]),
        "counters": after,
    }


def host(run: Run) -> dict[str, Any]:
    """weightstream, all that VRAM does not keep in pinned host memory."""
    folder = models.language(run.folder, run.small)
    model = _streamed(run, folder, host_memory=2 * weight_bytes(folder))
    started = time.perf_counter()
    models.forward(model, models.language_inputs("1 token", run.small, run.place.tensors))()
    run.place.synchronize()
    found = {"first_pass": time.perf_counter() - started}
    return found | _against_floor(run, model, _measured(run, model))


def limited(run: Run) -> dict[str, Any]:
    """weightstream, with less host memory than the model needs: the disk is in every pass."""
    folder = models.language(run.folder, run.small)
    model = _streamed(run, folder, host_memory=run.host_limit)
    found = _against_floor(run, model, _measured(run, model, 3))
    files = weight_files(folder)
    must = max(1, int(found["counters"]["model_bytes"] - found["counters"]["kept_bytes"] - run.host_limit))
    disk = must / sweep(files, must)
    call = models.forward(model, models.language_inputs("1 token", run.small, run.place.tensors))
    seconds = run.place.seconds(call, 1, 3)["median"]
    return found | {
        "disk": disk,
        "must_read": must,
        "floor_of_disk": must / disk,
        "times_floor_of_disk": seconds / (must / disk),
        "1 token, with disk": seconds,
    }


def packed(run: Run) -> dict[str, Any]:
    """weightstream with a packed checkpoint, which the device decodes."""
    command = shutil.which("weightstream")
    if command is None:
        return {"left out": "the command weightstream (crates/cli) is not on the path: it packs"}
    folder = models.language(run.folder, run.small)
    coded = folder.with_name(f"{folder.name}-packed")
    packing = [command, "pack", str(folder), str(coded)]
    if subprocess.run(packing, capture_output=True).returncode:
        subprocess.run([*packing, "--overwrite"], check=True, capture_output=True)
    model = _streamed(run, coded, host_memory=2 * weight_bytes(folder))
    return _against_floor(run, model, _measured(run, model))


def cpu_offload(run: Run) -> dict[str, Any]:
    """accelerate's `cpu_offload`."""
    from accelerate import cpu_offload as offload
    from transformers import AutoModelForCausalLM

    if not run.place.is_gpu:
        return {"left out": "needs a GPU"}
    folder = models.language(run.folder, run.small)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()
    return _measured(run, offload(model, execution_device=run.place.tensors), 2)


def disk_offload(run: Run) -> dict[str, Any]:
    """transformers' `device_map` with every layer on disk."""
    from transformers import AutoModelForCausalLM

    if not run.place.is_gpu:
        return {"left out": "needs a GPU"}
    folder = models.language(run.folder, run.small)
    layers = (
        models.LANGUAGE["num_hidden_layers"] if not run.small else models.SMALL_LANGUAGE["num_hidden_layers"]
    )
    place: dict[str, Any] = {f"model.layers.{number}": "disk" for number in range(int(layers))}
    place |= dict.fromkeys(("model.embed_tokens", "lm_head"), "disk")
    place |= dict.fromkeys(("model.norm", "model.rotary_emb"), run.place.tensors.index)
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype="auto", device_map=place, offload_folder=str(run.folder / "offload")
    )
    return _measured(run, model.eval(), 1)


def _video(run: Run, model: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for kind in VIDEO_WORKLOADS:
        call = models.forward(model, models.video_inputs(kind, run.small, run.place.tensors))
        call()
        run.place.forget_peak()
        found[kind] = run.place.seconds(call, 1, run.times)
        found[kind] |= {"bits": digest(call()), "torch_peak": run.place.allocated()}
    return found


def _video_model(run: Run, folder: Path) -> Any:
    from diffusers import AutoModel

    return AutoModel.from_pretrained(str(folder), torch_dtype=torch.bfloat16).eval()


def video_loaded(run: Run) -> dict[str, Any]:
    """The diffusion transformer, all weights on the device."""
    return _video(run, _video_model(run, models.video(run.folder, run.small)).to(run.place.tensors))


def video_streamed(run: Run) -> dict[str, Any]:
    """The diffusion transformer by weightstream, an eighth of it in VRAM."""
    folder = models.video(run.folder, run.small)
    size = weight_bytes(folder)
    memory = max(size // 8, (12 if run.place.is_gpu else 4) * 2**20)
    model = ws.load(folder, memory, device=run.place.device, host_memory=2 * size)
    return _video(run, model) | {"memory": memory, "counters": _counters(model)}


def video_offloaded(run: Run) -> dict[str, Any]:
    """The diffusion transformer by diffusers' group offload with streams."""
    if not run.place.is_gpu:
        return {"left out": "needs a GPU"}
    from diffusers.hooks import apply_group_offloading

    model = _video_model(run, models.video(run.folder, run.small))
    apply_group_offloading(
        model, onload_device=run.place.tensors, offload_device=torch.device("cpu"),
        offload_type="block_level", num_blocks_per_group=1, use_stream=True, non_blocking=True,
    )  # fmt: skip
    return _video(run, model)


def endurance(run: Run) -> dict[str, Any]:
    """500 passes: neither VRAM nor host memory grows, and the bits stay the same."""
    import psutil

    # A model that is smaller, so that 500 passes are quick.
    folder = models.language(run.folder, True)
    model = ws.load(folder, 3 * 2**20 if not run.place.is_gpu else 10 * 2**20, device=run.place.device,
                    host_memory=2 * weight_bytes(folder))  # fmt: skip
    call = models.forward(model, models.language_inputs("1 token", True, run.place.tensors))
    passes = 500 if run.place.is_gpu else 40
    first, used, resident = "", [], []
    for number in range(passes):
        result = call()
        if number in (20, passes - 1):
            run.place.synchronize()
            first = first or digest(result)
            used.append(run.place.used())
            resident.append(psutil.Process().memory_info().rss)
            if digest(result) != first:
                raise AssertionError("the bits have changed")
    growth = {"device": used[1] - used[0], "host": resident[1] - resident[0]}
    if growth["device"] > 0 or growth["host"] > 64 * 2**20:
        raise AssertionError(f"memory has grown over {passes} passes: {growth}")
    return {"passes": passes, "growth": growth, "bits": first}


def split(run: Run) -> dict[str, Any]:
    """weightstream over two devices, half of the memory on each."""
    other = run.place.another()
    if other is None:
        return {"left out": "there is one GPU only"}
    folder = models.language(run.folder, run.small)
    each = run.memory // 2 if not run.small else run.memory
    # Enough for the largest block, the embedding.
    each = max(each, int(1.4 * GIB)) if not run.small else each
    memory = {run.place.device: each, other: each}
    model = ws.load(folder, memory, host_memory=2 * weight_bytes(folder))
    return _measured(run, model) | {"memory": each, "counters": _counters(model)}


def neighbours(run: Run) -> dict[str, Any]:
    """Two processes on one device, each within its budget."""
    command = [sys.executable, "-m", "bench.gpu", "--stage", "host", "--folder", str(run.folder)]
    if run.small:
        command.append("--small")
    if not run.place.is_gpu:
        command.append("--simulate")
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate()[0] for process in both]
    results = [json.loads(output.splitlines()[-1]) for output in outputs]
    for result in results:
        if "error" in result:
            raise AssertionError(result["error"])
    return {"1 token": [result["1 token"]["median"] for result in results],
            "bits": [result["1 token"]["bits"] for result in results]}  # fmt: skip


STAGES: dict[str, Callable[[Run], dict[str, Any]]] = {
    stage.__name__: stage
    for stage in (
        prepare, limits, loaded, host, limited, packed, cpu_offload, disk_offload,
        video_loaded, video_streamed, video_offloaded, split, endurance, neighbours,
    )
}  # fmt: skip
