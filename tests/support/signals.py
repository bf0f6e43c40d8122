"""What test_signals.py runs in a process of its own: `python -m support.signals LIFE FILE`."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import resource
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from faulthandler import enable as enable_unseen_by_us
from pathlib import Path

import torch
import weightstream as ws
from safetensors.torch import load_file
from support.budget import LEAST
from torch import nn

# Larger than the least budget, so that every pass touches what is not there.
WIDTH, LAYERS = 1024, 4
ROWS = 64
SKIPPED = 77


def build() -> nn.Module:
    return nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)))


def opened(file: str) -> nn.Module:
    return ws.stream(build(), file, LEAST).requires_grad_(False)


def reference(file: str) -> nn.Module:
    model = build()
    model.load_state_dict(load_file(file), assign=True)
    return model.requires_grad_(False)


def block_all() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


def start_a_team(threads: int) -> None:
    """OpenMP's threads of this thread inherit what only they have blocked."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    torch.set_num_threads(threads)
    torch.randn(1000, 1000) @ torch.randn(1000, 1000)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def is_right(model: Callable[[torch.Tensor], torch.Tensor], file: str) -> bool:
    given = torch.randn(ROWS, WIDTH)
    return torch.equal(model(given), reference(file)(given))


def in_a_thread(task: Callable[[], bool]) -> bool:
    results: list[bool] = []
    thread = threading.Thread(target=lambda: results.append(task()))
    thread.start()
    thread.join()
    return results == [True]


def blocked(task: Callable[[], bool]) -> Callable[[], bool]:
    def run() -> bool:
        block_all()
        return task()

    return run


def main_thread(file: str) -> bool:
    """Opened with the signal blocked, and blocked again after."""
    block_all()
    model = opened(file)
    right = is_right(model, file)
    block_all()
    return right and is_right(model, file)


def threads(file: str) -> bool:
    """Threads that block it, and one that inherits it blocked, in eager, compiled and backward passes."""
    model = opened(file)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    right = is_right(compiled, file)
    for task in (lambda: is_right(model, file), lambda: is_right(compiled, file), backward(model, file)):
        right &= in_a_thread(blocked(task))
    # A graph sees to it that it is served too.
    enable_unseen_by_us()
    right &= is_right(compiled, file)
    block_all()
    return right and in_a_thread(lambda: is_right(model, file))


def teams(file: str) -> bool:
    """OpenMP's threads of the main thread before the model is opened, of another one, and after a pass."""
    start_a_team(4)
    model = opened(file)
    right = is_right(model, file)

    def with_its_own() -> bool:
        start_a_team(3)
        return is_right(model, file)

    right &= in_a_thread(with_its_own)
    torch.set_num_threads(1)
    right &= is_right(model, file)
    start_a_team(4)
    return right and is_right(model, file)


def backward(model: nn.Module, file: str) -> Callable[[], bool]:
    given = torch.randn(ROWS, WIDTH, requires_grad=True)
    with torch.enable_grad():
        made = model(given).square().sum()

    def run() -> bool:
        made.backward()
        expected = given.detach().clone().requires_grad_()
        with torch.enable_grad():
            reference(file)(expected).square().sum().backward()
        return torch.equal(given.grad, expected.grad)

    return run


def program(file: str) -> bool:
    model = reference(file)
    given = torch.randn(2, WIDTH)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/model.pt2"
        torch.export.save(torch.export.export(model, (given,)), path)
        block_all()
        run = ws.Program(path, LEAST)
        first = run(given)
        return torch.allclose(first, model(given), atol=1e-4) and in_a_thread(
            lambda: torch.equal(run(given), first)
        )


def uses(model: nn.Module, file: str) -> bool:
    """Uses outside of any eager pass, each of a weight that was not used before."""
    expected = reference(file)
    given = torch.randn(3, WIDTH)
    linear = nn.functional.linear
    return (
        torch.equal(model[0].weight.sum(), expected[0].weight.sum())
        and repr(model[1].weight) == repr(expected[1].weight)
        and bytes(model[2].weight.numpy()) == bytes(expected[2].weight.numpy())
        and torch.equal(linear(given, model[3].weight), linear(given, expected[3].weight))
    )


def switched(file: str) -> bool:
    """Enabled and disabled while a model is open, then enabled in another thread."""
    right = True
    for change in ("enable", "disable", "enable"):
        model = opened(file)
        getattr(faulthandler, change)()
        right &= uses(model, file)
        ws.close(model)
    model = opened(file)
    return right and in_a_thread(lambda: uses(model, file))


def disabled_only(file: str) -> bool:
    model = opened(file)
    faulthandler.disable()
    return uses(model, file)


def enabled_unseen(file: str) -> bool:
    model = opened(file)
    enable_unseen_by_us()
    return uses(model, file)


def raised(file: str) -> bool:
    model = opened(file)
    right = uses(model, file)
    faulthandler.enable()
    signal.raise_signal(signal.SIGSEGV)
    return right


def raised_in_a_thread(file: str) -> bool:
    model = opened(file)
    model[0].weight.sum()
    enable_unseen_by_us()
    return in_a_thread(lambda: signal.raise_signal(signal.SIGSEGV) is None)


def crashed(file: str) -> bool:
    model = opened(file)
    for _ in range(2):
        faulthandler.enable()
        faulthandler.disable()
    faulthandler.enable()
    right = uses(model, file)
    ctypes.string_at(8)
    return right


def resident() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("RssAnon:", "RssShmem:")))


def locked(file: str) -> bool:
    """A model of four times its budget, in a process that locks all memory that it gets."""
    future = 2
    libc = ctypes.CDLL(None, use_errno=True)
    with ws.empty():
        model = build()
    if libc.mlockall(future) != 0 or resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] != resource.RLIM_INFINITY:
        libc.munlockall()
        if os.geteuid() != 0 or libc.mlockall(future) != 0:
            os._exit(SKIPPED)
    memory = sum(weight.nbytes for weight in model.parameters()) // 4
    start = resident()
    ws.stream(model, file, max(memory, LEAST))
    taken = resident() - start
    # Stacks of the threads that read and decode are locked whole.
    assert taken < max(memory, LEAST) + 8 * 2**20, taken
    return is_right(model, file)


def few_addresses(file: str) -> bool:
    module = build()
    size = next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmSize" in line)
    resource.setrlimit(resource.RLIMIT_AS, (int(size.split()[1]) * 1024 + 4 * 2**20, -1))
    refused = ""
    try:
        ws.stream(module, file, LEAST)
    except ws.WeightstreamError as error:
        refused = str(error)
    resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
    return "RLIMIT_AS" in refused and is_right(ws.stream(module, file, LEAST), file)


def no_threads(file: str) -> bool:
    """Every thread of ours asks for a stack that is not to be had."""
    os.environ["RUST_MIN_STACK"] = str(2**46)
    program = Path(__file__).parents[2] / "crates/ffi/tests/totals.pt2"
    tried: tuple[Callable[[], object], ...] = (
        lambda: opened(file), lambda: ws.Budget(LEAST), lambda: ws.Program(program, LEAST),
    )  # fmt: skip
    refused = 0
    for open_one in tried:
        try:
            open_one()
        except ws.WeightstreamError as error:
            assert "can't start a thread" in str(error), error
            refused += 1
    return refused == len(tried)


LIVES: dict[str, Callable[[str], bool]] = {
    life.__name__: life
    for life in (
        main_thread, threads, teams, program, switched, disabled_only, enabled_unseen, raised,
        raised_in_a_thread, crashed, locked, few_addresses, no_threads,
    )
}  # fmt: skip

if __name__ == "__main__":
    torch.set_grad_enabled(False)
    sys.exit(0 if LIVES[sys.argv[1]](sys.argv[2]) else 1)
