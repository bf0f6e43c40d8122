"""Threads whose errors and hangs fail the test that started them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

# Only a hang takes this long.
PATIENCE_S = 240


def run_together(tasks: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run every task in a thread of its own, all starting at once; returns their results in order."""
    barrier = threading.Barrier(len(tasks))
    results: list[Any] = [None] * len(tasks)
    errors: list[BaseException] = []

    def run(index: int) -> None:
        try:
            barrier.wait()
            results[index] = tasks[index]()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(index,), daemon=True) for index in range(len(tasks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert not any(thread.is_alive() for thread in threads), "a thread hangs"
    if errors:
        raise errors[0]
    return results
