"""From pictures to pictures: the model's predictions, one after the other."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nadoo_video.model.transformer import WorldModel


def to_tensor(frames: NDArray[np.uint8], device: torch.device | str = "cpu") -> Tensor:
    """[..., size, size, 3] pictures as [..., 3, size, size] float32 values from 0 to 1."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(frames, -1, -3))).to(device).float() / 255


def to_pictures(values: Tensor) -> NDArray[np.uint8]:
    """The inverse of `to_tensor`."""
    pictures = values.clamp(0, 1).mul(255).round().to(torch.uint8).cpu().numpy()
    return np.moveaxis(pictures, -3, -1)


def rollout(model: WorldModel, pictures: Tensor, controls: Tensor) -> Tensor:
    """All pictures of `controls` [batch, a multiple of `horizon`, actions], each horizon from the one before.

    `pictures` [batch, at least `context`, 3, size, size] are those that it begins with, and may go on.
    """
    shape = model.shape
    context, predicted = pictures[:, : shape.context], []
    for start in range(0, controls.shape[1], shape.horizon):
        coming = model(context, controls[:, start : start + shape.horizon])
        predicted.append(coming)
        context = torch.cat([context, coming.clamp(0, 1)], 1)[:, -shape.context :]
    return torch.cat(predicted, 1)


@torch.no_grad()
def predict(model: WorldModel, frames: NDArray[np.uint8], actions: NDArray[np.float32]) -> Iterator[NDArray[np.uint8]]:
    """Let the model dream on, from its own predictions.

    Args:
        model: loaded or streamed.
        frames: [variants, at least `context`, size, size, 3]: the last of these are what it sees.
        actions: [variants, frames, 4]: the controls of each frame to come; variants share one pass.

    Yields:
        [variants, up to `horizon`, size, size, 3], until all of `actions` are used.
    """
    shape, device = model.shape, model.place.device
    if frames.shape[1] < shape.context:
        raise ValueError(f"expected at least {shape.context} pictures to start from, got {frames.shape[1]}")
    context = to_tensor(frames[:, -shape.context :], device)
    controls = torch.from_numpy(actions).to(device)
    for start in range(0, controls.shape[1], shape.horizon):
        coming = controls[:, start : start + shape.horizon]
        known = coming.shape[1]
        # A plan may end before the horizon does: the crane stands still in what is computed beyond.
        coming = torch.nn.functional.pad(coming, (0, 0, 0, shape.horizon - known))
        predicted = model(context, coming).clamp(0, 1)
        yield to_pictures(predicted[:, :known])
        context = torch.cat([context, predicted], 1)[:, -shape.context :]
