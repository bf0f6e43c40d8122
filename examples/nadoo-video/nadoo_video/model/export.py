"""The model as a program for weightstream's own runtime: no Python and no torch where it runs."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from nadoo_video.model.rollout import rollout
from nadoo_video.model.transformer import WorldModel


class Film(nn.Module):
    """A whole film from one call: pictures and all controls in, all predicted pictures out."""

    def __init__(self, model: WorldModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, pictures: Tensor, controls: Tensor) -> Tensor:
        """See `rollout`; the values are between 0 and 1."""
        return rollout(self.model, pictures, controls).clamp(0, 1)


def export(model: WorldModel, frames: int, path: Path) -> None:
    """Write films of `frames` frames as a torch.export program with the inputs `pictures` and `controls`.

    The number of variants is free.

    Raises ValueError for a number of frames that is not a multiple of the horizon.
    """
    shape = model.shape
    if frames < 1 or frames % shape.horizon:
        raise ValueError(f"expected a multiple of {shape.horizon} frames, got {frames}")
    pictures = torch.zeros(2, shape.context, 3, shape.size, shape.size)
    controls = torch.zeros(2, frames, shape.actions)
    variants = torch.export.Dim("variants")
    program = torch.export.export(
        Film(model), (pictures, controls), dynamic_shapes={"pictures": {0: variants}, "controls": {0: variants}}
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.export.save(program, path)
