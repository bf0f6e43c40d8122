import numpy as np
import pytest

from nadoo_video.baselines import extrapolate_motion, repeat_last
from nadoo_video.evaluate import perceptual_distance, psnr, score, where_is
from nadoo_video.site.clips import random_clips
from nadoo_video.site.render import render
from nadoo_video.site.state import ABSENT, Site


def test_motion_goes_on():
    frames = np.zeros((1, 2, 32, 32, 3), np.uint8)
    frames[0, 0, 8:12, 4:8] = frames[0, 1, 8:12, 8:12] = 200
    predicted = extrapolate_motion(frames, 3)
    assert [int(predicted[0, frame, 9, 12 + 4 * frame, 0]) for frame in range(3)] == [200, 200, 200]
    assert np.array_equal(repeat_last(frames, 2)[0, 1], frames[0, 1])


def test_what_stands_still_stays():
    frames = random_clips(1, 1, 0).frames.repeat(2, axis=1)
    assert np.array_equal(extrapolate_motion(frames, 4), repeat_last(frames, 4))


def test_measures_know_better_from_worse():
    real = random_clips(2, 4, 1).frames.astype(np.float32) / 255
    generator = np.random.default_rng(0)
    little, much = (
        np.clip(real + generator.normal(0, sigma, real.shape), 0, 1).astype(np.float32) for sigma in (0.01, 0.1)
    )
    assert psnr(little, real) > psnr(much, real) + 15
    assert perceptual_distance(real, real) == 0 < perceptual_distance(little, real) < perceptual_distance(much, real)


@pytest.mark.parametrize("element", range(3))
def test_elements_are_found_where_they_are(element):
    site = Site.sample(1, np.random.default_rng(5))
    picture = render(site, 64)[0]
    x, y = where_is(picture, element)
    assert abs(x - site.x[0, element]) < 0.5 and abs(y - site.y[0, element]) < 0.5
    site.mode[0, element] = ABSENT
    assert where_is(render(site, 64)[0], element) is None


def test_a_perfect_prediction_has_a_perfect_score():
    clips = random_clips(8, 19, 3, skip=40)
    perfect = score(clips.frames[:, 3:], clips)
    assert (
        perfect.psnr == pytest.approx(100.0)
        and perfect.perceptual == 0
        and perfect.position == 0
        and perfect.found == 1
    )
