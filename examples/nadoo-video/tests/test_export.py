"""The exported model, run by weightstream's own runtime."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import weightstream as ws
from typer.testing import CliRunner

from nadoo_video.command import app
from nadoo_video.model import Shape, export, generate_weights, load, predict, to_pictures, to_tensor
from nadoo_video.site.clips import random_clips


@pytest.fixture(scope="module", params=[torch.float32, torch.bfloat16], ids=str)
def folder(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported")
    generate_weights(folder, Shape(width=128, depth=3, heads=4), request.param)
    return folder


def test_the_exported_film_is_the_film(folder, tmp_path):
    model, clips = load(folder), random_clips(3, 3 + 8, 5)
    film = np.concatenate(list(predict(model, clips.frames[:, :3], clips.actions[:, 3:])), axis=1)
    export(model, 8, tmp_path / "film.pt2")
    program = ws.Program(tmp_path / "film.pt2", memory="4MiB")
    exported = program(to_tensor(clips.frames[:, :3]), torch.from_numpy(clips.actions[:, 3:]))
    difference = np.abs(to_pictures(exported).astype(int) - film)
    # Sums in another order, two predictions deep; random weights exaggerate it.
    assert difference.mean() < (0.01 if model.place.dtype == torch.float32 else 1.5), difference.mean()
    assert np.abs(film.astype(int) - clips.frames[:, 3:]).mean() > 10 * difference.mean()


def test_the_command_line_runs_it(folder, tmp_path):
    plan, out = tmp_path / "plan.json", tmp_path / "out"
    run = CliRunner().invoke
    plan.write_text(run(app, ["plan", "8"]).stdout)
    told = run(app, ["export", str(plan), "--out", str(out), "--frames", "8", "--model", str(folder)])
    assert told.exit_code == 0, told.output
    command = [str(Path(sys.executable).with_name("weightstream")), *told.stdout.split()[1:], "--memory", "4MiB"]
    subprocess.run(command, check=True, capture_output=True)
    assert np.load(out / "film.npy").shape == (1, 8, 3, 64, 64)


def test_half_a_horizon_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match="multiple of 4"):
        export(load(folder), 6, tmp_path / "film.pt2")
