"""What there is on a site, and where."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

WIDTH = 24.0  # metres, of the picture and of the site
GROUND = 2.0  # metres above the lower edge of the picture
JIB = 20.5  # height of the jib
MAST = 2.0  # where the mast stands
REACH = (4.5, 22.0)  # of the trolley along the jib
CABLE = (1.5, JIB - GROUND)  # least and greatest length
ELEMENTS = 6  # at most, on a site

RESTING, HELD, FALLING, TOPPLING, ABSENT = range(5)

# Width and height in metres of a slab, a block, a column and a panel.
SIZES = np.array([[5.0, 1.5], [2.6, 2.6], [1.5, 4.5], [3.5, 2.0]])


@dataclass
class Site:
    """The state of `count` sites; angles in radians, lengths in metres, everything else in SI units."""

    # The crane: [count]
    trolley: Floats
    trolley_speed: Floats
    cable: Floats
    swing: Floats  # angle of the cable from the vertical, positive to the right
    swing_speed: Floats
    held: NDArray[np.int64]  # number of the element on the hook, or -1
    wind: Floats  # acceleration of a hanging load, positive to the right
    time: Floats
    # The elements: [count, ELEMENTS]
    x: Floats  # of the centre
    y: Floats
    width: Floats
    height: Floats
    speed_x: Floats
    speed_y: Floats
    mode: NDArray[np.int64]
    angle: Floats  # while toppling: turned so far, positive to the right
    turning: Floats  # while toppling: speed of the angle
    pivot: Floats  # while toppling: x of the edge that it turns on

    @property
    def count(self) -> int:
        """How many sites there are."""
        return len(self.trolley)

    @property
    def hook(self) -> tuple[Floats, Floats]:
        """Where the hook is."""
        return (
            self.trolley + self.cable * np.sin(self.swing),
            JIB - self.cable * np.cos(self.swing),
        )

    def take(self, sites: NDArray[np.int64] | slice) -> Site:
        """A copy of some of the sites."""
        return Site(**{field.name: getattr(self, field.name)[sites].copy() for field in fields(self)})

    @classmethod
    def sample(cls, count: int, generator: np.random.Generator) -> Site:
        """Random sites: three to six elements in a row, a few of them stacked on their neighbour."""
        zeros = np.zeros(count)
        shape = (count, ELEMENTS)
        sizes = SIZES[generator.integers(0, len(SIZES), shape)]
        width, height = sizes[..., 0], sizes[..., 1]
        present = np.arange(ELEMENTS) < generator.integers(3, ELEMENTS + 1, count)[:, None]
        # A row of ELEMENTS places, entered in random order, each jittered within what its element leaves free.
        place = (REACH[1] - REACH[0]) / ELEMENTS
        order = np.argsort(generator.random(shape), axis=1)
        x = REACH[0] + place * (order + 0.5) + generator.uniform(-0.3, 0.3, shape)
        y = GROUND + height / 2
        site = cls(
            trolley=generator.uniform(*REACH, count),
            trolley_speed=zeros.copy(),
            cable=generator.uniform(3.0, 9.0, count),
            swing=generator.uniform(-0.1, 0.1, count),
            swing_speed=zeros.copy(),
            held=np.full(count, -1),
            wind=generator.uniform(-1.0, 1.0, count),
            time=generator.uniform(0.0, 60.0, count),
            x=x,
            y=y,
            width=width,
            height=height,
            speed_x=np.zeros(shape),
            speed_y=np.zeros(shape),
            mode=np.where(present, RESTING, ABSENT),
            angle=np.zeros(shape),
            turning=np.zeros(shape),
            pivot=np.zeros(shape),
        )
        site._separate()
        site._stack(generator)
        return site

    def _separate(self) -> None:
        """Narrow elements that would overlap a neighbour on the ground."""
        order = np.argsort(np.where(self.mode == ABSENT, np.inf, self.x), axis=1)
        rows = np.arange(self.count)
        for left, right in zip(order.T[:-1], order.T[1:], strict=True):
            gap = (self.x[rows, right] - self.x[rows, left]) - 0.3
            wanted = (self.width[rows, right] + self.width[rows, left]) / 2
            both = (self.mode[rows, left] != ABSENT) & (self.mode[rows, right] != ABSENT)
            scale = np.where(both, np.clip(gap / wanted, 0.4, 1.0), 1.0)
            self.width[rows, left] *= scale
            self.width[rows, right] *= scale

    def _stack(self, generator: np.random.Generator) -> None:
        """Put the last element of about a third of the sites on top of the first, when that is wide enough."""
        rows = np.arange(self.count)
        last = (self.mode != ABSENT).sum(axis=1) - 1
        fits = self.width[:, 0] >= 0.6 * self.width[rows, last]
        chosen = rows[fits & (generator.random(self.count) < 0.35)]
        self.x[chosen, last[chosen]] = self.x[chosen, 0]
        self.y[chosen, last[chosen]] = GROUND + self.height[chosen, 0] + self.height[chosen, last[chosen]] / 2
