"""The trained weights that the repository holds."""

import numpy as np
import pytest
import torch
import weightstream as ws

from nadoo_video.evaluate import evaluate, psnr
from nadoo_video.model import export, load, predict, streamed, to_pictures, to_tensor, weight_bytes
from nadoo_video.site.clips import random_clips


@pytest.fixture(scope="module")
def clips():
    return random_clips(2, 3 + 16, 2_100_000_000, skip=40)


@pytest.fixture(scope="module")
def film(clips):
    return np.concatenate(list(predict(load(), clips.frames[:, :3], clips.actions[:, 3:])), axis=1)


def test_a_quarter_of_the_memory_gives_the_same_film(clips, film):
    model = streamed(memory=0.25)
    found = np.concatenate(list(predict(model, clips.frames[:, :3], clips.actions[:, 3:])), axis=1)
    assert np.array_equal(found, film)
    assert ws.stats(model).budget <= weight_bytes() / 4


def test_it_predicts_better_than_what_understands_nothing():
    scores, _, _ = evaluate(load(), clips=32)
    model = scores["world model"]
    for baseline in (scores["motion extrapolated"], scores["last picture repeated"]):
        assert model.psnr > baseline.psnr + 10
        assert model.perceptual < baseline.perceptual / 2
        assert model.position < baseline.position / 5
    assert model.found > 0.9


def test_the_exported_film_is_the_film(clips, film, tmp_path):
    export(load(), 16, tmp_path / "film.pt2")
    program = ws.Program(tmp_path / "film.pt2", memory="8MiB")
    exported = to_pictures(program(to_tensor(clips.frames[:, :3]), torch.from_numpy(clips.actions[:, 3:])))
    a, b = (pictures.astype(np.float32) / 255 for pictures in (exported, film))
    assert psnr(a, b) > 35
