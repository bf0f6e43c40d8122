"""What can't be read never becomes a number: a clear error, at open or in the pass; the next pass works."""

import contextlib
import json
import os
import re
import struct

import pytest
import torch
import weightstream as ws
from safetensors.torch import load_file, save_file
from support.budget import LEAST
from support.threads import run_together
from torch import nn

WIDTH, LAYERS = 512, 12
CHUNK = 256 * 2**10  # of the least budget


def build():
    return nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)), nn.Tanh()).eval()


class Disk:
    """A checkpoint whose file loses its second half and gets it back while somebody has it open."""

    def __init__(self, path):
        self.path = path
        save_file(build().state_dict(), path)
        self.content = path.read_bytes()
        self.times = path.stat().st_atime_ns, path.stat().st_mtime_ns
        self.kept = len(self.content) // 2

    def lose(self):
        with self.path.open("r+b") as file:
            file.truncate(self.kept)

    def restore(self):
        with self.path.open("r+b") as file:
            file.seek(self.kept)
            file.write(self.content[self.kept :])
        # As restoring a backup does: a file with another time is another file.
        os.utime(self.path, ns=self.times)


@pytest.fixture
def disk(tmp_path):
    return Disk(tmp_path / "model.safetensors")


@pytest.fixture
def reference(disk):
    model = build()
    model.load_state_dict(load_file(disk.path), assign=True)
    return model.requires_grad_(False)


@pytest.fixture
def model(disk):
    model = ws.stream(build(), disk.path, LEAST)
    yield model
    ws.close(model)


def x():
    return torch.randn(3, WIDTH)


def assert_names_the_weight(error, disk):
    """Tensor, file and offset, and the offset is where the file holds that tensor or its chunk."""
    message = str(error)
    assert str(disk.path) in message
    name = re.search(r"\d+\.(weight|bias)", message)
    offset = re.search(r"offset (\d+)", message)
    assert name and offset, message
    length = struct.unpack("<Q", disk.content[:8])[0]
    begin, end = json.loads(disk.content[8 : 8 + length])[name[0]]["data_offsets"]
    assert 8 + length + begin - CHUNK < int(offset[1]) < 8 + length + end, message


def test_a_read_error_in_a_pass_is_raised_and_the_next_pass_works(model, reference, disk):
    given = x()
    expected = reference(given)
    assert torch.equal(model(given), expected)
    for _ in range(2):
        disk.lose()
        for _ in range(2):
            with pytest.raises(ws.ReadError) as caught:
                model(given)
            assert_names_the_weight(caught.value, disk)
        disk.restore()
        for _ in range(2):
            assert torch.equal(model(given), expected)
    assert ws.stats(model).errors > 0 and ws.stats(model).retries > 0


def test_a_read_error_in_the_first_pass(reference, disk):
    model = ws.stream(build(), disk.path, LEAST)
    disk.lose()
    given = x()
    with pytest.raises(ws.ReadError):
        model(given)
    disk.restore()
    assert torch.equal(model(given), reference(given))


def test_every_thread_learns_of_a_read_error(model, reference, disk):
    given = x()
    expected = reference(given)
    model(given)
    disk.lose()

    def caught():
        with pytest.raises(ws.ReadError):
            model(given)
        return True

    assert run_together([caught] * 4) == [True] * 4
    disk.restore()
    assert all(torch.equal(one, expected) for one in run_together([lambda: model(given)] * 4))


def test_passes_while_the_file_comes_and_goes_are_right_or_raise(model, reference, disk):
    given = x()
    expected = reference(given)
    outcomes = []

    def passes():
        while len(outcomes) < 400 and not {True, False} <= set(outcomes[-60:]):
            try:
                assert torch.equal(model(given), expected)
                outcomes.append(True)
            except ws.ReadError:
                outcomes.append(False)

    def comes_and_goes():
        for _ in range(4):
            disk.lose()
            torch.randn(2**21).sum()
            disk.restore()
            torch.randn(2**21).sum()

    run_together([passes, passes, comes_and_goes])
    disk.restore()
    with contextlib.suppress(ws.ReadError):  # a failure after the last pass may be told here
        model(given)
    assert torch.equal(model(given), expected)


def test_an_unreadable_weight_outside_any_block_is_told_on_the_spot(model, reference, disk):
    last = 9  # in the order of the file, which is that of the names
    disk.lose()
    with pytest.raises(ws.ReadError):
        model[last].weight.detach().clone()
    disk.restore()
    given = x()
    assert torch.equal(model(given), reference(given))
    assert torch.equal(model[last].weight, reference[last].weight)


def test_in_another_thread_it_is_nan_and_told_at_the_next_pass(model, reference, disk):
    def use():
        disk.lose()
        assert model[9].weight.detach().clone().isnan().any()
        disk.restore()
        with pytest.raises(ws.ReadError):
            model(x())

    run_together([use])
    given = x()
    with contextlib.suppress(ws.ReadError):  # told here too where a worker of the operator used the weight
        model(given)
    assert torch.equal(model(given), reference(given))


def test_a_state_dict_of_an_unreadable_model_raises(model, disk):
    model(x())
    disk.lose()
    with pytest.raises(ws.ReadError):
        model.state_dict()
    disk.restore()
    stored = load_file(disk.path)
    assert all(torch.equal(value, stored[name]) for name, value in model.state_dict().items())


def test_a_state_dict_of_a_closed_model_raises(model):
    ws.close(model)
    with pytest.raises(ws.ClosedError):
        model.state_dict()


def safetensors(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(start, end, shape, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


GOOD = {"weight": entry(0, 64, [4, 4]), "bias": entry(64, 80, [4])}
DATA = bytes(80)

DAMAGED = {
    "empty": (b"", "0 bytes|empty|8 bytes"),
    "no header": (struct.pack("<Q", 1000) + b"{}", "header"),
    "a header longer than memory": (struct.pack("<Q", 2**63) + b"{}", "header"),
    "no JSON": (safetensors(b"not json at all"), "header"),
    "truncated": (safetensors(GOOD, DATA[:70]), "truncated|bytes"),
    "beyond the end": (safetensors(GOOD | {"bias": entry(64, 96, [8])}, DATA), "bias|bytes"),
    "overlapping": (safetensors(GOOD | {"bias": entry(32, 48, [4])}, DATA[:64]), "bias|weight"),
    "backwards": (safetensors(GOOD | {"bias": entry(80, 64, [4])}, DATA), "bias"),
    "a shape that doesn't fit": (safetensors(GOOD | {"bias": entry(64, 80, [5])}, DATA), "bias"),
    "a shape that overflows": (safetensors(GOOD | {"bias": entry(64, 80, [2**62, 2**62])}, DATA), "bias"),
    "an unknown dtype": (safetensors(GOOD | {"bias": entry(64, 80, [4], "F99")}, DATA), "F99"),
    "another dtype": (safetensors(GOOD | {"bias": entry(64, 80, [8], "F16")}, DATA), "bias"),
    "a wrong dtype": (safetensors(GOOD | {"bias": entry(64, 80, [4], "I32")}, DATA), "bias"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_checkpoint_is_refused_at_open(tmp_path, kind):
    content, words = DAMAGED[kind]
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)
    module = nn.Linear(4, 4)
    before = module.weight.detach().clone()
    with pytest.raises(ws.CheckpointError, match=words):
        ws.stream(module, file)
    assert torch.equal(module.weight, before) and module.weight.requires_grad
    module(torch.ones(1, 4))


def test_a_sound_checkpoint_of_the_same_making_is_accepted(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(safetensors(GOOD, DATA))
    module = ws.stream(nn.Linear(4, 4), tmp_path / "model.safetensors")
    assert torch.equal(module(torch.ones(1, 4)), torch.zeros(1, 4))


@pytest.mark.parametrize("missing", ["the file", "a shard"])
def test_what_is_not_there_is_named(tmp_path, missing):
    path = tmp_path / "model.safetensors.index.json"
    if missing == "a shard":
        path.write_text(json.dumps({"weight_map": dict.fromkeys(["weight", "bias"], "gone.safetensors")}))
    with pytest.raises(ws.CheckpointError, match="gone.safetensors" if missing == "a shard" else path.name):
        ws.stream(nn.Linear(4, 4), path)
