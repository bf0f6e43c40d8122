"""What the tests of closing run in a process of its own: `python -m support.closings NAME FILE`."""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Callable

import torch
import weightstream as ws
from support.budget import LEAST
from support.lives import WIDTH, build, opened
from torch import nn
from torch.nn import functional
from weightstream import _native


def until_closed(model: nn.Module, given: torch.Tensor, expected: torch.Tensor, ends: list[str]) -> None:
    """Passes until one raises; every result is right."""
    try:
        while True:
            assert torch.equal(model(given), expected)
    except ws.ClosedError:
        ends.append("closed")
    except BaseException as error:
        ends.append(repr(error))


def started(count: int, task: Callable[..., None], *args: object) -> list[threading.Thread]:
    threads = [threading.Thread(target=task, args=args) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


def joined(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)


def passes(file: str) -> None:
    """Threads in passes all end with ClosedError, wherever it meets them."""
    for step in range(24):
        model, given, expected = opened(file)
        ends: list[str] = []
        count = 1 + step % 4
        threads = started(count, until_closed, model, given, expected, ends)
        time.sleep(0.001 * step)
        ws.close(model)
        joined(threads)
        assert ends == ["closed"] * count, ends


def slow(file: str) -> None:
    """A pass that takes longer than closing waits goes on without its weights, and has no result."""
    faults = _native.Faults()
    faults.install()
    model, given, expected = opened(file)
    faults.add("delay", seconds=3)
    ends: list[str] = []
    threads = started(2, until_closed, model, given, expected, ends)
    while not faults.hits:
        time.sleep(0.01)
    ws.close(model)
    joined(threads)
    assert ends == ["closed"] * 2, ends


def hook(file: str) -> None:
    """Closed by a hook of the pass itself, before the block's weights are used and after."""
    for late in (False, True):
        model, given, expected = opened(file)
        other: list[str] = []
        threads = started(1, until_closed, model, given, expected, other)
        me = threading.get_ident()

        def closes(*ignored: object, me: int = me, model: nn.Module = model) -> None:
            if threading.get_ident() == me:
                ws.close(model)

        (model[2].register_forward_hook if late else model[2].register_forward_pre_hook)(closes)
        mine: list[str] = []
        until_closed(model, given, expected, mine)
        joined(threads)
        assert mine + other == ["closed"] * 2, (mine, other)


def twice(file: str) -> None:
    """Closed by several threads at once, while others pass: whoever returns finds the memory given back."""
    for _ in range(5):
        model, given, expected = opened(file)
        ends: list[str] = []
        used: list[int] = []

        def closes(model: nn.Module = model, used: list[int] = used) -> None:
            ws.close(model)
            used.append(ws.stats(model).used)

        threads = started(2, until_closed, model, given, expected, ends)
        joined(started(3, closes) + threads)
        assert (ends, used) == (["closed"] * 2, [0] * 3), (ends, used)


def backward(file: str) -> None:
    """Closed in the middle of a backward pass, and before one."""
    model, given, _ = opened(file)
    for closed_before in (False, True):
        model = ws.stream(build(), file, LEAST)
        given.requires_grad_(True)
        output = model(given)
        if closed_before:
            ws.close(model)
        else:
            # Called when all blocks but the first are done.
            model[0].register_full_backward_hook(lambda *ignored, model=model: ws.close(model))
            output = model(given)
        try:
            output.sum().backward()
        except ws.ClosedError:
            continue
        raise AssertionError("never told")


def used_after(file: str) -> None:
    """Weights used after the end: an error at once in the main thread, NaN and words in another."""
    model, given, _ = opened(file)
    weight, bias = model[1].weight, model[1].bias
    compiled = torch.compile(lambda x: functional.linear(x, weight, bias), backend="eager")
    ws.close(model)
    uses: list[Callable[[], object]] = [
        lambda: weight.sum(),
        lambda: functional.linear(given, weight),
        lambda: compiled(given),
        lambda: weight.detach().numpy().copy(),
        lambda: model.state_dict(),
        lambda: weight[0, 0].item(),
        lambda: weight.data.add_(1),
    ]
    for number, use in enumerate(uses):
        # Each chunk is told of when it is met for the first time.
        if number:
            model = ws.stream(build(), file, LEAST)
            weight, bias = model[1].weight, model[1].bias
            ws.close(model)
        try:
            use()
            sum(range(10))
        except ws.ClosedError:
            continue
        raise AssertionError(f"use {number} was never told")
    model = ws.stream(build(), file, LEAST)
    ws.close(model)
    seen: list[bool] = []
    joined(started(1, lambda: seen.append(bool(model[3].weight.isnan().all()))))
    assert seen == [True]


def budget(file: str) -> None:
    """One of two models on a budget is closed while both pass and the budget changes."""
    shared = ws.Budget(4 * LEAST)
    models = [ws.stream(build(), file, shared) for _ in range(2)]
    given = torch.randn(3, WIDTH)
    expected = models[0](given)
    ends: list[list[str]] = [[], []]
    threads = [
        thread
        for model, told in zip(models, ends, strict=True)
        for thread in started(2, until_closed, model, given, expected, told)
    ]
    resizing = started(1, lambda: [shared.resize((3 + step % 2) * LEAST) for step in range(20)])
    time.sleep(0.05)
    ws.close(models[0])
    joined(resizing)
    assert torch.equal(models[1](given), expected)
    ws.close(models[1])
    joined(threads)
    assert ends == [["closed"] * 2] * 2, ends


def resizing(file: str) -> None:
    """A budget that changes while its model is closed: done, or ClosedError."""
    for _ in range(10):
        model, given, expected = opened(file)
        ends: list[str] = []

        def resizes(model: nn.Module = model, ends: list[str] = ends) -> None:
            try:
                for step in range(1000):
                    ws.resize(model, LEAST * (1 + step % 2))
            except ws.ClosedError:
                ends.append("closed")

        threads = started(1, until_closed, model, given, expected, ends) + started(1, resizes)
        time.sleep(0.01)
        ws.close(model)
        joined(threads)
        assert ends == ["closed"] * 2, ends


def leaving(file: str) -> None:
    """The interpreter ends while passes run of models that are closed, and that are being closed."""
    for _ in range(2):
        model, given, expected = opened(file)
        for _ in range(2):
            threading.Thread(target=until_closed, args=(model, given, expected, []), daemon=True).start()
        threading.Thread(target=ws.close, args=(model,), daemon=True).start()


CLOSINGS: dict[str, Callable[[str], None]] = {
    closing.__name__: closing
    for closing in (passes, slow, hook, twice, backward, used_after, budget, resizing, leaving)
}

if __name__ == "__main__":
    try:
        CLOSINGS[sys.argv[1]](sys.argv[2])
    except BaseException:
        traceback.print_exc()
        os._exit(1)
