"""One or several plans, from their beginning to their end: what happens, and what the model predicts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nadoo_video.model import WorldModel, predict
from nadoo_video.site import FRAMES_PER_SECOND
from nadoo_video.site.clips import film_plan
from nadoo_video.site.plan import Plan

LONGEST = 60 * FRAMES_PER_SECOND  # frames that may be asked for


@dataclass(frozen=True)
class Piece:
    """Some frames of all variants: from `start` on, [variants, frames, size, size, 3]."""

    start: int
    predicted: NDArray[np.uint8]
    real: NDArray[np.uint8]


def simulate(model: WorldModel, plans: Sequence[Plan], frames: int) -> Iterator[Piece]:
    """Predict the plans side by side: all variants share each pass over the weights.

    The first piece holds the pictures that the model is shown; prediction begins after them. How the crane is to be
    moved comes from the simulator's operator, who sees the real site; the pictures don't.

    Raises ValueError for a number of frames that is not within the context and LONGEST.
    """
    context = model.shape.context
    if not plans:
        raise ValueError("expected at least one plan")
    if not context < frames <= LONGEST:
        raise ValueError(f"expected more than {context} and at most {LONGEST} frames, got {frames}")
    return _pieces(model, plans, frames)


def _pieces(model: WorldModel, plans: Sequence[Plan], frames: int) -> Iterator[Piece]:
    context = model.shape.context
    filmed = [film_plan(plan, frames, model.shape.size) for plan in plans]
    real = np.concatenate([clip.frames for clip in filmed])
    controls = np.concatenate([clip.actions for clip in filmed])
    shown = real[:, :context]
    yield Piece(0, shown, shown)
    start = context
    for predicted in predict(model, shown, controls[:, context:]):
        end = start + predicted.shape[1]
        yield Piece(start, predicted, real[:, start:end])
        start = end
