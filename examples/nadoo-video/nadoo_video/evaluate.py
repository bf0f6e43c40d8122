"""How well the world model predicts, beside two baselines."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nadoo_video.baselines import extrapolate_motion, repeat_last
from nadoo_video.model import WorldModel, predict
from nadoo_video.site.clips import Clips, random_clips
from nadoo_video.site.render import COLOURS
from nadoo_video.site.state import WIDTH

FRAMES = 16  # predicted
SEED = 2_000_000_000  # of the clips; training's seeds are far below
SCALES = 3  # of the perceptual distance


@dataclass(frozen=True)
class Score:
    """Means over all clips and predicted frames.

    Attributes:
        psnr: dB, higher is better.
        perceptual: see `perceptual_distance`; lower is better.
        position: error of the carried element in the last frame, median in metres.
        found: share of the clips in which that element was found in the prediction at all.
    """

    psnr: float
    perceptual: float
    position: float
    found: float


def psnr(predicted: NDArray[np.float32], real: NDArray[np.float32]) -> float:
    """Peak signal-to-noise ratio in dB of [clips, frames, ...] values from 0 to 1, a mean over the frames."""
    error = ((predicted - real) ** 2).mean(axis=tuple(range(2, predicted.ndim)))
    return float((-10 * np.log10(np.maximum(error, 1e-10))).mean())


def perceptual_distance(predicted: NDArray[np.float32], real: NDArray[np.float32]) -> float:
    """A distance in the manner of LPIPS (Zhang et al. 2018), with fixed filters in place of a trained network.

    At three scales, the pictures' brightness and its derivatives along and across are divided by their local length,
    so that structure counts and contrast doesn't; then squared differences are averaged.

    Args:
        predicted, real: [clips, frames, size, size, 3], values from 0 to 1.
    """
    return float(
        np.mean([((a - b) ** 2).sum(axis=-1).mean() for a, b in zip(*map(_features, (predicted, real)), strict=True)])
    )


def _features(pictures: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    grey = pictures.reshape(-1, *pictures.shape[2:])
    found = []
    for _ in range(SCALES):
        down, across = np.diff(grey, axis=1)[:, :, :-1], np.diff(grey, axis=2)[:, :-1]
        features = np.concatenate([down, across], axis=-1)
        found.append(features / np.sqrt((features**2).sum(axis=-1, keepdims=True) + 1e-3))
        half = grey.shape[1] // 2
        grey = grey.reshape(len(grey), half, 2, half, 2, -1).mean(axis=(2, 4))
    return found


def where_is(picture: NDArray[np.uint8], element: int) -> tuple[float, float] | None:
    """Centre of an element, found by its colour, in metres from the left and from below; None where it is not."""
    size = len(picture)
    values = picture.astype(np.float32) / 255
    near = ((values - COLOURS[element]) ** 2).sum(axis=2) < 0.04
    if near.sum() < 4:
        return None
    rows, columns = np.nonzero(near)
    return (columns.mean() + 0.5) * WIDTH / size, (size - rows.mean() - 0.5) * WIDTH / size


def score(predicted: NDArray[np.uint8], clips: Clips) -> Score:
    """Compare predictions of the last frames of `clips` with what happened."""
    real = clips.frames[:, -predicted.shape[1] :]
    errors, carried = [], 0
    for clip in range(len(real)):
        # The element that was on the hook during the prediction, or before.
        held = [element for element in clips.held[clip] if element >= 0]
        if not held:
            continue
        true = where_is(real[clip, -1], held[-1])
        if true is None:
            continue
        carried += 1
        guess = where_is(predicted[clip, -1], held[-1])
        if guess is not None:
            errors.append(np.hypot(guess[0] - true[0], guess[1] - true[1]))
    a, b = (pictures.astype(np.float32) / 255 for pictures in (predicted, real))
    return Score(
        psnr(a, b),
        perceptual_distance(a, b),
        float(np.median(errors)) if errors else float("nan"),
        len(errors) / carried if carried else float("nan"),
    )


def evaluate(model: WorldModel, clips: int = 128) -> tuple[dict[str, Score], Clips, dict[str, NDArray[np.uint8]]]:
    """Scores of the model and the baselines on held-out clips, the clips, and all predictions."""
    seen = model.shape.context
    unseen = random_clips(clips, seen + FRAMES, SEED, model.shape.size, skip=40)
    context, controls = unseen.frames[:, :seen], unseen.actions[:, seen:]
    ways: dict[str, Callable[[], NDArray[np.uint8]]] = {
        "world model": lambda: np.concatenate(list(predict(model, context, controls)), axis=1),
        "motion extrapolated": lambda: extrapolate_motion(context, FRAMES),
        "last picture repeated": lambda: repeat_last(context, FRAMES),
    }
    predictions = {name: way() for name, way in ways.items()}
    return {name: score(predicted, unseen) for name, predicted in predictions.items()}, unseen, predictions


def contact_sheet(clips: Clips, predicted: NDArray[np.uint8], path: Path, rows: int = 4, step: int = 3) -> None:
    """For some clips two rows of pictures: what happened, and beneath it what was predicted."""
    real = clips.frames[:, -predicted.shape[1] :]
    # Those in which most moves.
    busiest = np.argsort(-np.abs(real[:, -1].astype(int) - real[:, 0]).mean(axis=(1, 2, 3)))[:rows]
    lines = []
    for clip in busiest:
        for pictures in (real[clip], predicted[clip]):
            lines.append(np.concatenate(list(pictures[::step]), axis=1))
        lines.append(np.full((4, lines[-1].shape[1], 3), 255, np.uint8))
    sheet = Image.fromarray(np.concatenate(lines[:-1]))
    sheet.resize((sheet.width * 2, sheet.height * 2), Image.Resampling.NEAREST).save(path, optimize=True)


def report(scores: dict[str, Score], path: Path) -> None:
    """Write the scores as JSON."""
    path.write_text(json.dumps({name: asdict(value) for name, value in scores.items()}, indent=1) + "\n")
