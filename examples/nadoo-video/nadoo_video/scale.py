"""What size costs: the world model at gigabytes, loaded whole and streamed, one or many simulations at once.

`python -m nadoo_video.scale` makes weights of the wanted size (they predict nothing) and measures. Every measurement
is a process of its own; loaded and streamed ones take turns.
"""

from __future__ import annotations

import hashlib
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
import weightstream

from nadoo_video.model import Shape, generate_weights, load, predict, streamed, weight_bytes
from nadoo_video.site.clips import random_clips

WIDTH = 2048
HEADS = 16
SIZE = 128  # pixels along the edge of a picture: a model this large is not asked for thumbnails
CACHE = Path.home() / ".cache" / "nadoo-video"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

app = typer.Typer(add_completion=False, help=__doc__)


def shape_of(gigabytes: float, dtype: torch.dtype) -> Shape:
    """A model of about this many bytes of weights: more blocks of one width."""
    block = 12 * WIDTH**2 * dtype.itemsize
    return Shape(width=WIDTH, heads=HEADS, depth=max(1, round(gigabytes * 1e9 / block)), size=SIZE)


def folder_of(gigabytes: float, dtype: str, cache: Path) -> Path:
    """The folder with weights of this size, made where it is missing."""
    folder = cache / f"nadoo-{gigabytes:g}GB-{dtype}"
    if not (folder / "config.json").exists():
        typer.echo(f"making {folder}", err=True)
        generate_weights(folder, shape_of(gigabytes, DTYPES[dtype]), DTYPES[dtype])
    return folder


@app.command(hidden=True)
def measure(folder: Path, oversize: float, variants: int, passes: int) -> None:
    """In this process: one model, some passes; prints a line of JSON."""
    total = weight_bytes(folder)
    model = load(folder) if oversize == 0 else streamed(folder, int(total / oversize))
    shape = model.shape
    clips = random_clips(1, shape.context + shape.horizon, 7, shape.size)
    frames = np.repeat(clips.frames[:, : shape.context], variants, axis=0)
    controls = np.repeat(clips.actions[:, shape.context :], variants, axis=0)
    # What-if: the variants differ in the wind.
    controls[..., 3] += np.linspace(0, 1, variants)[:, None]
    seconds, read, digest = [], [], hashlib.sha256()
    for _ in range(passes + 1):
        before = weightstream.stats(model).bytes_read if oversize else 0
        start = time.perf_counter()
        pictures = np.concatenate(list(predict(model, frames, controls)), axis=1)
        seconds.append(time.perf_counter() - start)
        read.append(weightstream.stats(model).bytes_read - before if oversize else 0)
    digest.update(pictures.tobytes())
    # The first pass learns the order and fills the memory.
    print(
        json.dumps(
            {
                "seconds": seconds[1:],
                "bytes": read[1:],
                "frames": shape.horizon * variants,
                "digest": digest.hexdigest(),
                "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                "weights": total,
            }
        )
    )


def in_own_process(folder: Path, oversize: float, variants: int, passes: int) -> dict[str, Any]:
    """`measure`, elsewhere."""
    command = [sys.executable, "-m", "nadoo_video.scale", "measure", str(folder), str(oversize), str(variants)]
    process = subprocess.run([*command, str(passes)], stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(process.stdout.splitlines()[-1]))


@app.callback(invoke_without_command=True)
def scale(
    context: typer.Context,
    gigabytes: Annotated[float, typer.Option(help="of weights")] = 4.0,
    oversize: Annotated[list[float], typer.Option(help="weights / memory; 0 is loaded whole")] = [0, 2, 4, 10],  # noqa: B006
    variants: Annotated[list[int], typer.Option(help="simulations at once")] = [1],  # noqa: B006
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16")] = "float32",
    rounds: int = 2,
    passes: Annotated[int, typer.Option(help="after the first, in each process")] = 3,
    cache: Annotated[Path, typer.Option(help="where weights are kept")] = CACHE,
    out: Annotated[Path | None, typer.Option(help="write the measurements as JSON here")] = None,
) -> None:
    """Measure simulation steps a second, and the bytes that a pass reads."""
    if context.invoked_subcommand:
        return
    if dtype not in DTYPES:
        raise typer.BadParameter(f"expected one of {', '.join(DTYPES)}, got {dtype}")
    folder = folder_of(gigabytes, dtype, cache)
    found: dict[tuple[float, int], list[dict[str, Any]]] = {}
    for _ in range(rounds):
        for count in variants:
            for size in oversize:
                found.setdefault((size, count), []).append(in_own_process(folder, size, count, passes))
    typer.echo(f"{gigabytes:g} GB of {dtype} weights, {WIDTH} wide")
    typer.echo(
        f"{'memory':>10}{'variants':>10}{'s a pass':>10}{'steps/s':>9}{'slowdown':>10}{'GB a pass':>11}{'peak GB':>9}"
    )
    rows = []
    for (size, count), runs in found.items():
        middle = statistics.median([value for run in runs for value in run["seconds"]])
        whole = found.get((0, count))
        slowdown = middle / statistics.median([value for run in whole for value in run["seconds"]]) if whole else None
        gigabytes_read = statistics.median([value for run in runs for value in run["bytes"]]) / 1e9
        equal = not whole or all(run["digest"] == whole[0]["digest"] for run in runs)
        rows.append(
            {
                "oversize": size,
                "variants": count,
                "seconds": middle,
                "slowdown": slowdown,
                "gigabytes_read": gigabytes_read,
                "peak": max(run["peak"] for run in runs),
                "equal": equal,
            }
        )
        name = "all" if size == 0 else f"1/{size:g}"
        typer.echo(
            f"{name:>10}{count:>10}{middle:>10.2f}{runs[0]['frames'] / middle:>9.2f}"
            f"{f'{slowdown:.2f}x' if slowdown else '':>10}{gigabytes_read:>11.2f}{rows[-1]['peak'] / 1e9:>9.2f}"
            f"{'' if equal else '  NOT EQUAL'}"
        )
    if out:
        out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    app()
