"""Whoever sits in the crane: turns steps into the controls of each frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nadoo_video.site.physics import FRAMES_PER_SECOND, HOIST_SPEED, SLEW_SPEED
from nadoo_video.site.plan import GRAB, HOIST, PLACE, RELEASE, SLEW, WAIT, Plan, Step
from nadoo_video.site.state import CABLE, GROUND, JIB, REACH, RESTING, Floats, Site

CLEARANCE = 1.0  # metres between a carried element and what it passes over
NEAR = 0.15  # metres from the target that count as there
PATIENCE = 10 * FRAMES_PER_SECOND  # frames after which a step that doesn't get there is given up


class Operator:
    """Follows one plan per site, with an eye on the site as it is."""

    def __init__(self, plans: Sequence[Sequence[Step]]) -> None:
        longest = max(len(plan) for plan in plans)
        shape = (len(plans), longest + 1)  # and a wait without end
        self._kinds = np.full(shape, WAIT)
        self._values = np.full(shape, np.inf)
        for row, plan in enumerate(plans):
            for column, step in enumerate(plan):
                self._kinds[row, column], self._values[row, column] = step.kind, step.value
        self._step = np.zeros(len(plans), dtype=np.int64)
        self._frames = np.zeros(len(plans), dtype=np.int64)
        self._grip = np.zeros(len(plans), dtype=bool)
        self._bottom = np.full(len(plans), np.inf)  # of the held element, a frame ago

    def controls(self, site: Site) -> tuple[Floats, Floats, NDArray[np.bool_]]:
        """Slew, hoist and grip for the next frame, each [count]; see `physics.advance`."""
        rows = np.arange(site.count)
        kind, value = self._kinds[rows, self._step], self._values[rows, self._step]
        frame = 1 / FRAMES_PER_SECOND
        hook_y = site.hook[1]
        to_go = value - site.trolley
        with np.errstate(invalid="ignore"):
            # Slowing down in time: what can still be braked within the distance.
            slew = np.where(kind == SLEW, np.clip(to_go / (2 * SLEW_SPEED * frame), -1, 1), 0.0)
            hoist = np.where(kind == HOIST, np.clip((value - hook_y) / (HOIST_SPEED * frame), -1, 1), 0.0)
        hoist = np.where(kind == PLACE, -0.6, hoist)
        self._grip = np.where(kind == GRAB, True, np.where(kind == RELEASE, False, self._grip))

        bottom = np.where(
            site.held >= 0,
            (site.y - site.height / 2)[rows, site.held],
            np.where(site.cable >= CABLE[1], GROUND, hook_y),
        )
        landed = (np.abs(bottom - self._bottom) < 0.02) & (self._frames > 0)
        self._bottom = bottom
        # Placing ends with an open hook.
        self._grip &= ~((kind == PLACE) & landed)
        done = np.select(
            [kind == WAIT, kind == SLEW, kind == HOIST, kind == PLACE],
            [
                self._frames >= value * FRAMES_PER_SECOND,
                (np.abs(to_go) < NEAR) & (np.abs(site.trolley_speed) < 0.5),
                np.abs(value - hook_y) < NEAR,
                landed,
            ],
            True,
        ).astype(bool)
        done |= (kind != WAIT) & (self._frames >= PATIENCE)
        last = self._step >= self._kinds.shape[1] - 1
        self._frames = np.where(done, 0, self._frames + 1)
        self._step = np.where(done & ~last, self._step + 1, self._step)
        return slew, hoist, self._grip.copy()


def invent(site: Site, generator: np.random.Generator) -> list[list[Step]]:
    """For each site a plan that builds something: elements are taken one by one and put or dropped elsewhere."""
    return [_invent(site, row, generator) for row in range(site.count)]


def _invent(site: Site, row: int, generator: np.random.Generator) -> list[Step]:
    top = site.y[row] + site.height[row] / 2
    present = np.flatnonzero(site.mode[row] == RESTING)
    tops = {int(element): float(top[element]) for element in present}
    places = {int(element): float(site.x[row, element]) for element in present}
    steps: list[Step] = []
    for element in generator.permutation(present)[: generator.integers(1, 4)]:
        element = int(element)
        highest = max([*tops.values(), GROUND])
        above = min(highest + CLEARANCE, JIB - CABLE[0] - 0.5)
        clear = min(highest + float(site.height[row, element]) + CLEARANCE, JIB - CABLE[0] - 0.5)
        others = [other for other in tops if other != element]
        if others and generator.random() < 0.5:
            target = places[int(generator.choice(others))] + float(generator.normal(0, 0.8))
        else:
            target = float(generator.uniform(REACH[0] + 1, REACH[1] - 1))
        target = float(np.clip(target, REACH[0] + 0.5, REACH[1] - 0.5))
        steps += [
            Step(HOIST, above),
            Step(SLEW, places[element]),
            Step(HOIST, tops[element] + 0.1),
            Step(GRAB),
            Step(HOIST, clear),
            Step(SLEW, target),
        ]
        if generator.random() < 0.75:
            steps.append(Step(PLACE))
        else:
            steps += [Step(HOIST, max(clear - float(generator.uniform(0, 6)), GROUND + 3)), Step(RELEASE)]
        steps.append(Step(WAIT, float(generator.uniform(0.0, 1.0))))
        places[element] = target
        tops[element] = highest + float(site.height[row, element])
    return steps


def plan_for(site: Site, seed: int) -> Plan:
    """An invented plan for the one site that `Site.sample` makes of `seed`."""
    return Plan(tuple(invent(site, np.random.default_rng(seed))[0]), seed)
