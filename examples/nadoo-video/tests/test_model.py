import numpy as np
import pytest
import torch
import weightstream as ws

from nadoo_video.model import Shape, WorldModel, load, predict, streamed, to_pictures, to_tensor, weight_bytes
from nadoo_video.site.clips import random_clips


@pytest.fixture(scope="module")
def clips():
    return random_clips(2, 3 + 8, 11)


def film(model, frames, controls):
    return np.concatenate(list(predict(model, frames, controls)), axis=1)


def test_streamed_pictures_are_those_of_the_loaded_model(generated, clips):
    controls = clips.actions[:, 3:]
    whole = film(load(generated), clips.frames, controls)
    model = streamed(generated, 0.25)
    assert np.array_equal(film(model, clips.frames, controls), whole)
    stats = ws.stats(model)
    assert stats.budget <= weight_bytes(generated) / 4 and stats.bytes_read > weight_bytes(generated)


def test_many_variants_read_what_one_reads(generated, clips):
    model = streamed(generated, 0.25)

    def read(variants):
        frames, controls = clips.frames[:1].repeat(variants, 0), clips.actions[:1, 3:7].repeat(variants, 0)
        for _ in range(3):
            before = ws.stats(model).bytes_read
            film(model, frames, controls)
        return ws.stats(model).bytes_read - before

    one = read(1)
    assert 0 < read(16) <= 1.15 * one


def test_a_variant_does_not_depend_on_its_neighbours(generated, clips):
    model = load(generated)
    alone = film(model, clips.frames[:1], clips.actions[:1, 3:])
    other = clips.actions[:, 3:].copy()
    other[1] = -other[1]
    first, second = (film(model, clips.frames, controls) for controls in (clips.actions[:, 3:], other))
    assert np.array_equal(first[0], second[0]) and not np.array_equal(first[1], second[1])
    # Matrix products of another height may sum in another order: not the bits, but the picture.
    assert np.abs(alone[0].astype(int) - first[0]).max() <= 1


def test_controls_beyond_the_last_horizon_are_filled(generated, clips):
    model = load(generated)
    assert film(model, clips.frames, clips.actions[:, 3:9]).shape[1] == 6


def test_too_short_a_context_is_refused(generated, clips):
    with pytest.raises(ValueError, match="at least 3 pictures"):
        next(predict(load(generated), clips.frames[:, :2], clips.actions))


def test_pictures_survive_the_way_to_tensors_and_back(clips):
    values = to_tensor(clips.frames)
    assert values.shape == (2, 11, 3, 64, 64)
    assert np.array_equal(to_pictures(values), clips.frames)


def test_an_untrained_head_repeats_the_last_picture():
    model = WorldModel(Shape(width=32, depth=1, heads=2))
    torch.nn.init.zeros_(model.show.weight)
    torch.nn.init.zeros_(model.show.bias)
    context = torch.rand(1, 3, 3, 64, 64)
    assert torch.equal(model(context, torch.zeros(1, 4, 4)), context[:, -1:].expand(-1, 4, -1, -1, -1))
