"""What a world model has to beat: predictions that understand nothing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]

BLOCK = 4  # pixels along the edge of what moves as one
SEARCH = 5  # pixels that a block may have moved between two frames


def repeat_last(context: Frames, frames: int) -> Frames:
    """[clips, seen, size, size, 3] → [clips, frames, size, size, 3]: nothing moves any more."""
    return np.repeat(context[:, -1:], frames, axis=1)


def extrapolate_motion(context: Frames, frames: int) -> Frames:
    """The same, but every block goes on as it moved between the last two pictures (block matching)."""
    before, last = context[:, -2].astype(np.int16), context[:, -1]
    clips, size = last.shape[:2]
    padded = np.pad(before, ((0, 0), (SEARCH, SEARCH), (SEARCH, SEARCH), (0, 0)), mode="edge")
    shifts = sorted(
        ((y, x) for y in range(-SEARCH, SEARCH + 1) for x in range(-SEARCH, SEARCH + 1)),
        key=lambda s: abs(s[0]) + abs(s[1]),
    )
    costs = []
    for y, x in shifts:
        shifted = padded[:, SEARCH - y : SEARCH - y + size, SEARCH - x : SEARCH - x + size]
        error = np.abs(last.astype(np.int16) - shifted).sum(axis=3)
        costs.append(error.reshape(clips, size // BLOCK, BLOCK, size // BLOCK, BLOCK).sum(axis=(2, 4)))
    # The nearest of equally good: what stands still, stands still.
    best = np.argmin(np.stack(costs), axis=0)
    moved = np.array(shifts)[best]
    predicted = np.repeat(last[:, None], frames, axis=1)
    for clip, row, column in zip(*np.nonzero(moved.any(axis=3)), strict=True):
        block = last[clip, row * BLOCK : (row + 1) * BLOCK, column * BLOCK : (column + 1) * BLOCK]
        for frame in range(frames):
            y, x = (np.array([row, column]) * BLOCK + moved[clip, row, column] * (frame + 1)).astype(int)
            if 0 <= y <= size - BLOCK and 0 <= x <= size - BLOCK:
                predicted[clip, frame, y : y + BLOCK, x : x + BLOCK] = block
    return predicted
