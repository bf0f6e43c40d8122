"""Train the world model on clips that the simulator makes.

On one GPU, as the weights in this project: `python -m nadoo_video.train --compiled --minutes 15.5 --episodes 32768
--out weights`; how many steps fit into the minutes depends on the machine, and the learning rate follows the time that
has passed. On a CPU: `--steps 2500 --batch 16 --episodes 2048`.
The seeds are fixed. What is interrupted goes on from its last save when the same command is given again.
"""

from __future__ import annotations

import copy
import json
import math
import os
import time
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
from nadoo_video.model import Shape, WorldModel, rollout, save
from nadoo_video.model.weights import PART_BYTES, TRAINED
from nadoo_video.site.clips import random_clips

FRAMES = 40  # of an episode
EPISODES = 64  # made at once
HELD_OUT = 1_000_000_000  # seeds from here on are never trained on
WARM_UP = 100  # steps
LEARNING_RATE = 8e-4
AVERAGE = 0.998  # of the weights, that are kept in the end
SAVE_EVERY = 120  # seconds
EVALUATIONS = 40  # over the whole training
EDGES = 0.05  # weight of the error of edges beside the squared error
# From which share of the time on a rollout of how many horizons is trained through: first single steps, then what the
# model makes of its own predictions.
ROLLOUTS = ((0.0, 1), (0.5, 2), (0.75, 4))


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


def loss_of(predicted: Tensor, target: Tensor, last: Tensor) -> Tensor:
    """Squared error and the error of edges.

    What moves counts more than what stands still, which is most of a picture. Edges are differences of neighbours;
    their absolute error keeps areas smooth and outlines sharp, where a squared error alone leaves noise.
    """
    moved = ((target - last).abs().amax(2, keepdim=True) > 0.03).float()
    error = predicted - target
    edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return (error**2 * (1 + 4 * moved)).mean() + EDGES * edges


def learning_rate(step: int, share: float) -> float:
    """Warm-up by steps, then a cosine over the time."""
    return LEARNING_RATE * min(1.0, (step + 1) / WARM_UP) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share)))


def initialise(model: WorldModel) -> None:
    """Random weights by the number of inputs; at first every block adds little and the last picture is repeated."""
    for name, parameter in model.named_parameters():
        if parameter.ndim >= 2:
            inputs = parameter[0].numel()
            adds = name.endswith(("out.weight", "down.weight"))
            torch.nn.init.normal_(parameter, std=(0.2 if adds else 1.0) / math.sqrt(inputs))
        elif not name.split(".")[-2].startswith("norm"):
            torch.nn.init.zeros_(parameter)
    torch.nn.init.zeros_(model.show.weight)


class Training:
    """A model and everything that learning it goes on from."""

    def __init__(self, shape: Shape, device: str, out: Path) -> None:
        self.shape, self.device, self.out = shape, device, out
        self.model = WorldModel(shape).to(device)
        initialise(self.model)
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self.optimiser = torch.optim.AdamW(self.model.parameters(), betas=(0.9, 0.95), weight_decay=0.05, fused=True)
        self.generator = torch.Generator(device).manual_seed(1)
        self.step, self.seconds = 0, 0.0
        self.curve: list[dict[str, float]] = []
        self._unfinished = out / "unfinished.pt"

    def resume(self) -> None:
        """Go on where an interrupted training of the same shape saved last, if there is one."""
        if not self._unfinished.exists():
            return
        saved = torch.load(self._unfinished, map_location=self.device)
        self.model.load_state_dict(saved["model"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.generator.set_state(saved["generator"].cpu())
        self.average.load_state_dict(saved["average"])
        self.step, self.seconds, self.curve = saved["step"], saved["seconds"], saved["curve"]

    def save(self, finished: bool) -> None:
        """Write the averaged weights (bf16), the curve, and what `resume` needs, unless nothing is left to do."""
        save(
            self.out,
            self.shape,
            ((name, value.to(torch.bfloat16).cpu()) for name, value in self.average.named_parameters()),
            PART_BYTES,
        )
        log = {
            "device": torch.cuda.get_device_name() if self.device == "cuda" else "cpu",
            "steps": self.step,
            "minutes": round(self.seconds / 60, 1),
            "curve": self.curve,
        }
        (self.out / "training.json").write_text(json.dumps(log, indent=1) + "\n")
        if finished:
            self._unfinished.unlink(missing_ok=True)
            return
        state = {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "generator": self.generator.get_state(),
            "average": self.average.state_dict(),
            "curve": self.curve,
            "step": self.step,
            "seconds": self.seconds,
        }
        # A kill while it is written leaves the one before.
        beside = self._unfinished.with_suffix(".new")
        torch.save(state, beside)
        beside.replace(self._unfinished)

    def learn(self, pictures: Tensor, controls: Tensor, share: float) -> float:
        """One step; returns the loss."""
        context = self.shape.context
        with torch.autocast(self.device, torch.bfloat16):
            predicted = rollout(self.model, pictures, controls)
        loss = loss_of(predicted.float(), pictures[:, context:], pictures[:, context - 1 : context])
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.step, share)
        self.optimiser.step()
        with torch.no_grad():
            # A young average forgets faster.
            weight = 1 - min(AVERAGE, (self.step + 1) / (self.step + 10))
            for mean, value in zip(self.average.parameters(), self.model.parameters(), strict=True):
                mean.lerp_(value, weight)
        self.step += 1
        return loss.item()

    @torch.no_grad()
    def held_out(self, pictures: Tensor, controls: Tensor) -> dict[str, float]:
        """PSNR of the averaged weights, over the first horizon and over all of the controls."""
        context, first = self.shape.context, self.shape.horizon
        with torch.autocast(self.device, torch.bfloat16):
            predicted = rollout(self.average, pictures, controls)
        dreamt, real = (frames.float().clamp(0, 1).cpu().numpy() for frames in (predicted, pictures[:, context:]))
        return {
            "psnr_first": round(psnr(dreamt[:, :first], real[:, :first]), 3),
            "psnr": round(psnr(dreamt, real), 3),
        }


def train(
    out: Annotated[Path, typer.Option(help="folder for the weights")] = TRAINED,
    minutes: Annotated[float, typer.Option(help="of training, episodes not counted")] = 12.0,
    steps: Annotated[int | None, typer.Option(help="this many instead of minutes")] = None,
    episodes: Annotated[int, typer.Option(help="to make and learn from")] = 16_384,
    batch: Annotated[int, typer.Option(help="windows a step")] = 192,
    longest: Annotated[int, typer.Option(help="horizons that are trained through at once, at most")] = 4,
    compiled: Annotated[bool, typer.Option(help="by torch.compile: faster on a GPU")] = False,
    width: int = Shape.width,
    depth: int = Shape.depth,
    heads: int = Shape.heads,
    size: int = Shape.size,
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

    training = Training(shape, device, out)
    training.resume()
    if compiled:
        training.model.compile(dynamic=False)
    bar = tqdm(initial=training.step, total=steps, unit="step", smoothing=0.05, mininterval=5)
    last = saved = time.monotonic()
    while (share := training.step / steps if steps else training.seconds / (60 * minutes)) < 1:
        horizons = min(longest, max(count for start, count in ROLLOUTS if share >= start))
        windows_now = max(1, batch // horizons)
        pictures, controls = windows(frames, actions, shape, windows_now, horizons * shape.horizon, training.generator)
        loss = training.learn(pictures, controls, share)
        now = time.monotonic()
        training.seconds, last = training.seconds + now - last, now
        bar.update()
        if share * EVALUATIONS >= len(training.curve) + 1:
            point = {"step": training.step, "seconds": round(training.seconds, 1), "loss": round(loss, 5)}
            training.curve.append(point | training.held_out(held_pictures, held_controls))
            bar.set_postfix(training.curve[-1])
        if now - saved > SAVE_EVERY:
            training.save(finished=False)
            saved = now
    training.save(finished=True)
    print(f"{out}: {sum(v.numel() for v in training.model.parameters()) / 1e6:.1f} M parameters, {training.step} steps")


if __name__ == "__main__":
    typer.run(train)
