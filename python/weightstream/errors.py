"""The errors that weightstream raises; all derive from `WeightstreamError`, a RuntimeError."""

from weightstream._native import (
    BudgetError,
    CheckpointError,
    ClosedError,
    ProgramError,
    ReadError,
    WeightstreamError,
    WriteError,
)

__all__ = [
    "BudgetError",
    "CheckpointError",
    "ClosedError",
    "ProgramError",
    "ReadError",
    "WeightstreamError",
    "WriteError",
]
