"""Budgets that several models share, and budgets that follow the pressure on memory."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType

from torch import nn

from weightstream import _native
from weightstream.memory import format_bytes, parse_memory
from weightstream.streamed import streamed_of

Memory = int | float | str


class Budget:
    """Memory that several models share: give it as `memory=` to each `load` or `stream`.

    At every moment all of them together stay within it. Models that run get equal shares (see `share`), as
    far as they can use them; a model that has not run for a second keeps what the others can't use. Shares
    change while passes go on.
    """

    def __init__(self, memory: Memory) -> None:
        """`memory`: bytes, a size ("4GiB"), or a share of the free memory (0.5, "50%")."""
        self.native = _native.Budget(parse_memory(memory))

    @property
    def memory(self) -> int:
        """Bytes."""
        return self.native.memory()

    @property
    def least(self) -> int:
        """Bytes without which the models that are open don't work."""
        return self.native.least()

    def share(self, priority: float = 1.0) -> Share:
        """This budget as `memory=` of a model that gets `priority` times what one of priority 1 does.

        Raises ValueError where `priority` is not above 0.
        """
        if not priority > 0:
            raise ValueError(f"priority: must be above 0, got {priority!r}")
        return Share(self, float(priority))

    def resize(self, memory: Memory) -> None:
        """Change the budget while models run; returns when all of them together stay within it.

        Raises BudgetError where that is less than the models need at least.
        """
        self.native.resize(parse_memory(memory))

    def __repr__(self) -> str:
        return f"Budget({format_bytes(self.memory)})"


@dataclass(frozen=True)
class Share:
    """A part of a budget, for one model."""

    budget: Budget
    priority: float


def parse_budget(memory: Memory | Budget | Share) -> int | Share:
    """What `memory=` of a model on the CPU means: bytes of its own, or a share."""
    if isinstance(memory, Budget):
        return memory.share()
    return memory if isinstance(memory, Share) else parse_memory(memory)


class Governor:
    """Keeps a budget within what the system can spare, until it is stopped or the `with` block ends."""

    def __init__(self, native: _native.Governor) -> None:
        self._native = native

    def stop(self) -> None:
        """Leave the memory as it is from now on."""
        self._native.stop()

    def __enter__(self) -> Governor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def govern(target: nn.Module | Budget, *, least: Memory | None = None, most: Memory) -> Governor:
    """Have the memory of a streamed model, or of a Budget, follow the pressure on this process' memory.

    It shrinks at once when less than a sixteenth of the limit is free, or tasks wait for memory, and grows
    back slowly when there has been enough for ten seconds. The limit is that of the control groups (versions
    1 and 2) around the process, or the machine's memory.

    Args:
        target: the model, or the budget.
        least: never less; by default what it needs to work.
        most: never more.

    Raises ValueError where `least` is more than `most`.
    """
    native = target.native if isinstance(target, Budget) else streamed_of(target).stream
    needed = native.least() if isinstance(native, _native.Budget) else int(native.stats()["least"])
    lowest = needed if least is None else max(needed, parse_memory(least))
    highest = parse_memory(most)
    if lowest > highest:
        raise ValueError(f"most: {format_bytes(highest)} are less than the least, {format_bytes(lowest)}")
    if isinstance(native, _native.Budget):
        return Governor(_native.Governor.of_budget(native, lowest, highest))
    if not isinstance(native, _native.Stream):
        raise TypeError("only models whose weights stream to the CPU can be governed")
    return Governor(_native.Governor.of_stream(native, lowest, highest))
