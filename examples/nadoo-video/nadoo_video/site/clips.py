"""Clips of sites at work: pictures, and what the crane was told to do between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nadoo_video.site.operator import Operator, invent
from nadoo_video.site.physics import advance, gusts
from nadoo_video.site.plan import Plan
from nadoo_video.site.render import render
from nadoo_video.site.state import Site

ACTIONS = ("slew", "hoist", "grip", "wind")


@dataclass(frozen=True)
class Clips:
    """Some clips of equal length.

    Attributes:
        frames: [clips, frames, size, size, 3], uint8.
        actions: [clips, frames, 4], float32: what led from the frame before to this one; see ACTIONS.
        held: [clips, frames]: number of the element on the hook, or -1.
        x, y: [clips, frames, elements]: where the elements' centres are, metres.
    """

    frames: NDArray[np.uint8]
    actions: NDArray[np.float32]
    held: NDArray[np.int64]
    x: NDArray[np.float32]
    y: NDArray[np.float32]


def film(site: Site, operator: Operator, frames: int, size: int, skip: int = 0) -> Clips:
    """Let `operator` work on `site`, and film it after `skip` frames."""
    pictures, actions, held, x, y = [], [], [], [], []
    for number in range(-skip, frames):
        slew, hoist, grip = operator.controls(site)
        advance(site, slew, hoist, grip)
        if number < 0:
            continue
        pictures.append(render(site, size))
        actions.append(np.stack([slew, hoist, grip.astype(np.float64), gusts(site)], axis=1))
        held.append(site.held.copy())
        x.append(site.x.copy())
        y.append(site.y.copy())
    return Clips(
        np.stack(pictures, axis=1),
        np.stack(actions, axis=1).astype(np.float32),
        np.stack(held, axis=1),
        np.stack(x, axis=1).astype(np.float32),
        np.stack(y, axis=1).astype(np.float32),
    )


def random_clips(count: int, frames: int, seed: int, size: int = 64, skip: int = 0) -> Clips:
    """Clips of random sites on which invented plans are carried out; the same for the same seed."""
    generator = np.random.default_rng(seed)
    site = Site.sample(count, generator)
    return film(site, Operator(invent(site, generator)), frames, size, skip)


def site_of(plan: Plan) -> Site:
    """The one site that a plan is for, as it is at the start."""
    site = Site.sample(1, np.random.default_rng(plan.site))
    if plan.wind is not None:
        site.wind[:] = plan.wind
    return site


def film_plan(plan: Plan, frames: int, size: int = 64) -> Clips:
    """What really happens when the plan is carried out."""
    return film(site_of(plan), Operator([plan.steps]), frames, size)
