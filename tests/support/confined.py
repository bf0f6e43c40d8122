"""What the tests of memory run in a process of its own: `python -m support.confined TASK ARGUMENT...`.

Each task prints one line of JSON. A process of its own holds no other test's memory, and may be confined.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import weightstream as ws
from safetensors.torch import load_file
from support.architectures import BY_NAME, Architecture, weight_bytes
from torch import nn

MIB = 2**20
MARGIN = 64 * MIB  # what a confined process may take beside its weights: activations, modules, buffers


def memory() -> int:
    """Bytes of this process that are its own, no file's, with everything freed that can be."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return anonymous()


def anonymous() -> int:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return sum(int(status[kind].split()[0]) * 1024 for kind in ("RssAnon", "RssShmem"))


class Peak:
    """The most memory that was in use meanwhile, looked at every millisecond."""

    def __enter__(self) -> Peak:
        self.bytes = anonymous()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._over.wait(0.001):
            self.bytes = max(self.bytes, anonymous())

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()


class Group:
    """The control group that this process is in; versions 1 and 2."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.is_version_2 = (self.folder / "memory.max").exists()

    def charged(self) -> int:
        """Bytes that can't be reclaimed: own memory, the kernel's for us, and files mapped by us."""
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        stat = dict(line.split() for line in (self.folder / "memory.stat").read_text().splitlines())
        if self.is_version_2:
            return int(stat["anon"]) + int(stat["shmem"]) + int(stat["kernel"]) + int(stat["file_mapped"])
        kernel = int((self.folder / "memory.kmem.usage_in_bytes").read_text())
        return int(stat["rss"]) + int(stat.get("shmem", 0)) + int(stat["mapped_file"]) + kernel

    def allow(self, count: int | None) -> None:
        """Limit the group to `count` bytes, None for no limit."""
        if self.is_version_2:
            (self.folder / "memory.max").write_text("max" if count is None else str(count))
            return
        # With swap may never be below without it, so the order depends on the direction.
        files = [self.folder / "memory.limit_in_bytes", self.folder / "memory.memsw.limit_in_bytes"]
        for file in filter(Path.exists, reversed(files) if count is None else files):
            file.write_text(str(-1 if count is None else count))


class Deep(nn.Sequential):
    """192 MiB in 48 layers: far more than a budget and the margin together."""

    def __init__(self) -> None:
        super().__init__(*(nn.Linear(1024, 1024, bias=False) for _ in range(48)))


DEEP = Architecture(
    "Deep",
    "torch",
    build=Deep,
    inputs=lambda dtype, size: {"input": torch.randn(1 + size, 1024, dtype=dtype)},
)


def run(architecture: Architecture, folder: Path, memory: int) -> dict[str, Any]:
    """Stream the model, make three passes, close it."""
    model = architecture.streamed(folder, torch.float32, memory)
    torch.manual_seed(0)
    with torch.inference_mode():
        for size in (0, 0, 2):
            model(**architecture.inputs(torch.float32, size))
    stats = ws.stats(model)
    ws.close(model)
    return {"passes": stats.passes, "errors": stats.errors, "model": stats.model_bytes, "used": stats.used}


def architectures(root: str, group: str) -> list[dict[str, Any]]:
    """Every architecture under `root`, confined to what the process has without it, budget and margin."""
    confined = Group(group)
    results = []
    for folder in sorted(Path(root).iterdir()):
        architecture = BY_NAME.get(folder.name, DEEP)
        budget = architecture.memory(weight_bytes(folder))
        run(architecture, folder, budget)  # imports, thread stacks, kernels' workspaces
        confined.allow(confined.charged() + budget + MARGIN)
        before = memory()
        with Peak() as peak:
            result = run(architecture, folder, budget)
        result |= {"name": folder.name, "budget": budget, "peak": peak.bytes - before}
        results.append(result)
        confined.allow(None)
    return results


def fully_loaded(root: str, group: str) -> str:
    """The deep model with all weights in memory, confined as if it were streamed; expected to be killed."""
    confined = Group(group)
    folder = Path(root) / DEEP.name
    x = torch.randn(1, 1024)
    nn.Linear(1024, 1024)(x)
    confined.allow(confined.charged() + weight_bytes(folder) // 4 + MARGIN)
    model = Deep()
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return str(model(x).sum())


def growth(folder: str) -> int:
    """Bytes by which 200 passes make the process grow."""
    architecture = BY_NAME["LlamaForCausalLM"]
    model = architecture.streamed(Path(folder), torch.float32)
    inputs = architecture.inputs(torch.float32, 0)
    with torch.inference_mode():
        for _ in range(50):
            model(**inputs)
        before = memory()
        for _ in range(200):
            model(**inputs)
    return memory() - before


def closing(folder: str) -> dict[str, int]:
    """Memory with a streamed model open and after it was closed, above what it was before."""
    run(DEEP, Path(folder), 32 * MIB)
    before = memory()
    model = DEEP.streamed(Path(folder), torch.float32, 128 * MIB)
    with torch.inference_mode():
        model(torch.randn(1, 1024))
    opened = memory() - before
    ws.close(model)
    return {"opened": opened, "closed": memory() - before}


def cycles(folder: str) -> list[dict[str, int]]:
    """What the process holds after some, and after 50 more rounds of streaming and closing."""

    def held() -> dict[str, int]:
        gc.collect()
        maps = Path("/proc/self/maps").read_text().splitlines()
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return {
            "threads": len(os.listdir("/proc/self/task")),
            "descriptors": len(os.listdir("/proc/self/fd")),
            "mappings": len(maps),
            "addresses": int(status["VmSize"].split()[0]) * 1024,
            "memory": memory(),
        }

    def round() -> None:
        model = DEEP.streamed(Path(folder), torch.float32, 32 * MIB)
        with torch.inference_mode():
            model(torch.randn(1, 1024))
        ws.close(model)

    results = []
    for count in (10, 50):
        for _ in range(count):
            round()
        results.append(held())
    return results


TASKS: dict[str, Callable[..., Any]] = {
    task.__name__: task for task in (architectures, fully_loaded, growth, closing, cycles)
}

if __name__ == "__main__":
    print(json.dumps(TASKS[sys.argv[1]](*sys.argv[2:])))
