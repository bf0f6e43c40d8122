"""Converted weights on disk are of the very files, within their bound, and nobody's are taken away."""

import fcntl
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
import torch
import weightstream as ws
from safetensors.torch import save_file
from weightstream import _native, side_files
from weightstream.convert import convert
from weightstream.opened import Opened

ELEMENTS = 50_000


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def checkpoint(tmp_path, name="a"):
    """A checkpoint of this name, made where it is missing."""
    path = tmp_path / f"{name}.safetensors"
    if not path.exists():
        save_file({"weight": torch.arange(float(ELEMENTS))}, path)
    return path


def opened(tmp_path, name):
    """The weight of such a checkpoint, cast, and what it lies in."""
    files = Opened()
    return files.lazies(checkpoint(tmp_path, name))["weight"].to(torch.bfloat16).source, files.contents


def converted(tmp_path, name):
    """A side file of about 100 kB for a checkpoint of this name, held."""
    source, contents = opened(tmp_path, name)
    return closing(convert({"weight": source}, contents)[0])


def weight(tmp_path, name):
    """The converted weight, read from its side file; and the side file's folder."""
    source, contents = opened(tmp_path, name)
    side, index = convert({"weight": source}, contents)
    with closing(side):
        return index.tensors["weight"].read(index.contents), side.path


def replace(path, content):
    """Another file of other content in place of this one, as alike from outside as can be."""
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    other = path.with_name("other")
    other.write_bytes(content)
    os.utime(other, ns=times)
    other.rename(path)


def overwrite(path, content):
    """The same file with other content, and the times that it had."""
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    path.write_bytes(content)
    os.utime(path, ns=times)


@pytest.mark.parametrize("change", [replace, overwrite])
def test_another_checkpoint_of_the_same_size_and_times_is_converted_anew(tmp_path, change):
    first, _ = weight(tmp_path, "a")
    path = tmp_path / "a.safetensors"
    save_file({"weight": -torch.arange(float(ELEMENTS))}, tmp_path / "new")
    change(path, (tmp_path / "new").read_bytes())
    second, _ = weight(tmp_path, "a")
    assert torch.equal(first, torch.arange(float(ELEMENTS)).to(torch.bfloat16))
    assert torch.equal(second, -first)


def flipped(content):
    return content[:70_000] + bytes([content[70_000] ^ 1]) + content[70_001:]


@pytest.mark.parametrize("change", [replace, overwrite])
@pytest.mark.parametrize(
    "damaged", [lambda content: bytes(len(content)), flipped, lambda content: content[:5000]]
)
def test_a_side_file_that_is_not_as_it_was_written_is_made_anew(tmp_path, damaged, change):
    first, side = weight(tmp_path, "a")
    data = side / side_files.DATA
    change(data, damaged(data.read_bytes()))
    again, place = weight(tmp_path, "a")
    assert torch.equal(again, first) and place == side
    assert _native.count_damages(str(side)) == 0
    assert names() == [side.name]


def test_a_side_file_without_its_manifest_or_data_is_made_anew(tmp_path):
    first, side = weight(tmp_path, "a")
    for name in ("manifest.weightstream", side_files.DATA):
        (side / name).write_bytes(bytes(100))
        assert torch.equal(weight(tmp_path, "a")[0], first)
        (side / name).unlink()
        assert torch.equal(weight(tmp_path, "a")[0], first)


def test_one_that_was_found_right_and_not_touched_is_not_read_again(tmp_path, monkeypatch):
    _, side = weight(tmp_path, "a")
    read = []
    count = _native.count_damages
    monkeypatch.setattr(_native, "count_damages", lambda path: read.append(path) or count(path))
    weight(tmp_path, "a")
    assert read == []
    os.utime(side / side_files.DATA)
    weight(tmp_path, "a")
    weight(tmp_path, "a")
    assert read == [str(side)]


def test_bytes_that_go_wrong_while_they_are_used_are_an_error(tmp_path):
    source, contents = opened(tmp_path, "a")
    side, index = convert({"weight": source}, contents)
    with closing(side):
        data = side.path / side_files.DATA
        overwrite(data, bytes(data.stat().st_size))
        with pytest.raises(ws.errors.ReadError, match="checksum"):
            index.tensors["weight"].read(index.contents)


def test_a_source_that_is_replaced_while_it_is_converted_is_an_error(tmp_path, monkeypatch):
    source, contents = opened(tmp_path, "a")
    seal = _native.seal

    def sealed(folder, rows):
        path = tmp_path / "a.safetensors"
        replace(path, path.read_bytes())
        seal(folder, rows)

    monkeypatch.setattr(_native, "seal", sealed)
    with pytest.raises(ws.errors.CheckpointError, match="expected files that stay as they are"):
        convert({"weight": source}, contents)
    assert names() == []


def test_constants_that_look_alike_make_different_weights(tmp_path):
    files = Opened()
    stored = files.lazies(checkpoint(tmp_path))["weight"]
    for place in (0, ELEMENTS // 2):
        constant = torch.zeros(ELEMENTS)
        constant[place] = 1
        side, made = convert({"weight": (stored + constant).source}, files.contents)
        with closing(side):
            value = made.tensors["weight"].read(made.contents)
        assert torch.equal(value, torch.arange(float(ELEMENTS)) + constant)


def test_several_that_convert_at_once_all_get_the_right_weights(tmp_path):
    expected, side = weight(tmp_path, "a")
    rounds = int(os.environ.get("WEIGHTSTREAM_RACES", "5"))
    with ThreadPoolExecutor(4) as racers:
        for number in range(rounds):
            data = side / side_files.DATA
            if number % 2:
                overwrite(data, bytes(data.stat().st_size))  # all find it damaged
            else:
                side_files.make_room(2**60)  # all find none
            for value, _ in racers.map(lambda _: weight(tmp_path, "a"), range(4)):
                assert torch.equal(value, expected)
            assert names() == [side.name]


def names():
    return sorted(path.name for path in side_files.folder().iterdir())


def test_the_least_recently_used_leave_first(tmp_path, monkeypatch):
    monkeypatch.setenv(side_files.BOUND, "330kB")
    files = {}
    for age, name in enumerate("abc"):
        with converted(tmp_path, name) as file:
            files[name] = file.path.name
        os.utime(file.path, (age, age))
    with converted(tmp_path, "a"):
        pass  # used again, so b is the oldest now
    with converted(tmp_path, "d") as file:
        files["d"] = file.path.name
    assert names() == sorted(files[name] for name in "acd")


def test_what_is_in_use_stays_whatever_the_bound(tmp_path, monkeypatch):
    monkeypatch.setenv(side_files.BOUND, "1kB")
    with converted(tmp_path, "a") as first:
        code = (
            "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_SH); "
            "print(1, flush=True); input()"
        )
        with converted(tmp_path, "b") as second:
            other = subprocess.Popen(
                [sys.executable, "-c", code, second.path / side_files.DATA],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            other.stdout.readline()
        side_files.make_room(0)
        assert len(names()) == 2
        other.communicate(b"\n")
        side_files.make_room(0)
        assert names() == [first.path.name]
    side_files.make_room(0)
    assert names() == []


def test_a_model_holds_its_side_file_for_as_long_as_it_lives(tmp_path, monkeypatch):
    monkeypatch.setenv(side_files.BOUND, "1kB")
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2
    )
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path / "model")
    model = ws.load(tmp_path / "model", dtype=torch.bfloat16)
    side_files.make_room(0)
    assert len(names()) == 1
    with torch.no_grad():
        model(torch.zeros(1, 3, dtype=torch.long))
    del model
    side_files.make_room(0)
    assert names() == []


def test_what_a_killed_writer_left_goes_and_a_living_ones_stays(tmp_path):
    side_files.folder().mkdir(parents=True)
    paths = [side_files.folder() / f"{name}.partial" for name in ("empty", "old", "new", "held")]
    for path in paths:
        path.mkdir()
        if path.stem != "empty":
            (path / side_files.DATA).write_bytes(b"1")
        if path.stem != "new":
            os.utime(path, (0, 0))
    with (paths[-1] / side_files.DATA).open() as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        side_files.make_room(0)
    assert names() == ["held.partial", "new.partial"]


def test_a_bound_that_is_no_size_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv(side_files.BOUND, "much")
    with pytest.raises(ValueError, match="WEIGHTSTREAM_CACHE_BYTES: expected bytes or a size"):
        converted(tmp_path, "a")
