"""Train the world model on clips that the simulator makes.

On one GPU: `python -m nadoo_video.train --minutes 12 --out weights`. The seeds are fixed; how many steps fit into the
minutes depends on the machine, and the learning rate follows the time that has passed.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from nadoo_video.evaluate import psnr
from nadoo_video.model import Shape, WorldModel, save
from nadoo_video.model.weights import PART_BYTES, TRAINED
from nadoo_video.site.clips import random_clips

FRAMES = 40  # of an episode
EPISODES = 64  # made at once
HELD_OUT = 1_000_000_000  # seeds from here on are never trained on
WARM_UP = 300  # steps
LEARNING_RATE = 4e-4
AVERAGE = 0.999  # of the weights, that are kept in the end
# From which share of the time on a rollout of how many horizons is trained through: first single steps, then what the
# model makes of its own predictions.
ROLLOUTS = ((0.0, 1), (0.45, 2), (0.75, 4))


def episode(seed: int, size: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Pictures and controls of some episodes; how far they are along differs."""
    clips = random_clips(EPISODES, FRAMES, seed, size, skip=seed % 4 * 24)
    return clips.frames, clips.actions


def make_episodes(count: int, size: int, processes: int) -> tuple[Tensor, Tensor]:
    """[episodes, FRAMES, size, size, 3] and [episodes, FRAMES, actions], on the CPU."""
    batches = math.ceil(count / EPISODES)
    with ProcessPoolExecutor(processes) as pool:
        made = pool.map(partial(episode, size=size), range(batches), chunksize=1)
        frames, actions = zip(*tqdm(made, total=batches, desc="episodes", unit="batch"), strict=True)
    return torch.from_numpy(np.concatenate(frames)), torch.from_numpy(np.concatenate(actions))


def windows(
    frames: Tensor, actions: Tensor, shape: Shape, batch: int, length: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Random stretches: [batch, context + length, 3, size, size] from 0 to 1, and the controls of the last `length`."""
    span = shape.context + length
    episodes = torch.randint(len(frames), (batch,), generator=generator, device=frames.device)
    start = torch.randint(FRAMES - span + 1, (batch,), generator=generator, device=frames.device)
    index = start[:, None] + torch.arange(span, device=frames.device)
    pictures = frames[episodes[:, None], index].permute(0, 1, 4, 2, 3).float() / 255
    return pictures, actions[episodes[:, None], index][:, shape.context :]


def rollout(model: WorldModel, pictures: Tensor, controls: Tensor) -> Tensor:
    """All predicted pictures, each horizon from the one before."""
    shape = model.shape
    context, predicted = pictures[:, : shape.context], []
    for start in range(0, controls.shape[1], shape.horizon):
        coming = model(context, controls[:, start : start + shape.horizon])
        predicted.append(coming)
        context = torch.cat([context, coming.clamp(0, 1)], 1)[:, -shape.context :]
    return torch.cat(predicted, 1)


def loss_of(predicted: Tensor, target: Tensor, last: Tensor) -> Tensor:
    """Charbonnier's distance; what moves counts more than what stands still, which is most of a picture."""
    moved = ((target - last).abs().amax(2, keepdim=True) > 0.03).float()
    distance = torch.sqrt((predicted - target) ** 2 + 1e-6)
    return (distance * (1 + 4 * moved)).mean()


def learning_rate(step: int, share: float) -> float:
    """Warm-up by steps, then a cosine over the time."""
    return LEARNING_RATE * min(1.0, (step + 1) / WARM_UP) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share)))


def shares(minutes: float, steps: int | None) -> Iterator[tuple[int, float]]:
    """(step, share of the whole) until the time or the steps are used up."""
    begun, step = time.monotonic(), 0
    while True:
        share = step / steps if steps else (time.monotonic() - begun) / (60 * minutes)
        if share >= 1:
            return
        yield step, share
        step += 1


def train(
    out: Annotated[Path, typer.Option(help="folder for the weights")] = TRAINED,
    minutes: Annotated[float, typer.Option(help="of training, episodes not counted")] = 12.0,
    episodes: Annotated[int, typer.Option(help="to make and learn from")] = 16_384,
    batch: Annotated[int, typer.Option(help="windows a step")] = 192,
    width: int = Shape.width,
    depth: int = Shape.depth,
    heads: int = Shape.heads,
    size: int = Shape.size,
    steps: Annotated[int | None, typer.Option(help="this many instead of minutes, for a try")] = None,
    processes: Annotated[int, typer.Option(help="that make episodes")] = os.cpu_count() or 1,
) -> None:
    """Train, and write weights (bf16, the running average) and the curve."""
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    shape = Shape(width=width, depth=depth, heads=heads, size=size)
    frames, actions = (tensor.to(device) for tensor in make_episodes(episodes, shape.size, processes))
    unseen = random_clips(64, shape.context + 4 * shape.horizon, HELD_OUT, shape.size, skip=30)
    held_pictures = torch.from_numpy(unseen.frames).to(device).permute(0, 1, 4, 2, 3).float() / 255
    held_controls = torch.from_numpy(unseen.actions).to(device)[:, shape.context :]

    model = WorldModel(shape).to(device)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.02)
        elif not name.split(".")[-2].startswith("norm"):
            torch.nn.init.zeros_(parameter)
    torch.nn.init.zeros_(model.show.weight)
    average = {name: value.detach().clone() for name, value in model.named_parameters()}
    optimiser = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), weight_decay=0.05)
    generator = torch.Generator(device).manual_seed(1)
    curve: list[dict[str, float]] = []
    bar = tqdm(unit="step")
    begun = time.monotonic()
    for step, share in shares(minutes, steps):
        horizons = max(count for start, count in ROLLOUTS if share >= start)
        pictures, controls = windows(
            frames, actions, shape, max(1, batch // horizons), horizons * shape.horizon, generator
        )
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            predicted = rollout(model, pictures, controls)
        target = pictures[:, shape.context :]
        loss = loss_of(predicted.float(), target, pictures[:, shape.context - 1 : shape.context])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, share)
        optimiser.step()
        with torch.no_grad():
            for name, value in model.named_parameters():
                # A young average forgets faster.
                average[name].lerp_(value, 1 - min(AVERAGE, (step + 1) / (step + 10)))
        bar.update()
        if step % 250 == 0:
            with torch.no_grad(), torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
                dreamt = rollout(model, held_pictures, held_controls).float().clamp(0, 1)
            curve.append(
                {
                    "step": step,
                    "seconds": round(time.monotonic() - begun, 1),
                    "loss": round(loss.item(), 5),
                    "held_out_psnr": round(
                        psnr(dreamt.cpu().numpy(), held_pictures[:, shape.context :].cpu().numpy()), 3
                    ),
                }
            )
            bar.set_postfix(curve[-1])
    save(out, shape, ((name, value.to(torch.bfloat16).cpu()) for name, value in average.items()), PART_BYTES)
    (out / "training.json").write_text(
        json.dumps({"device": torch.cuda.get_device_name() if device == "cuda" else "cpu", "curve": curve}, indent=1)
        + "\n"
    )
    print(f"{out}: {sum(value.numel() for value in average.values()) / 1e6:.1f} M parameters, {step + 1} steps")


if __name__ == "__main__":
    typer.run(train)
