"""How a site moves: crane, swinging load, gravity, stacking, toppling, wind."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nadoo_video.site.state import (
    ABSENT,
    CABLE,
    FALLING,
    GROUND,
    HELD,
    JIB,
    MAST,
    REACH,
    RESTING,
    TOPPLING,
    WIDTH,
    Floats,
    Site,
)

FRAMES_PER_SECOND = 4
STEPS_PER_FRAME = 8

GRAVITY = 9.81
SLEW_SPEED = 4.0  # m/s, at full control
SLEW_ACCELERATION = 2.5
HOIST_SPEED = 3.5
SWING_DAMPING = 1.2  # 1/s
GRIP_DISTANCE = 1.6  # the hook takes what is this near
GUST = 0.5  # share of the wind that comes and goes
GUST_RATE = 1.3  # rad/s
STURDY = 1.2  # elements lower than this many times their width don't topple when hit
TOUCHING = 1e-3

Bools = NDArray[np.bool_]


def advance(site: Site, slew: Floats, hoist: Floats, grip: Bools) -> None:
    """Move `site` on by one frame, in place.

    Args:
        site: the sites.
        slew: [count], -1 (left) to 1 (right).
        hoist: [count], -1 (down) to 1 (up).
        grip: [count], whether the hook is closed.
    """
    for _ in range(STEPS_PER_FRAME):
        _step(site, np.clip(slew, -1, 1), np.clip(hoist, -1, 1), grip, 1 / (FRAMES_PER_SECOND * STEPS_PER_FRAME))


def gusts(site: Site) -> Floats:
    """The wind of this moment, m/s²."""
    return site.wind * (1 + GUST * np.sin(GUST_RATE * site.time))


def _step(site: Site, slew: Floats, hoist: Floats, grip: Bools, dt: float) -> None:
    site.time += dt
    _grip(site, grip)
    _move_crane(site, slew, hoist, dt)
    _carry(site)
    _let_go_of_unsupported(site)
    _fall(site, dt)
    _topple(site, dt)


def _grip(site: Site, grip: Bools) -> None:
    rows = np.arange(site.count)
    released = ~grip & (site.held >= 0)
    row, element = rows[released], site.held[released]
    site.mode[row, element] = FALLING
    site.speed_x[row, element] = site.trolley_speed[row] + site.cable[row] * site.swing_speed[row] * np.cos(
        site.swing[row]
    )
    site.speed_y[row, element] = 0.0
    site.held[released] = -1

    hook_x, hook_y = site.hook
    distance = np.hypot(site.x - hook_x[:, None], site.y + site.height / 2 - hook_y[:, None])
    free = (site.mode == RESTING) & ~_loaded(site)
    distance = np.where(free, distance, np.inf)
    nearest = distance.argmin(axis=1)
    taken = grip & (site.held < 0) & (distance[rows, nearest] < GRIP_DISTANCE)
    site.held[taken] = nearest[taken]
    site.mode[rows[taken], nearest[taken]] = HELD
    # The cable tightens to where the element is.
    site.cable[taken] = JIB - (site.y + site.height / 2)[rows[taken], nearest[taken]]
    site.swing[taken] = np.arctan2(site.x[rows[taken], nearest[taken]] - site.trolley[taken], site.cable[taken])
    site.swing_speed[taken] = 0.0


def _move_crane(site: Site, slew: Floats, hoist: Floats, dt: float) -> None:
    wanted = slew * SLEW_SPEED
    change = np.clip(wanted - site.trolley_speed, -SLEW_ACCELERATION * dt, SLEW_ACCELERATION * dt)
    speed = site.trolley_speed + change
    trolley = np.clip(site.trolley + speed * dt, *REACH)
    stopped = (trolley - site.trolley) / dt
    acceleration = (stopped - site.trolley_speed) / dt
    site.trolley, site.trolley_speed = trolley, stopped
    site.cable = np.clip(site.cable - hoist * HOIST_SPEED * dt, *CABLE)

    # A pendulum on a moving support; an empty hook has little for the wind to push.
    push = np.where(site.held >= 0, 1.0, 0.15) * gusts(site)
    turning = (
        (push - np.clip(acceleration, -2 * SLEW_ACCELERATION, 2 * SLEW_ACCELERATION)) * np.cos(site.swing)
        - GRAVITY * np.sin(site.swing)
    ) / site.cable
    site.swing_speed += (turning - SWING_DAMPING * site.swing_speed) * dt
    site.swing = np.clip(site.swing + site.swing_speed * dt, -0.6, 0.6)


def _carry(site: Site) -> None:
    """Move the held element with the hook, until it meets something."""
    rows = np.flatnonzero(site.held >= 0)
    if not len(rows):
        return
    held = site.held[rows]
    hook_x, hook_y = (value[rows] for value in site.hook)
    width, height = site.width[rows, held], site.height[rows, held]
    before_x, before_y = site.x[rows, held], site.y[rows, held]
    x, y = hook_x, hook_y - height / 2

    others = (site.mode[rows] != ABSENT) & (np.arange(site.x.shape[1]) != held[:, None])
    others &= site.mode[rows] != FALLING
    left, right = site.x[rows] - site.width[rows] / 2, site.x[rows] + site.width[rows] / 2
    top = site.y[rows] + site.height[rows] / 2
    # From the side: it was beside the other before, and lower than its top.
    beside = others & ((before_y - height / 2)[:, None] < top - 0.05)
    reaches_right = beside & (before_x[:, None] + width[:, None] / 2 <= left + 0.05)
    reaches_left = beside & (before_x[:, None] - width[:, None] / 2 >= right - 0.05)
    limit_right = np.where(reaches_right, left, np.inf).min(axis=1) - width / 2
    limit_left = np.where(reaches_left, right, -np.inf).max(axis=1) + width / 2
    stopped = np.clip(x, limit_left, limit_right)
    hit = stopped != x
    _strike(site, rows, hit & (x > stopped), reaches_right, left, +1)
    _strike(site, rows, hit & (x < stopped), reaches_left, -right, -1)
    x = stopped
    # From above.
    under = others & (np.abs(site.x[rows] - x[:, None]) < (site.width[rows] + width[:, None]) / 2 - 0.05)
    support = np.maximum(
        GROUND, np.where(under & (top <= (before_y - height / 2)[:, None] + 0.3), top, -np.inf).max(axis=1)
    )
    bottom = np.maximum(y - height / 2, support)
    rests = bottom > y - height / 2
    y = bottom + height / 2
    site.x[rows, held], site.y[rows, held] = x, y
    # The hook follows what the element could do.
    changed = hit | rests
    row = rows[changed]
    rope_x, rope_y = x[changed] - site.trolley[row], JIB - (y + height / 2)[changed]
    site.cable[row] = np.clip(np.hypot(rope_x, rope_y), *CABLE)
    site.swing[row] = np.arctan2(rope_x, rope_y)
    site.swing_speed[row] = 0.0
    site.trolley_speed[rows[hit]] *= 0.5


def _strike(site: Site, rows: NDArray[np.int64], hit: Bools, reached: Bools, edge: Floats, side: int) -> None:
    """A swinging element hits its neighbour: a slender one topples."""
    for index in np.flatnonzero(hit):
        row = rows[index]
        other = int(np.where(reached[index], edge[index], np.inf).argmin())
        slender = site.height[row, other] > STURDY * site.width[row, other]
        if slender and site.mode[row, other] == RESTING and not _loaded(site, row)[other]:
            _begin_toppling(site, np.array([row]), np.array([other]), np.array([side]))
            site.angle[row, other] = side * 0.05


def _loaded(site: Site, row: int | None = None) -> Bools:
    """[count, ELEMENTS] (or [ELEMENTS] of one row): whether something rests on the element."""
    pick = slice(None) if row is None else slice(row, row + 1)
    x, width = site.x[pick], site.width[pick]
    top, bottom = site.y[pick] + site.height[pick] / 2, site.y[pick] - site.height[pick] / 2
    present = site.mode[pick] == RESTING
    near = np.abs(x[:, :, None] - x[:, None, :]) < (width[:, :, None] + width[:, None, :]) / 2 - 0.05
    above = np.abs(bottom[:, None, :] - top[:, :, None]) < 0.05
    loaded = (near & above & present[:, None, :] & ~np.eye(x.shape[1], dtype=bool)).any(axis=2)
    return loaded if row is None else loaded[0]


def _supports(site: Site) -> tuple[Floats, Floats, Floats]:
    """[count, ELEMENTS] each: height of what is under an element, and from where to where it carries."""
    left, right = site.x - site.width / 2, site.x + site.width / 2
    top, bottom = site.y + site.height / 2, site.y - site.height / 2
    carries = (site.mode == RESTING) | (site.mode == HELD)
    # [count, upper, lower]
    overlap_left = np.maximum(left[:, :, None], left[:, None, :])
    overlap_right = np.minimum(right[:, :, None], right[:, None, :])
    under = (
        (overlap_right - overlap_left > 0.05)
        & carries[:, None, :]
        & (top[:, None, :] <= bottom[:, :, None] + 0.35)
        & ~np.eye(site.x.shape[1], dtype=bool)
    )
    highest = np.where(under, top[:, None, :], GROUND).max(axis=2)
    touching = under & (top[:, None, :] > highest[:, :, None] - 0.05)
    on_ground = highest <= GROUND + TOUCHING
    carried_from = np.where(on_ground, left, np.where(touching, overlap_left, np.inf).min(axis=2))
    carried_to = np.where(on_ground, right, np.where(touching, overlap_right, -np.inf).max(axis=2))
    return highest, carried_from, carried_to


def _let_go_of_unsupported(site: Site) -> None:
    height, carried_from, carried_to = _supports(site)
    resting = site.mode == RESTING
    falls = resting & (site.y - site.height / 2 > height + 0.02)
    site.mode[falls] = FALLING
    site.speed_x[falls] = site.speed_y[falls] = 0.0
    for side, leans in ((-1, site.x < carried_from - TOUCHING), (1, site.x > carried_to + TOUCHING)):
        row, element = np.nonzero(resting & ~falls & leans)
        _begin_toppling(site, row, element, np.full(len(row), side), carried_from if side < 0 else carried_to)


def _begin_toppling(
    site: Site,
    row: NDArray[np.int64],
    element: NDArray[np.int64],
    side: NDArray[np.int64],
    edge: Floats | None = None,
) -> None:
    """Start to turn over the given edge; over its own foot where there is none."""
    own = site.x[row, element] + side * site.width[row, element] / 2
    site.pivot[row, element] = own if edge is None else edge[row, element]
    site.mode[row, element] = TOPPLING
    site.angle[row, element] = side * 0.02
    site.turning[row, element] = side * 0.3


def _fall(site: Site, dt: float) -> None:
    falling = site.mode == FALLING
    if not falling.any():
        return
    site.speed_y = np.where(falling, site.speed_y - GRAVITY * dt, site.speed_y)
    site.speed_x = np.where(falling, site.speed_x + 0.2 * gusts(site)[:, None] * dt, site.speed_x)
    site.x = np.where(
        falling,
        np.clip(site.x + site.speed_x * dt, MAST + 1 + site.width / 2, WIDTH - site.width / 2),
        site.x,
    )
    before = site.y
    site.y = np.where(falling, site.y + site.speed_y * dt, site.y)
    # What it may land on is judged from where it was: a fast one must not fall through.
    after, site.y = site.y, before
    support, _, _ = _supports(site)
    site.y = after
    lands = falling & (site.y - site.height / 2 <= support)
    site.y = np.where(lands, support + site.height / 2, site.y)
    site.mode[lands] = RESTING
    site.speed_x[lands] = site.speed_y[lands] = 0.0


def _topple(site: Site, dt: float) -> None:
    """A box that turns over an edge, as a rod does: angle'' = 3/2 g/r sin(angle)."""
    row, element = np.nonzero(site.mode == TOPPLING)
    if not len(row):
        return
    side = np.sign(site.angle[row, element])
    width, height = site.width[row, element], site.height[row, element]
    radius = np.hypot(width, height) / 2
    turned = np.abs(site.angle[row, element])
    speed = np.abs(site.turning[row, element]) + 1.5 * GRAVITY / radius * np.sin(np.minimum(turned + 0.1, 1.5)) * dt
    turned = turned + speed * dt
    site.angle[row, element] = side * turned
    site.turning[row, element] = side * speed
    done = turned >= np.pi / 2
    row, element, side = row[done], element[done], side[done]
    width, height = width[done], height[done]
    # On its side, a quarter turn around the pivot at its foot.
    foot = site.y[row, element] - height / 2
    lies = foot - side * (site.x[row, element] - site.pivot[row, element])
    site.x[row, element] = np.clip(
        site.pivot[row, element] + side * height / 2, MAST + 1 + height / 2, WIDTH - height / 2
    )
    site.width[row, element], site.height[row, element] = height, width
    # What stood there is now beneath it.
    near = np.abs(site.x[row] - site.x[row, element][:, None]) < (site.width[row] + height[:, None]) / 2 - 0.05
    near &= (site.mode[row] == RESTING) & (np.arange(site.x.shape[1]) != element[:, None])
    near &= site.y[row] - site.height[row] / 2 < (lies + width / 2)[:, None]
    under = np.where(near, site.y[row] + site.height[row] / 2, GROUND).max(axis=1)
    site.y[row, element] = np.maximum(lies, under + width / 2)
    site.angle[row, element] = 0.0
    site.mode[row, element] = FALLING
    site.speed_x[row, element] = side * 0.5
    site.speed_y[row, element] = 0.0
