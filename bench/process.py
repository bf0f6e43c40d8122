"""One contender's process: opens the model, runs the workloads and appends what it saw, a JSON line each.

Lines are written as they come about, so that a process killed at its memory limit leaves what it had.
"""

import json
import sys
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.contenders import CONTENDERS, Contender
from bench.workloads import WORKLOADS, Workload


@dataclass(frozen=True)
class Task:
    """What the process is to do.

    `outputs`: where to keep results for comparison. `warm`: at most so many passes after the first.
    `seconds`: a workload's passes end after this. `longest`: no further pass where the first took longer.
    """

    contender: str
    checkpoint: str
    budget: int
    workloads: list[str]
    scratch: str
    lines: str
    outputs: str
    warm: int | None
    seconds: float
    longest: float
    prepare: bool = False

    def command(self) -> list[str]:
        return [sys.executable, "-m", "bench.process", json.dumps(asdict(self))]


class Lines:
    """The process's report, appended line by line."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, kind: str, **facts: Any) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps({"kind": kind, **facts}) + "\n")


def bytes_read() -> int:
    """Bytes this process made the disk deliver so far, by whatever way."""
    for line in Path("/proc/self/io").read_text().splitlines():
        if line.startswith("read_bytes:"):
            return int(line.split()[1])
    return 0


def memory_facts() -> dict[str, int]:
    """Bytes: anonymous and file-backed now, and the most at once since `forget_peak`."""
    names = {"VmHWM": "peak", "RssAnon": "anonymous", "RssFile": "mapped_files"}
    facts = {}
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in names:
            facts[names[name]] = int(value.split()[0]) * 1024
    return facts


def forget_peak() -> None:
    """Starts the peak anew, so that it tells of working, not of opening."""
    Path("/proc/self/clear_refs").write_text("5")


def experts_chosen(model: Any) -> Any:
    """Counts the experts that one pass routes to, by watching the routers; None for a dense model."""
    chosen: dict[str, set[int]] = {}
    for name, module in model.named_modules():
        if type(module).__name__.endswith("TopKRouter"):

            def watch(_module: Any, _inputs: Any, output: Any, name: str = name) -> None:
                chosen.setdefault(name, set()).update(output[-1].flatten().tolist())

            module.register_forward_hook(watch)
    return chosen


def run_workload(
    model: Any, workload: Workload, task: Task, contender: Contender, lines: Lines, chosen: Any
) -> None:
    import torch

    forget_peak()
    began = time.perf_counter()
    passes = 1 + (workload.warm if task.warm is None else min(task.warm, workload.warm))
    for number in range(passes):
        if number > 1 and time.perf_counter() - began > task.seconds:
            break
        if chosen is not None:
            chosen.clear()
        read = bytes_read()
        start, worked = time.perf_counter(), time.process_time()
        with torch.no_grad():
            output = workload.run(model, number)
        seconds, worked = time.perf_counter() - start, time.process_time() - worked
        read = bytes_read() - read
        lines.write(
            "pass",
            workload=workload.name,
            number=number,
            seconds=seconds,
            cpu_seconds=worked,
            read_bytes=read,
            output=keep(output, Path(task.outputs)),
            **memory_facts(),
            experts=sum(len(experts) for experts in chosen.values()) if chosen else None,
        )
        if number == 0 and min(seconds, worked / torch.get_num_threads()) > task.longest:
            break


def keep(output: Any, folder: Path) -> str:
    """Stores a result's bytes under their hash, once; returns the file's name."""
    import hashlib

    import torch

    data = output.detach().contiguous().cpu()
    kind = str(data.dtype).removeprefix("torch.")
    values = data.view(torch.uint8).numpy()
    name = f"{hashlib.sha256(values).hexdigest()[:24]}.{kind}"
    if not (folder / name).exists():
        values.tofile(folder / name)
    return name


def weightstream_facts(model: Any) -> dict[str, Any]:
    import weightstream as ws

    return asdict(ws.stats(model))


def main() -> None:
    task = Task(**json.loads(sys.argv[1]))
    contender = CONTENDERS[task.contender]
    lines = Lines(Path(task.lines))
    checkpoint, scratch = Path(task.checkpoint), Path(task.scratch)
    try:
        if task.prepare:
            if contender.prepare:
                contender.prepare(checkpoint, scratch)
            return
        read, start = bytes_read(), time.perf_counter()
        import torch

        imported = time.perf_counter()
        model = contender.open(checkpoint, task.budget, scratch)
        lines.write(
            "opened",
            seconds=time.perf_counter() - imported,
            seconds_of_imports=imported - start,
            read_bytes=bytes_read() - read,
            threads=torch.get_num_threads(),
            **memory_facts(),
        )
        chosen = experts_chosen(model) if not contender.confined else None
        for name in task.workloads:
            run_workload(model, WORKLOADS[name], task, contender, lines, chosen)
        extra = weightstream_facts(model) if contender.title.startswith("weightstream") else {}
        lines.write("closed", **memory_facts(), stats=extra)
    except BaseException as error:
        where = traceback.format_exc(limit=-3)
        lines.write("error", text=f"{type(error).__name__}: {error}", where=where)
        raise SystemExit(1) from error


if __name__ == "__main__":
    main()
