"""What the builders want done: a list of steps, also as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nadoo_video.site.state import GROUND, JIB, REACH

# What a step may do, and the range of its value: (name, unit, least, most). The position is the number that
# `Operator` works with.
KINDS: tuple[tuple[str, str | None, float, float], ...] = (
    ("wait", "seconds", 0.0, 30.0),
    ("slew", "to", REACH[0], REACH[1]),
    ("hoist", "to", GROUND, JIB),
    ("grab", None, 0.0, 0.0),
    ("place", None, 0.0, 0.0),
    ("release", None, 0.0, 0.0),
)
WAIT, SLEW, HOIST, GRAB, PLACE, RELEASE = range(len(KINDS))
NAMES = [kind[0] for kind in KINDS]


class PlanError(ValueError):
    """A plan that can't be followed; says which step, what was expected and what was got."""


@dataclass(frozen=True)
class Step:
    """One thing to do: {"do": "slew", "to": 18.0}. Positions and heights in metres."""

    kind: int
    value: float = 0.0

    @classmethod
    def from_json(cls, step: Any, number: int) -> Step:
        """The step of a JSON object; `number` is for errors."""
        if not isinstance(step, Mapping) or step.get("do") not in NAMES:
            raise PlanError(f'step {number}: expected {{"do": one of {", ".join(NAMES)}}}, got {step!r}')
        kind = NAMES.index(step["do"])
        name, unit, least, most = KINDS[kind]
        extra = set(step) - {"do", unit}
        if extra:
            raise PlanError(f"step {number}, {name}: unexpected {', '.join(sorted(map(str, extra)))}")
        if unit is None:
            return cls(kind)
        value = step.get(unit)
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise PlanError(f'step {number}, {name}: expected "{unit}" from {least:g} to {most:g}, got {value!r}')
        return cls(kind, float(value))

    def to_json(self) -> dict[str, Any]:
        """As `from_json` takes it."""
        name, unit, _, _ = KINDS[self.kind]
        return {"do": name} if unit is None else {"do": name, unit: self.value}


@dataclass(frozen=True)
class Plan:
    """Steps for one site.

    Attributes:
        steps: in their order.
        site: the seed of the site's layout.
        wind: of the site, -1 (to the left) to 1; None for the layout's own.
    """

    steps: tuple[Step, ...]
    site: int = 0
    wind: float | None = None

    @classmethod
    def from_json(cls, plan: Any) -> Plan:
        """The plan of a JSON object. Raises PlanError."""
        if not isinstance(plan, Mapping) or not isinstance(plan.get("steps"), Sequence):
            raise PlanError('expected a plan {"site": 7, "wind": 0.2, "steps": [{"do": ...}, ...]}')
        steps = plan["steps"]
        if isinstance(steps, str) or not 1 <= len(steps) <= 100:
            raise PlanError(f"expected 1 to 100 steps, got {len(steps)}")
        site, wind = plan.get("site", 0), plan.get("wind")
        if isinstance(site, bool) or not isinstance(site, int) or not 0 <= site < 2**32:
            raise PlanError(f'expected a "site" from 0 to 2^32 - 1, got {site!r}')
        if wind is not None and (isinstance(wind, bool) or not isinstance(wind, int | float) or not abs(wind) <= 1):
            raise PlanError(f'expected a "wind" from -1 to 1, got {wind!r}')
        parsed = tuple(Step.from_json(step, number) for number, step in enumerate(steps, 1))
        return cls(parsed, site, wind)

    @classmethod
    def read(cls, path: Path) -> Plan:
        """The plan in a JSON file. Raises PlanError, OSError."""
        try:
            return cls.from_json(json.loads(path.read_text()))
        except json.JSONDecodeError as error:
            raise PlanError(f"{path}: not JSON: {error}") from error
        except PlanError as error:
            raise PlanError(f"{path}: {error}") from error

    def to_json(self) -> dict[str, Any]:
        """As `from_json` takes it."""
        plan: dict[str, Any] = {"site": self.site, "steps": [step.to_json() for step in self.steps]}
        return plan if self.wind is None else {**plan, "wind": self.wind}
