"""Pictures of a site: side view, edges smoothed by the area that they cover of a pixel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nadoo_video.site.physics import gusts
from nadoo_video.site.state import ABSENT, GROUND, JIB, MAST, REACH, TOPPLING, WIDTH, Floats, Site

Picture = NDArray[np.float32]

SKY = ((0.62, 0.78, 0.92), (0.90, 0.94, 0.97))  # at the top, at the horizon
SOIL = (0.42, 0.34, 0.27)
STEEL = (0.95, 0.72, 0.10)
DARK = (0.13, 0.14, 0.17)
FLAG = (0.85, 0.20, 0.45)
# One colour for each element, so that it can be found again in any picture.
COLOURS = np.array(
    [
        (0.85, 0.18, 0.15),
        (0.16, 0.38, 0.80),
        (0.15, 0.60, 0.28),
        (0.55, 0.25, 0.68),
        (0.90, 0.48, 0.12),
        (0.10, 0.58, 0.62),
    ],
    dtype=np.float32,
)


def render(site: Site, size: int) -> NDArray[np.uint8]:
    """[count, size, size, 3]: what the sites look like."""
    scale = size / WIDTH
    picture = np.broadcast_to(_background(size), (site.count, size, size, 3)).copy()
    _flag(picture, site, scale)
    for element in range(site.x.shape[1]):
        _element(picture, site, element, scale)
    _crane(picture, site, scale)
    return np.rint(picture * 255).astype(np.uint8)


def _background(size: int) -> Picture:
    scale = size / WIDTH
    share = np.linspace(0, 1, size, dtype=np.float32)[:, None, None]
    top, horizon = (np.array(colour, dtype=np.float32) for colour in SKY)
    picture = np.broadcast_to(top * (1 - share) + horizon * share, (size, size, 3)).copy()[None]
    one = np.ones(1)
    _bar(picture, 0 * one, WIDTH * one, 0 * one, GROUND * one, SOIL, scale)
    _bar(picture, (MAST - 0.5) * one, (MAST + 0.5) * one, GROUND * one, (JIB + 1.5) * one, STEEL, scale)
    _bar(picture, 0 * one, (REACH[1] + 1) * one, (JIB - 0.2) * one, (JIB + 0.5) * one, STEEL, scale)
    _bar(picture, (MAST - 0.9) * one, (MAST + 0.9) * one, (JIB - 2.2) * one, (JIB - 0.4) * one, DARK, scale)
    return picture[0]


def _crane(picture: Picture, site: Site, scale: float) -> None:
    _bar(
        picture,
        site.trolley - 0.7,
        site.trolley + 0.7,
        np.full(site.count, JIB - 0.9),
        np.full(site.count, JIB),
        DARK,
        scale,
    )
    hook_x, hook_y = site.hook
    _line(picture, site.trolley, np.full(site.count, JIB), hook_x, hook_y, 0.22, DARK, scale)
    grip = np.where(site.held >= 0, 0.35, 0.55)
    _bar(picture, hook_x - grip, hook_x + grip, hook_y - 0.2, hook_y + 0.4, DARK, scale)


def _flag(picture: Picture, site: Site, scale: float) -> None:
    """On top of the mast: as long as the wind is strong."""
    length = 2.5 * gusts(site)
    left, right = MAST + np.minimum(length, 0), MAST + np.maximum(length, 0)
    _bar(picture, left, right, np.full(site.count, JIB + 1.5), np.full(site.count, JIB + 2.6), FLAG, scale)


def _element(picture: Picture, site: Site, element: int, scale: float) -> None:
    colour = COLOURS[element]
    x, y = site.x[:, element], site.y[:, element]
    half_width, half_height = site.width[:, element] / 2, site.height[:, element] / 2
    upright = (site.mode[:, element] != ABSENT) & (site.mode[:, element] != TOPPLING)
    rows = np.flatnonzero(upright)
    if len(rows):
        part = picture[rows]
        left, right = (x - half_width)[rows], (x + half_width)[rows]
        low, high = (y - half_height)[rows], (y + half_height)[rows]
        _bar(part, left, right, low, high, colour * 0.55, scale)
        _bar(part, left + 0.3, right - 0.3, low + 0.3, high - 0.3, colour, scale)
        picture[rows] = part
    for row in np.flatnonzero(site.mode[:, element] == TOPPLING):
        _turned(picture[row], site, row, element, colour, scale)


def _edges(low: Floats, high: Floats, size: int, scale: float) -> Picture:
    """[count, size]: the share of each pixel that lies between low and high."""
    pixels = np.arange(size, dtype=np.float32)
    start, end = (value.astype(np.float32)[:, None] * scale for value in (low, high))
    return np.clip(np.minimum(end, pixels + 1) - np.maximum(start, pixels), 0, 1)


def _bar(
    picture: Picture,
    left: Floats,
    right: Floats,
    low: Floats,
    high: Floats,
    colour: Picture | tuple[float, ...],
    scale: float,
) -> None:
    """Paint an upright rectangle, in metres; nothing where it has no area."""
    size = picture.shape[1]
    across = _edges(left, right, size, scale)
    up = _edges(low, high, size, scale)[:, ::-1]
    # Only the rows and columns that any of the rectangles touches.
    rows, columns = np.flatnonzero(up.any(axis=0)), np.flatnonzero(across.any(axis=0))
    if not len(rows) or not len(columns):
        return
    top, bottom, first, last = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    cover = (up[:, top:bottom, None] * across[:, None, first:last])[..., None]
    part = picture[:, top:bottom, first:last]
    part += cover * (np.asarray(colour, dtype=np.float32) - part)


def _line(
    picture: Picture,
    x0: Floats,
    y0: Floats,
    x1: Floats,
    y1: Floats,
    thickness: float,
    colour: tuple[float, ...],
    scale: float,
) -> None:
    """Paint a steep line, row by row."""
    size = picture.shape[1]
    heights = (size - 0.5 - np.arange(size, dtype=np.float32)) / scale
    share = np.clip((y0[:, None] - heights) / np.maximum(y0 - y1, 1e-6)[:, None], 0, 1)
    centre = (x0[:, None] + share * (x1 - x0)[:, None]).astype(np.float32)
    up = _edges(y1, y0, size, scale)[:, ::-1]
    pixels = np.arange(size, dtype=np.float32)
    start, end = (centre - thickness / 2) * scale, (centre + thickness / 2) * scale
    across = np.clip(np.minimum(end[..., None], pixels + 1) - np.maximum(start[..., None], pixels), 0, 1)
    cover = (across * up[..., None])[..., None]
    picture += cover * (np.asarray(colour, dtype=np.float32) - picture)


def _turned(picture: Picture, site: Site, row: int, element: int, colour: Picture, scale: float) -> None:
    """Paint a toppling element, turned around its pivot."""
    size = len(picture)
    half_width, half_height = site.width[row, element] / 2, site.height[row, element] / 2
    foot, pivot = site.y[row, element] - half_height, site.pivot[row, element]
    angle = -site.angle[row, element]
    cosine, sine = np.cos(angle), np.sin(angle)
    offset_x, offset_y = site.x[row, element] - pivot, half_height
    centre_x = pivot + cosine * offset_x - sine * offset_y
    centre_y = foot + sine * offset_x + cosine * offset_y
    pixels = (np.arange(size, dtype=np.float32) + 0.5) / scale
    x, y = pixels[None, :] - centre_x, pixels[::-1, None] - centre_y
    along, across = cosine * x + sine * y, -sine * x + cosine * y
    for shrink, shade in ((0.0, 0.55), (0.3, 1.0)):
        inside = np.minimum(half_width - shrink - np.abs(along), half_height - shrink - np.abs(across))
        cover = np.clip(inside * scale + 0.5, 0, 1)[..., None].astype(np.float32)
        picture += cover * (colour * shade - picture)
