"""Random uses of streamed models under random faults, and an account of what came of them.

In `make test` with a fixed seed (test_soak.py); as long as you like with `python tests/soak.py --endless`.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import gc
import json
import logging
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Before torch: threads that spin while they wait would fight over the processors.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import torch
import weightstream as ws
from safetensors.torch import load_file, save_file
from torch import nn
from weightstream import _native

WIDTH, LAYERS = 512, 5
LEAST = _native.Stream.least_memory()
# Only a hang takes this long.
PATIENCE_S = 120
COMMAND = Path(sys.executable).with_name("weightstream")


class Wrong(AssertionError):
    """A result that is neither right nor an error."""


class Disk:
    """The checkpoint's file, which is changed while it is open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.content = path.read_bytes()
        self.times = path.stat().st_atime_ns, path.stat().st_mtime_ns
        self.other = path.with_suffix(".other")

    def truncate(self) -> None:
        os.truncate(self.path, random.randrange(len(self.content)))

    def overwrite(self) -> None:
        with self.path.open("r+b") as file:
            file.seek(len(self.content) // 2)
            file.write(bytes(len(self.content) // 4))

    def restore(self) -> None:
        with self.path.open("r+b") as file:
            file.write(self.content)
        os.utime(self.path, ns=self.times)

    def replace(self) -> None:
        self.path.rename(self.other)
        self.path.write_bytes(bytes(len(self.content)))

    def put_back(self) -> None:
        self.other.rename(self.path)


class Soak:
    """Two streamed models, a loaded one, and what may happen to them."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.random = random.Random(seed)
        torch.manual_seed(seed)
        path = folder / "model.safetensors"
        save_file(build().state_dict(), path)
        self.disk = Disk(path)
        self.reference = build()
        # Of a copy: a loaded file is mapped, so that damage would show through.
        shutil.copy(path, folder / "copy.safetensors")
        self.reference.load_state_dict(load_file(folder / "copy.safetensors"), assign=True)
        self.reference.requires_grad_(False)
        self.stored = dict(self.reference.state_dict())
        self.given = [torch.randn(3, WIDTH) for _ in range(4)]
        self.right: dict[Any, torch.Tensor] = {}
        self.faults = _native.Faults()
        self.faults.install()
        self.model = ws.stream(build(), path, LEAST)
        self.other = ws.stream(build(), path, LEAST)
        self.third = ws.stream(build(), path, LEAST)
        # Its own faults: bytes that come wrong are noticed where there are checksums, and only there.
        packed = folder / "packed"
        shutil.rmtree(packed, ignore_errors=True)
        subprocess.run([COMMAND, "pack", path, packed], check=True, capture_output=True)
        self.corruption = _native.Faults()
        self.corruption.install()
        self.packed = ws.stream(build(), packed, "16MiB")
        least = ws.stats(self.packed).least
        ws.resize(self.packed, least)
        # Weights that stay as they are stored are decoded again, and must be right each time.
        self.corruption.install(coded=True)
        self.coded = ws.stream(build(), packed, least + 2**21)
        self.faults.install()
        torch.compiler.reset()
        self.compiled = torch.compile(self.model, backend="aot_eager", fullgraph=True)
        self.block = torch.compile(self.other[2], backend="aot_eager", fullgraph=True)
        self.injected: Counter[str] = Counter()
        self.survived: Counter[str] = Counter()
        self.raised: Counter[str] = Counter()
        self.uses: list[Callable[[], None]] = [
            *[self.a_pass] * 8,
            *[self.a_pass_of_the_other] * 4,
            self.a_block_alone,
            self.a_compiled_pass,
            self.a_compiled_block,
            self.a_backward_pass,
            self.a_generation,
            self.threads,
            self.tasks,
            self.a_state_dict,
            self.a_direct_use,
            self.a_resize,
            self.a_reopening,
        ]
        self.packed_uses = [self.a_packed_pass, self.a_packed_backward_pass, self.a_packed_state_dict]
        self.uses += self.packed_uses

    # What is done with the models.

    def expected(self, use: str, given: int, compute: Callable[[torch.Tensor], Any]) -> torch.Tensor:
        """What the loaded model makes of an input; computed once."""
        if (use, given) not in self.right:
            self.right[use, given] = compute(self.given[given])
        return self.right[use, given]

    def check(self, use: str, ours: Callable[[torch.Tensor], Any], loaded: Callable[..., Any]) -> None:
        given = self.random.randrange(len(self.given))
        same(ours(self.given[given]), self.expected(use, given, loaded))

    def a_pass(self) -> None:
        self.check("pass", self.model, self.reference)

    def a_pass_of_the_other(self) -> None:
        self.check("pass", self.other, self.reference)

    def a_block_alone(self) -> None:
        index = self.random.randrange(LAYERS)
        self.check(f"block {index}", self.model[index], self.reference[index])

    def a_compiled_pass(self) -> None:
        with torch.no_grad():
            self.check("pass", self.compiled, self.reference)

    def a_compiled_block(self) -> None:
        with torch.no_grad():
            self.check("block 2", self.block, self.reference[2])

    def a_backward_pass(self) -> None:
        self.check("backward", lambda x: gradient(self.model, x), lambda x: gradient(self.reference, x))

    def a_generation(self) -> None:
        self.check("generation", lambda x: generated(self.model, x), lambda x: generated(self.reference, x))

    def threads(self) -> None:
        together([self.a_pass, self.a_pass_of_the_other, self.a_pass])

    def tasks(self) -> None:
        async def passes() -> None:
            runs = [asyncio.to_thread(self.a_pass), asyncio.to_thread(self.a_pass_of_the_other)]
            errors = await asyncio.gather(*runs, return_exceptions=True)
            for error in errors:
                if error is not None:
                    raise error

        asyncio.run(passes())

    def a_state_dict(self) -> None:
        made = self.model.state_dict()
        for name, value in self.stored.items():
            same(made[name], value)

    def a_direct_use(self) -> None:
        index = self.random.randrange(LAYERS)
        same(self.other[index].weight.sum(dim=1), self.reference[index].weight.sum(dim=1))

    def a_resize(self) -> None:
        memory = self.random.choice([LEAST, LEAST + 2**20, 2 * LEAST, 10 * LEAST])
        together([self.a_pass, lambda: ws.resize(self.model, memory)])
        least = ws.stats(self.coded).least
        memory = self.random.choice([least, least + 2**20, least + 2**22])
        together(
            [
                lambda: self.check("pass", self.coded, self.reference),
                lambda: ws.resize(self.coded, memory),
            ]
        )

    def a_reopening(self) -> None:
        if not self.faulty and self.random.random() < 0.1:
            ws.close(self.third)
            ws.stream(self.third, self.disk.path, LEAST)
        self.check("pass", self.third, self.reference)

    def one_packed(self) -> nn.Module:
        return self.random.choice([self.packed, self.coded])

    def a_packed_pass(self) -> None:
        self.check("pass", self.one_packed(), self.reference)

    def a_packed_backward_pass(self) -> None:
        packed = self.one_packed()
        self.check("backward", lambda x: gradient(packed, x), lambda x: gradient(self.reference, x))

    def a_packed_state_dict(self) -> None:
        made = self.one_packed().state_dict()
        for name, value in self.stored.items():
            same(made[name], value)

    # What goes wrong meanwhile. Each yields while it lasts.

    faulty = False  # a fault that lasts is there now

    @contextmanager
    def passing(self, effect: str, **kind: Any) -> Iterator[None]:
        number = self.faults.add(effect, skip=self.random.randrange(12), **kind)
        yield
        self.faults.remove(number)

    @contextmanager
    def lasting(self, **kind: Any) -> Iterator[None]:
        number = self.faults.add("fail", **kind)
        self.faulty = True
        yield
        self.faulty = False
        self.faults.remove(number)

    @contextmanager
    def corrupt(self, **kind: Any) -> Iterator[None]:
        number = self.corruption.add("corrupt", **kind)
        yield
        self.corruption.remove(number)

    @contextmanager
    def damaged(self, damage: Callable[[], None], repair: Callable[[], None]) -> Iterator[None]:
        damage()
        self.faulty = True
        yield
        self.faulty = False
        repair()

    @contextmanager
    def replaced(self) -> Iterator[None]:
        self.disk.replace()
        self.faulty = True  # for what would open it anew
        yield
        self.faulty = False
        self.disk.put_back()

    def a_fault(self) -> tuple[str, Any]:
        start = self.random.randrange(len(self.disk.content))
        pick = self.random.random()
        table = [
            (0.46, "an error that passes", lambda: self.passing("fail", times=1)),
            # The third one costs a pause of 0.2 s: seldom, or most of the time would go by with that.
            (0.07, "two errors that pass", lambda: self.passing("fail", times=2)),
            (0.01, "three errors that pass", lambda: self.passing("fail", times=3)),
            (0.22, "a short read", lambda: self.passing("short", times=1)),
            (0.12, "a slow read", lambda: self.passing("delay", seconds=0.02, times=1)),
            (0.001, "a read of two seconds", lambda: self.passing("delay", seconds=2, times=1)),
            (0.010, "unreadable sectors", lambda: self.lasting(start=start, end=start + 2**20)),
            (0.006, "device unplugged", lambda: self.lasting(errno=19)),
            (0.006, "file truncated", lambda: self.damaged(self.disk.truncate, self.disk.restore)),
            (0.006, "file overwritten", lambda: self.damaged(self.disk.overwrite, self.disk.restore)),
            (0.02, "file replaced", self.replaced),
            (0.03, "corrupt bytes once", lambda: self.corrupt(times=1, skip=self.random.randrange(6))),
            (0.01, CORRUPT, lambda: self.corrupt(start=start // 2, end=start // 2 + 2**19)),
        ]
        for share, name, fault in table:
            pick -= share
            if pick < 0:
                return name, fault()
        return table[0][1], table[0][2]()

    # The account.

    def operation(self) -> None:
        """One use, under a fault or not; raises Wrong, or what should not have been raised."""
        faulthandler.dump_traceback_later(PATIENCE_S, exit=True)
        use = self.random.choice(self.uses)
        if self.random.random() < 0.6:
            use()
            return
        name, fault = self.a_fault()
        if name.startswith("corrupt"):
            use = self.random.choice(self.packed_uses)
        passes = name not in LASTING
        with fault:
            self.injected[name] += 1
            try:
                use()
            except ws.ReadError as error:
                if passes:
                    raise
                if name == CORRUPT and not (
                    "checksum" in str(error) and any(of in str(error) for of in self.stored)
                ):
                    raise Wrong(f"damage that is told as {error}") from error
                self.raised[name] += 1
        if not passes:
            # As soon as the source is well, so are the models.
            self.a_pass()
            self.a_pass_of_the_other()
            self.a_packed_pass()
            self.check("pass", self.third, self.reference)
        self.survived[name] += 1

    def table(self) -> str:
        """What was injected, and what came of it, in Markdown."""
        rows = ["| fault | injected | told as an error | survived |", "|---|---|---|---|"]
        for name in sorted(self.injected):
            rows.append(f"| {name} | {self.injected[name]} | {self.raised[name]} | {self.survived[name]} |")
        return "\n".join(rows)

    def close(self) -> None:
        for model in (self.model, self.other, self.third, self.packed, self.coded):
            ws.close(model)
        self.faults.clear()
        _native.Faults.uninstall()
        faulthandler.cancel_dump_traceback_later()


CORRUPT = "corrupt bytes that stay"
LASTING = {"unreadable sectors", "device unplugged", "file truncated", "file overwritten", CORRUPT}


def build() -> nn.Module:
    return nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)), nn.Tanh()).eval()


def gradient(model: nn.Module, given: torch.Tensor) -> torch.Tensor | None:
    given = given.clone().requires_grad_()
    model(given).sum().backward()
    return given.grad


def generated(model: nn.Module, given: torch.Tensor) -> torch.Tensor:
    for _ in range(3):
        given = model(given)
    return given


def same(ours: torch.Tensor | None, right: torch.Tensor | None) -> None:
    if ours is None or right is None:
        raise Wrong(f"no result: {ours}, {right}")
    if not torch.equal(ours, right):
        nan, most = int(ours.isnan().sum()), (ours - right).abs().max()
        raise Wrong(f"a result differs by up to {most}, {nan} numbers are NaN, and no error was raised")


def together(tasks: list[Callable[[], None]]) -> None:
    errors: list[BaseException] = []

    def run(task: Callable[[], None]) -> None:
        try:
            task()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # A wrong number is worse than an error.
    for error in sorted(errors, key=lambda error: isinstance(error, ws.ReadError)):
        raise error


def held() -> dict[str, int]:
    """What a process may leak: threads, descriptors, mappings."""
    gc.collect()
    return {
        "threads": len(os.listdir("/proc/self/task")),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "mappings": len(Path("/proc/self/maps").read_text().splitlines()),
    }


def soak(seed: int, operations: int | None, report_s: float = 60) -> tuple[str, dict[str, Any]]:
    """Run `operations` of them, or without end; the table for people, and what there is to check."""
    logging.getLogger("weightstream").setLevel(logging.CRITICAL)
    folder = Path(tempfile.mkdtemp(prefix="weightstream-soak-"))
    try:
        warm = Soak(folder, seed)
        for _ in range(100):
            warm.operation()
        warm.close()
        del warm
        before = held()
        run, done, last = Soak(folder, seed), 0, time.monotonic()
        while operations is None or done < operations:
            run.operation()
            done += 1
            if time.monotonic() - last > report_s:
                last = time.monotonic()
                print(f"\n{done} operations, none wrong, none stuck\n{run.table()}", flush=True)
        run.close()
        table = run.table()
        found = {"operations": done, "injected": run.injected, "survived": run.survived}
        del run
        return table, found | {"before": before, "after": held()}
    finally:
        shutil.rmtree(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--operations", type=int, default=10_000)
    parser.add_argument("--endless", action="store_true")
    options = parser.parse_args()
    table, found = soak(options.seed, None if options.endless else options.operations)
    print(f"{found['operations']} operations, seed {options.seed}: no result wrong, none stuck")
    print(table)
    print(json.dumps(found))


if __name__ == "__main__":
    sys.exit(main())
