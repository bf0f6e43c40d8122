"""What `stats` returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from weightstream.memory import format_bytes


@dataclass(frozen=True)
class Stats:
    """Counters of a streamed model, since it was opened. Sizes are in bytes, times in nanoseconds.

    `docs/python.md` says what each of them means, in the words of the native part that counts them.
    """

    budget: int = 0
    used: int = 0
    least: int = 0
    model_bytes: int = 0
    chunk_bytes: int = 0
    buffers: int = 0
    resident_bytes: int = 0
    kept_bytes: int = 0
    coded_bytes: int = 0
    passes: int = 0
    bytes_read: int = 0
    reads: int = 0
    faults: int = 0
    wasted: int = 0
    retries: int = 0
    errors: int = 0
    refusals: int = 0
    stall_ns: int = 0
    reading_ns: int = 0
    busy_bytes: int = 0
    busy_ns: int = 0
    pass_bytes: int = 0
    pass_ns: int = 0
    pass_stall_ns: int = 0
    read_rate: float = 0.0  # bytes a second that the source delivered of late, while it was kept fully busy
    source: str = ""  # how the source reads

    @classmethod
    def of(cls, counters: Mapping[str, Any]) -> Stats:
        """The counters that the native stream reports; ones unknown here are left out."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in counters.items() if name in known})

    @property
    def oversize(self) -> float:
        """How many times larger than its memory the model is."""
        return self.model_bytes / self.budget if self.budget else 0.0

    @property
    def read_floor(self) -> float:
        """Seconds that reading must take in a pass: what the memory can't hold, at the rate of the source."""
        must_read = min(self.pass_bytes, max(0, self.model_bytes - self.budget))
        return must_read / self.read_rate if self.read_rate else 0.0

    @property
    def compute(self) -> float:
        """Seconds of the last pass in which nothing waited for weights."""
        return max(0, self.pass_ns - self.pass_stall_ns) / 1e9

    @property
    def floor(self) -> float:
        """The least seconds that the last pass could have taken: the longer of computing and reading."""
        return max(self.compute, self.read_floor)

    @property
    def verdict(self) -> str:
        """How near the last pass came to its floor, in a sentence; empty before the first pass."""
        if not self.passes or not self.pass_ns:
            return ""
        share = min(1.0, self.floor / (self.pass_ns / 1e9))
        limit = "what this disk allows" if self.read_floor >= self.compute else "the speed of computation"
        return f"{share:.0%} of {limit}".replace("%", " %")

    def _kept(self) -> list[tuple[str, str]]:
        if not self.coded_bytes:
            return []
        kept = (
            f"{format_bytes(self.kept_bytes)} stay in memory, as stored in {format_bytes(self.coded_bytes)}"
        )
        return [("kept", kept)]

    def __str__(self) -> str:
        """A report of some lines for people."""
        rows = [
            ("memory", f"{format_bytes(self.used)} in use of {format_bytes(self.budget)}"),
            ("model", f"{format_bytes(self.model_bytes)}, {self.oversize:.1f} times its memory"),
            *self._kept(),
            (
                "read",
                f"{format_bytes(self.bytes_read)} in {self.reads} reads and {self.passes} passes"
                + (f", {format_bytes(self.read_rate)}/s" if self.read_rate else "")
                + (f" ({self.source})" if self.source else ""),
            ),
        ]
        rows.append(("stalls", f"{self.stall_ns / 1e9:.2f} s in all, {self.faults} touches that waited"))
        if self.pass_ns:
            rows.append(
                (
                    "last pass",
                    f"{self.pass_ns / 1e9:.3f} s, {format_bytes(self.pass_bytes)} read, "
                    f"{self.pass_stall_ns / 1e9:.3f} s stalled",
                )
            )
            rows.append(
                (
                    "floor",
                    f"{self.floor:.3f} s (reading {self.read_floor:.3f} s, computing {self.compute:.3f} s): "
                    f"{self.verdict}",
                )
            )
        if self.retries or self.errors:
            rows.append(("trouble", f"{self.retries} reads tried again, {self.errors} failed"))
        return "\n".join(f"{name:<10} {value}" for name, value in rows)
