"""A recording of what the stream did when, for Perfetto (ui.perfetto.dev) or chrome://tracing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

from torch import nn

from weightstream.streamed import streamed_of

_Event = tuple[str, int, int, int, int]


class Timeline:
    """Records reads, publishes, stalls and blocks between start and stop; `with` does both."""

    def __init__(self, model: nn.Module, path: str | os.PathLike[str]) -> None:
        self._streamed = streamed_of(model)
        self._path = path

    def start(self) -> None:
        """Begin to record; what was recorded before is forgotten."""
        self._streamed.stream.events(True)

    def stop(self) -> None:
        """End the recording and write the file."""
        events = self._streamed.stream.events(False)
        with open(self._path, "w", encoding="utf-8") as file:
            json.dump({"traceEvents": list(_chrome(events, self._streamed.block_names))}, file)

    def __enter__(self) -> Timeline:
        """Start."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop, also after an error: that is when a recording is wanted most."""
        self.stop()


def trace(model: nn.Module, path: str | os.PathLike[str]) -> Timeline:
    """A timeline of the streamed `model`, written to `path`: `with trace(model, "timeline.json"): model(x)`.

    Without `with`, call its start() and stop(). Raises TypeError where `model` is not streamed.
    """
    return Timeline(model, path)


def _chrome(events: Sequence[_Event], blocks: Sequence[str]) -> Iterator[dict[str, Any]]:
    first = min((start for _, start, *_ in events), default=0)
    process = os.getpid()
    lanes: dict[tuple[str, int], list[tuple[int, int]]] = {}
    named: dict[int, str] = {}
    for kind, start, end, number, thread in sorted(events, key=lambda event: (event[1], -event[2])):
        lane = _lane(lanes, kind, thread, start, end)
        named[lane] = "reads" if kind == "read" else f"thread {thread}"
        is_block = kind == "block"
        name = blocks[number] if is_block and 0 <= number < len(blocks) else f"{kind} {number}"
        yield {
            "name": name, "cat": kind, "ph": "X", "pid": process, "tid": lane,
            "ts": (start - first) / 1000, "dur": (end - start) / 1000,
            "args": {"block" if is_block else "chunk": number},
        }  # fmt: skip
    for lane, name in named.items():
        yield {"name": "thread_name", "ph": "M", "pid": process, "tid": lane, "args": {"name": name}}


def _lane(
    lanes: dict[tuple[str, int], list[tuple[int, int]]], kind: str, thread: int, start: int, end: int
) -> int:
    """A row of the picture: events of one row may nest, but reads in flight together overlap."""
    if kind != "read":
        return 1000 + thread
    rows = lanes.setdefault(("read", 0), [])
    for index, (row, busy_until) in enumerate(rows):
        if busy_until <= start:
            rows[index] = (row, end)
            return row
    rows.append((len(rows), end))
    return len(rows) - 1
