"""Run PyTorch models larger than memory, bit for bit the same results.

import weightstream as ws

model = ws.load("path/to/checkpoint", memory="1GiB")
print(ws.stats(model))
"""

from importlib.metadata import PackageNotFoundError, version

from weightstream import _interpreter, errors, guard  # noqa: F401
from weightstream.api import close, load, resize, stats, stream
from weightstream.budget import Budget, Governor, govern
from weightstream.empty import empty
from weightstream.errors import (
    BudgetError,
    CheckpointError,
    ClosedError,
    ProgramError,
    ReadError,
    WeightstreamError,
    WriteError,
)
from weightstream.export import export_text
from weightstream.order import Order, order
from weightstream.program import Program
from weightstream.report import Stats
from weightstream.residency import Residency, residency
from weightstream.timeline import Timeline, trace

try:
    __version__ = version("weightstream")
except PackageNotFoundError:  # run from the source tree
    __version__ = "0"

guard.listen()

__all__ = [
    "Budget",
    "BudgetError",
    "CheckpointError",
    "ClosedError",
    "Governor",
    "Order",
    "Program",
    "ProgramError",
    "ReadError",
    "Residency",
    "Stats",
    "Timeline",
    "WeightstreamError",
    "WriteError",
    "close",
    "empty",
    "errors",
    "export_text",
    "govern",
    "load",
    "order",
    "residency",
    "resize",
    "stats",
    "stream",
    "trace",
]
