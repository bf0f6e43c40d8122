"""What the tests of process life run in a process of its own: `python -m support.lives LIFE FILE`."""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
import tqdm
import weightstream as ws
from support.budget import LEAST
from torch import nn
from weightstream import _native

WIDTH, LAYERS = 512, 6


def build(width: int = WIDTH, layers: int = LAYERS) -> nn.Module:
    return nn.Sequential(*(nn.Linear(width, width) for _ in range(layers)))


def opened(file: str) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """A streamed model, an input, and what it makes of that."""
    model = ws.stream(build(), file, LEAST)
    given = torch.randn(3, WIDTH)
    return model, given, model(given)


def fork(file: str) -> None:
    """The child gets errors, and the parent goes on."""
    model, given, expected = opened(file)
    bias = model[1].bias.tolist()
    child = os.fork()
    if child == 0:
        for use in (lambda: model(given), lambda: ws.resize(model, LEAST), model.state_dict):
            try:
                use()
                os._exit(1)
            except ws.WeightstreamError as error:
                if "parent process" not in str(error):
                    os._exit(2)
        # A stream of its own works. (No operators: OpenMP itself hangs in a forked child.)
        with ws.empty():
            own = build()
        ws.stream(own, file, LEAST)
        os._exit(0 if own[1].bias.tolist() == bias else 3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    child = os.fork()
    if child == 0:
        model[1].bias.tolist()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGSEGV
    assert torch.equal(model(given), expected)


def execute(file: str) -> None:
    """Another program in this process inherits nothing."""
    opened(file)
    code = "import os; fds = os.listdir('/proc/self/fd'); print('fine' if len(fds) <= 4 else fds)"
    os.execv(sys.executable, [sys.executable, "-c", code])


def interrupt(file: str) -> None:
    """Ctrl-C anywhere in passes: the next ones are right."""
    model, given, expected = opened(file)
    caught = 0
    for step in range(200):
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.0005 + step * 0.00002)
            while True:
                assert torch.equal(model(given), expected)
        except KeyboardInterrupt:
            caught += 1
    assert caught == 200
    assert torch.equal(model(given), expected) and ws.stats(model).errors == 0


def raising(file: str) -> None:
    """An exception in the middle of passes, in several threads."""
    model, given, expected = opened(file)
    fails = threading.local()

    def fail(*ignored: object) -> None:
        if getattr(fails, "now", False):
            raise RuntimeError("as wanted")

    model[3].register_forward_hook(fail)

    def passes() -> None:
        for count in range(50):
            fails.now = count % 2 == 0
            try:
                assert torch.equal(model(given), expected)
            except RuntimeError as error:
                assert "as wanted" in str(error) and fails.now

    threads = [threading.Thread(target=passes) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torch.equal(model(given), expected)


def leave(file: str) -> None:
    """The interpreter ends while threads are in the middle of passes, waiting for their weights."""
    faults = _native.Faults()
    faults.install()
    model, given, _ = opened(file)
    faults.add("delay", seconds=20)
    for _ in range(3):
        threading.Thread(target=model, args=(given,), daemon=True).start()
    time.sleep(0.3)


def collect(file: str) -> None:
    """The last reference to a model goes while another thread is in a pass, and everything comes back."""

    def passes(model: nn.Module, given: torch.Tensor, expected: torch.Tensor) -> None:
        for _ in range(20):
            assert torch.equal(model(given), expected)

    def round() -> None:
        thread = threading.Thread(target=passes, args=opened(file))
        thread.start()
        gc.collect()
        thread.join()
        del thread
        gc.collect()

    round()
    before = held()
    for _ in range(10):
        round()
    after = held()
    assert after["threads"] <= before["threads"] and after["descriptors"] <= before["descriptors"]


def settled_threads() -> int:
    """How many there are once those are gone that end; a loaded machine takes its time over it."""
    least = len(os.listdir("/proc/self/task"))
    for _ in range(100):
        time.sleep(0.01)
        least = min(least, len(os.listdir("/proc/self/task")))
    return least


def held() -> dict[str, int]:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "threads": settled_threads(),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "mappings": len(Path("/proc/self/maps").read_text().splitlines()),
        "addresses": int(status["VmSize"].split()[0]) * 1024,
        "memory": int(status["RssAnon"].split()[0]) * 1024,
    }


def cycles(file: str) -> None:
    """A thousand times streamed and closed."""
    # Where a first pass takes so long that its progress is shown, this would start a thread for good.
    tqdm.tqdm.monitor_interval = 0
    model = build(64, 4)
    given = torch.randn(1, 64)
    results = []
    for count in (100, 900):
        for cycle in range(count):
            ws.stream(model, file, LEAST)
            if cycle % 10 == 0:
                model(given)
            ws.close(model)
        results.append(held())
    print(json.dumps(results))


def crash(file: str) -> None:
    """A real segmentation fault elsewhere, with a model streaming."""
    faulthandler.enable()
    opened(file)
    ctypes.string_at(8)


def crash_before(file: str) -> None:
    """As `crash`, with a handler that was there before."""
    model, given, expected = opened(file)
    faulthandler.enable()
    assert torch.equal(model(given), expected)
    ctypes.string_at(8)


def own_handler(file: str) -> None:
    """A user's own handler in C's form gets what is not ours, and passes go on after it."""
    model, given, expected = opened(file)
    seen = []
    handler_type = ctypes.CFUNCTYPE(None, ctypes.c_int)

    @handler_type
    def handler(number: int) -> None:
        seen.append(number)

    libc = ctypes.CDLL(None)
    libc.signal(signal.SIGSEGV, handler)
    for _ in range(3):
        assert torch.equal(model(given), expected)
        os.kill(os.getpid(), signal.SIGSEGV)
    assert seen == [signal.SIGSEGV] * 3, seen


LIVES: dict[str, Callable[[str], None]] = {
    life.__name__: life
    for life in (
        fork, execute, interrupt, raising, leave, collect, cycles, crash, crash_before, own_handler
    )
}  # fmt: skip

if __name__ == "__main__":
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        LIVES[sys.argv[1]](sys.argv[2])
    except BaseException:
        traceback.print_exc()
        os._exit(1)
