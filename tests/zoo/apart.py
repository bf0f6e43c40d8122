"""Work on one specimen in a process of its own, which may die or never end."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.zoo.specimens import Specimen

#: Seconds that one specimen may take.
PATIENCE = 600

#: What became of a specimen: a line of a table.
Record = dict[str, str]


def record(specimen: Specimen, result: str, detail: str = "", **form: str) -> Record:
    """One line of a table; `form` says in which of its forms the specimen was."""
    named = {"collection": specimen.collection, "name": specimen.name}
    return named | form | {"result": result, "detail": detail}


def write_records(path: Path | None, records: list[Record]) -> None:
    """Write a line of JSON for each, where a file for them is wanted."""
    if path is not None:
        path.write_text("".join(json.dumps(one) + "\n" for one in records))


def apart(work: Callable[[], Iterator[Record]], report: Path) -> list[Record]:
    """The records that `work` gave before it ended, died or lost patience; `report` is a file of ours."""
    report.parent.mkdir(parents=True, exist_ok=True)
    report.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        try:
            for record in work():
                with report.open("a") as file:
                    file.write(json.dumps(record) + "\n")
        finally:
            os._exit(0)
    end = time.monotonic() + PATIENCE
    while os.waitpid(child, os.WNOHANG)[0] == 0:
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            break
        time.sleep(0.05)
    told = [json.loads(one) for one in report.read_text().splitlines()] if report.exists() else []
    report.unlink(missing_ok=True)
    return told
