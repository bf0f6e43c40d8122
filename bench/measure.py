"""Runs the contenders, interleaved over rounds, and collects what their processes saw."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.cgroup import Cgroup, disk_of
from bench.contenders import CONTENDERS
from bench.models import Model, prepare, weight_bytes, weight_files
from bench.process import Task
from bench.workloads import WORKLOADS

ALLOWANCE = 64 << 20  # bytes that every contender gets beyond the process and its budget for weights


@dataclass(frozen=True)
class Settings:
    models: Sequence[Model]
    contenders: Sequence[str]
    rounds: int
    warm: int | None
    seconds: float  # a workload's warm passes end after this
    longest: float  # a workload whose fully loaded pass takes longer is left to the fully loaded model
    timeout: float  # a process is stopped after this
    throttle: int | None  # bytes per second
    folder: Path
    budgets: Sequence[float] | None
    workloads: Sequence[str] | None


def budget_bytes(budget: float, weights: int) -> int:
    return int(budget * weights if budget < 1 else budget)


def drop_from_page_cache(files: Sequence[Path]) -> None:
    """The checkpoint's pages only: libraries stay cached, and so are charged to no contender."""
    for path in files:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


class Bench:
    """One benchmark of several models; `runs` and `floors` fill as it goes."""

    def __init__(self, settings: Settings, after_run: Callable[["Bench"], object]) -> None:
        self.settings = settings
        self.after_run = lambda: after_run(self)
        self.runs: list[dict[str, Any]] = []
        self.floors: list[dict[str, Any]] = []
        self.models: dict[str, dict[str, Any]] = {}
        self.workloads: list[str] = []  # of the model in turn
        self.outputs = settings.folder / "outputs"

    def group(self, memory: int | None, checkpoint: Path) -> Cgroup:
        disk = disk_of(checkpoint) if self.settings.throttle else ""
        return Cgroup(f"weightstream-bench-{os.getpid()}", memory, self.settings.throttle, disk)

    def measure(self) -> None:
        self.outputs.mkdir(parents=True, exist_ok=True)
        for model in self.settings.models:
            say(f"{model.name}: preparing the checkpoint")
            checkpoint = prepare(model, self.settings.folder)
            weights = weight_bytes(checkpoint)
            budgets = [budget_bytes(budget, weights) for budget in self.settings.budgets or model.budgets]
            self.models[model.name] = {"title": model.title, "bytes": weights, "budgets": budgets}
            self.prepare_contenders(model, checkpoint)
            wanted = self.settings.workloads or model.workloads
            self.workloads = [name for name in model.workloads if name in wanted]
            for number in range(self.settings.rounds):
                if self.workloads:
                    self.measure_round(model, checkpoint, budgets, number)

    def prepare_contenders(self, model: Model, checkpoint: Path) -> None:
        for name in self.settings.contenders:
            if CONTENDERS[name].prepare:
                say(f"{model.name}: {CONTENDERS[name].title} prepares its own copy of the checkpoint")
                task = self.task(name, model, checkpoint, 0, prepare=True)
                with (self.settings.folder / "log.txt").open("a") as log:
                    subprocess.run(task.command(), stdout=log, stderr=log, check=False)

    def measure_round(self, model: Model, checkpoint: Path, budgets: Sequence[int], number: int) -> None:
        reference = self.run("full", model, checkpoint, 0, None, number)
        if number == 0:
            self.take_reference(model, reference, weight_bytes(checkpoint))
        for budget in budgets if self.workloads else []:
            self.measure_floor(model, checkpoint, budget, reference, number)
            limit = self.models[model.name]["process_bytes"] + budget + ALLOWANCE
            for name in self.settings.contenders:
                if name != "full":
                    self.run(name, model, checkpoint, budget, limit, number)
            self.measure_floor(model, checkpoint, budget, reference, number)

    def take_reference(self, model: Model, reference: dict[str, Any], weights: int) -> None:
        """From the first fully loaded run: the process without weights, and what takes too long to compare.

        The process without weights is what the fully loaded one held at its peak, activations included.
        Where a pass takes minutes to compute, reading disappears in it and nothing is learned.
        """
        if "error" in reference:
            raise RuntimeError(f"the fully loaded model is the reference: {reference['error']}")
        slow = {
            a_pass["workload"]: computing(a_pass, reference)
            for a_pass in reference["passes"]
            if a_pass["number"] == 0 and computing(a_pass, reference) > self.settings.longest
        }
        for name, seconds in slow.items():
            say(f"  {name}: left out, a fully loaded pass takes {seconds:.0f} s here")
        self.workloads = [name for name in self.workloads if name not in slow]
        held = [
            a_pass["peak"] - a_pass["mapped_files"] - weights
            for a_pass in reference["passes"]
            if a_pass["workload"] not in slow
        ]
        self.models[model.name] |= {"process_bytes": max(held, default=0), "left_out": slow}

    def task(
        self, name: str, model: Model, checkpoint: Path, budget: int, lines: Path | None = None, **more: Any
    ) -> Task:
        scratch = self.settings.folder / "scratch" / f"{model.name}-{name}"
        scratch.mkdir(parents=True, exist_ok=True)
        return Task(
            contender=name,
            checkpoint=str(checkpoint),
            budget=budget,
            workloads=self.workloads,
            scratch=str(scratch),
            lines=str(lines or scratch / "prepare.jsonl"),
            outputs=str(self.outputs),
            warm=self.settings.warm,
            seconds=self.settings.seconds,
            longest=self.settings.longest if name == "full" else self.settings.timeout,
            **more,
        )

    def run(
        self, name: str, model: Model, checkpoint: Path, budget: int, limit: int | None, number: int
    ) -> dict[str, Any]:
        """One process, from a cold page cache; its facts are also kept in `runs`."""
        lines = self.settings.folder / f"lines-{os.getpid()}.jsonl"
        lines.unlink(missing_ok=True)
        task = self.task(name, model, checkpoint, budget, lines)
        drop_from_page_cache([*weight_files(checkpoint), *Path(task.scratch).rglob("*.safetensors")])
        ended, load = "", os.getloadavg()[0]
        with self.group(limit, checkpoint) as group, (self.settings.folder / "log.txt").open("a") as log:
            process = group.start(task.command(), stdout=log, stderr=log)
            try:
                process.wait(self.settings.timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                ended = f"stopped after {self.settings.timeout:.0f} s"
            peak = group.peak_memory()
            if group.killed():
                ended = "killed: went over the memory limit"
        facts = [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []
        lines.unlink(missing_ok=True)
        run = {
            "model": model.name,
            "contender": name,
            "budget": budget,
            "limit": limit,
            "round": number,
            "load_average": load,
            "peak_charged": peak,
            "passes": [without_kind(fact) for fact in facts if fact["kind"] == "pass"],
            **{fact["kind"]: without_kind(fact) for fact in facts if fact["kind"] in ("opened", "closed")},
        }
        errors = [fact["text"] for fact in facts if fact["kind"] == "error"]
        if ended or errors or process.returncode:
            run["error"] = ended or "; ".join(errors) or f"ended with {process.returncode}"
        self.runs.append(run)
        say(line_of(run))
        self.after_run()
        return run

    def measure_floor(
        self, model: Model, checkpoint: Path, budget: int, reference: dict[str, Any], number: int
    ) -> None:
        """The sweep of each workload's bytes, under the same throttle.

        Measured before and after a round's contenders; the faster one counts, disks are noisy.
        """
        swept: dict[int, float] = {}
        for name in self.workloads:
            wanted = bytes_to_read(model, checkpoint, budget, reference, name)
            if wanted not in swept:
                command = [
                    sys.executable,
                    "-m",
                    "bench.floor",
                    str(wanted),
                    *map(str, weight_files(checkpoint)),
                ]
                with self.group(None, checkpoint) as group:
                    process = group.start(command, stdout=subprocess.PIPE, text=True)
                    swept[wanted] = float(process.communicate()[0])
            compute = median_warm(reference, name)
            sweeps = WORKLOADS[name].sweeps
            floor = {
                "model": model.name,
                "budget": budget,
                "workload": name,
                "round": number,
                "bytes": wanted,
                "sweep_seconds": swept[wanted],
                "compute_seconds": compute,
                "seconds": max(compute, sweeps * swept[wanted]),
            }
            self.floors.append(floor)
            say(
                f"  floor, {name}: {floor['seconds']:.2f} s (compute {compute:.2f} s, "
                f"{sweeps} x {wanted / 1e9:.2f} GB at {wanted / swept[wanted] / 1e9:.2f} GB/s)"
            )


def bytes_to_read(
    model: Model, checkpoint: Path, budget: int, reference: dict[str, Any], workload: str
) -> int:
    """Bytes that one sweep can't find in a pool of `budget` bytes, at best.

    Dense: model - budget. A mixture of experts: what every pass uses comes first in the pool, the experts
    share what is left of it evenly; each pass then misses that share of the experts it routes to. The rows
    of an embedding that isn't tied count as nothing.
    """
    total = weight_bytes(checkpoint)
    routed = [a_pass["experts"] for a_pass in reference["passes"] if a_pass["workload"] == workload]
    config = model.config
    if not any(routed):
        return max(0, total - budget)
    expert = 3 * config["hidden_size"] * config["moe_intermediate_size"] * 2
    experts = expert * config["num_experts"] * config["num_hidden_layers"]
    embedding = config["vocab_size"] * config["hidden_size"] * 2
    always = total - experts - embedding
    held = min(1.0, max(0, budget - always) / experts)
    mean = sum(routed[1:]) / len(routed[1:]) if len(routed) > 1 else routed[0]
    return int(max(0, always - budget) + mean * expert * (1 - held))


def computing(a_pass: dict[str, Any], run: dict[str, Any]) -> float:
    """Seconds that a pass computed on the threads it had, whatever else the machine was doing."""
    return float(min(a_pass["seconds"], a_pass["cpu_seconds"] / run["opened"]["threads"]))


def warm_seconds(run: dict[str, Any], workload: str) -> list[float]:
    """Of the passes after the first; of the first where there was no other."""
    every = [a_pass["seconds"] for a_pass in run["passes"] if a_pass["workload"] == workload]
    return every[1:] or every


def median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def median_warm(run: dict[str, Any], workload: str) -> float:
    return median(warm_seconds(run, workload))


def without_kind(fact: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fact.items() if name != "kind"}


def line_of(run: dict[str, Any]) -> str:
    """One line for the terminal while the benchmark runs."""
    workloads = dict.fromkeys(a_pass["workload"] for a_pass in run["passes"])
    times = ", ".join(f"{name} {median_warm(run, name):.2f} s" for name in workloads)
    budget = f" {run['budget'] / 1e9:.2f} GB" if run["limit"] else ""
    end = f" [{run['error'].splitlines()[0][:160]}]" if "error" in run else ""
    return f"  round {run['round'] + 1} {run['contender']}{budget}: {times or 'no pass'}{end}"


def say(text: str) -> None:
    print(text, flush=True)
