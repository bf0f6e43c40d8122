import json

import pytest
from PIL import Image
from typer.testing import CliRunner

from nadoo_video.command import app
from nadoo_video.scale import app as scale

run = CliRunner().invoke


@pytest.fixture
def plan(tmp_path):
    path = tmp_path / "plan.json"
    path.write_text(run(app, ["plan", "8"]).stdout)
    return path


def test_a_plan_becomes_a_video(plan, generated, tmp_path):
    out = tmp_path / "video.gif"
    result = run(app, ["simulate", str(plan), "--out", str(out), "--seconds", "3", "--model", str(generated)])
    assert result.exit_code == 0, result.output
    with Image.open(out) as film:
        assert (film.n_frames, film.size) == (12, (512, 256))
    assert "last pass" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{plan}", "--model", "{empty}"], "no config.json"),
        (["{plan}", "--out", "video.avi", "--model", "{model}"], ".mp4 or .gif"),
        (["{plan}", "--seconds", "0.5", "--model", "{model}"], "more than 3"),
        (["{plan}", "--memory", "1%", "--model", "{model}"], "least"),
        (["{empty}/nothing.json", "--model", "{model}"], "nothing.json"),
        (["{broken}", "--model", "{model}"], "step 1"),
    ],
)
def test_what_can_not_be_done_is_said_in_a_line(arguments, words, plan, generated, tmp_path):
    broken, empty = tmp_path / "broken.json", tmp_path / "empty"
    empty.mkdir()
    broken.write_text(json.dumps({"steps": [{"do": "fly"}]}))
    names = {"plan": plan, "model": generated, "empty": empty, "broken": broken}
    result = run(app, ["simulate", *(argument.format(**names) for argument in arguments)])
    assert result.exit_code == 1 and result.stderr.startswith("nadoo-video: ") and words in result.stderr


def test_what_size_costs_takes_its_options_without_a_subcommand():
    result = run(scale, ["--gigabytes", "4", "--dtype", "float8"])
    assert result.exit_code == 2
    assert "expected one of float32, bfloat16" in result.output
