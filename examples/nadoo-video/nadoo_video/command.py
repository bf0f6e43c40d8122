"""The command line: nadoo-video plan, simulate, export, evaluate, serve."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, NoReturn

import numpy as np
import typer
import weightstream
from tqdm import tqdm

from nadoo_video.evaluate import contact_sheet, report
from nadoo_video.evaluate import evaluate as evaluate_model
from nadoo_video.model import WorldModel, load, streamed, to_tensor
from nadoo_video.model import export as export_model
from nadoo_video.model.weights import TRAINED
from nadoo_video.simulate import simulate as run
from nadoo_video.site import FRAMES_PER_SECOND, Plan, PlanError, Site
from nadoo_video.site.clips import film_plan
from nadoo_video.site.operator import plan_for
from nadoo_video.video import enlarge, write_video

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)

Model = Annotated[Path, typer.Option(help="folder with the weights and config.json")]
Memory = Annotated[
    str, typer.Option(help='for weights: a share of their size ("25%"), a size ("8MiB"), or "all" to load them whole')
]


def main() -> None:
    """Entry point of the console script."""
    app()


def _fail(error: Exception) -> NoReturn:
    typer.echo(f"nadoo-video: {error}", err=True)
    raise typer.Exit(1)


def open_model(folder: Path, memory: str) -> WorldModel:
    """The model, loaded or streamed as `memory` says; see the option's help."""
    if memory == "all":
        return load(folder)
    return streamed(folder, float(memory[:-1]) / 100 if memory.endswith("%") else memory)


@app.command()
def simulate(
    plan: Annotated[Path, typer.Argument(help="JSON; see `nadoo-video plan`")],
    out: Annotated[Path, typer.Option(help=".mp4 or .gif")] = Path("simulation.gif"),
    seconds: Annotated[float, typer.Option(help="of video")] = 8.0,
    memory: Memory = "25%",
    model: Model = TRAINED,
    size: Annotated[int, typer.Option(help="pixels of the picture's height")] = 256,
) -> None:
    """Predict the video of a plan, beside what the simulator says: left the model's, right the simulator's."""
    try:
        steps = Plan.read(plan)
        if out.suffix not in (".mp4", ".gif"):
            raise ValueError(f"{out}: expected a name that ends in .mp4 or .gif")
        world = open_model(model, memory)
        frames = round(seconds * FRAMES_PER_SECOND)
        predicted, real = [], []
        with tqdm(total=frames, unit="frame", desc=out.name, disable=None) as bar:
            for piece in run(world, [steps], frames):
                predicted.append(piece.predicted[0])
                real.append(piece.real[0])
                bar.update(len(piece.predicted[0]))
        film = np.concatenate([np.concatenate(predicted), np.concatenate(real)], axis=2)
        write_video(enlarge(film, size), out)
    except (PlanError, ValueError, OSError, RuntimeError) as error:
        _fail(error)
    typer.echo(f"{out}: {frames} frames")
    if memory != "all":
        typer.echo(str(weightstream.stats(world)))


@app.command()
def plan(
    seed: Annotated[int, typer.Argument(help="of the site and the plan")] = 0,
) -> None:
    """Print an invented plan for a site, to begin with."""
    try:
        site = Site.sample(1, np.random.default_rng(seed))
    except ValueError as error:
        _fail(error)
    typer.echo(json.dumps(plan_for(site, seed).to_json(), indent=1))


@app.command()
def export(
    plan: Annotated[Path, typer.Argument(help="whose first pictures and controls become the inputs")],
    out: Annotated[Path, typer.Option(help="folder for film.pt2, pictures.npy and controls.npy")] = Path("exported"),
    frames: Annotated[int, typer.Option(help="of the film, a multiple of the model's horizon")] = 16,
    model: Model = TRAINED,
) -> None:
    """Write the model as a program that runs without Python, and its inputs for a plan."""
    try:
        world = load(model)
        context = world.shape.context
        filmed = film_plan(Plan.read(plan), context + frames, world.shape.size)
        export_model(world, frames, out / "film.pt2")
        np.save(out / "pictures.npy", to_tensor(filmed.frames[:, :context]).numpy())
        np.save(out / "controls.npy", filmed.actions[:, context:])
    except (PlanError, ValueError, OSError) as error:
        _fail(error)
    inputs = " ".join(f"--input {name}={out / name}.npy" for name in ("pictures", "controls"))
    typer.echo(f"weightstream run {out / 'film.pt2'} {inputs} --out {out / 'film.npy'}")


@app.command()
def evaluate(
    model: Model = TRAINED,
    memory: Memory = "all",
    clips: Annotated[int, typer.Option(help="held-out clips")] = 128,
    sheet: Annotated[Path | None, typer.Option(help="write a picture of some clips here")] = None,
    scores: Annotated[Path | None, typer.Option(help="write the scores as JSON here")] = None,
) -> None:
    """Score the model and two baselines on clips that it never saw."""
    try:
        found, unseen, predictions = evaluate_model(open_model(model, memory), clips)
        if sheet:
            contact_sheet(unseen, predictions["world model"], sheet)
        if scores:
            report(found, scores)
    except (ValueError, OSError, RuntimeError) as error:
        _fail(error)
    typer.echo(f"{'':24}{'PSNR, dB':>10}{'perceptual':>12}{'position, m':>13}{'found':>8}")
    for name, value in found.items():
        row = asdict(value)
        typer.echo(f"{name:24}{row['psnr']:10.2f}{row['perceptual']:12.4f}{row['position']:13.2f}{row['found']:8.0%}")


@app.command()
def serve(
    model: Model = TRAINED,
    memory: Memory = "25%",
    host: str = "127.0.0.1",
    port: int = 8765,
    name: Annotated[
        list[str] | None, typer.Option(help="a name by which browsers may call this machine, besides HOST")
    ] = None,
) -> None:
    """Open the page on this machine."""
    import uvicorn

    from nadoo_video.page.server import LOCAL, MOST_BYTES, create_app

    try:
        application = create_app(open_model(model, memory), model, [*LOCAL, host, *(name or [])])
    except (ValueError, OSError, RuntimeError) as error:
        _fail(error)
    typer.echo(f"http://{host}:{port}")
    uvicorn.run(application, host=host, port=port, log_level="warning", ws_max_size=MOST_BYTES)


if __name__ == "__main__":
    main()
