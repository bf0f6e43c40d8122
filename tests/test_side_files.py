"""Converted weights on disk stay within their bound, and nobody's are taken away."""

import os
import subprocess
import sys

import pytest
import torch
import weightstream as ws
from safetensors.torch import save_file
from weightstream import side_files
from weightstream.convert import convert
from weightstream.opened import Opened

ELEMENTS = 50_000


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def converted(tmp_path, name):
    """A side file of about 100 kB for a checkpoint of this name, held."""
    path = tmp_path / f"{name}.safetensors"
    if not path.exists():
        save_file({"weight": torch.arange(float(ELEMENTS))}, path)
    opened = Opened()
    cast = opened.lazies(path)["weight"].to(torch.bfloat16)
    return convert({"weight": cast.source}, opened.contents)[0]


def names():
    return sorted(path.name for path in side_files.folder().iterdir())


def test_the_least_recently_used_leave_first(tmp_path, monkeypatch):
    monkeypatch.setenv(side_files.BOUND, "330kB")
    files = {}
    for age, name in enumerate("abc"):
        with converted(tmp_path, name) as file:
            files[name] = os.path.basename(file.name)
        os.utime(file.name, (age, age))
    converted(tmp_path, "a").close()  # used again, so b is the oldest now
    with converted(tmp_path, "d") as file:
        files["d"] = os.path.basename(file.name)
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
                [sys.executable, "-c", code, second.name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            other.stdout.readline()
        side_files.make_room(0)
        assert len(names()) == 2
        other.communicate(b"\n")
        side_files.make_room(0)
        assert names() == [os.path.basename(first.name)]
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
    old, new = (side_files.folder() / f"{name}.partial" for name in ("old", "new"))
    for path in (old, new):
        path.write_bytes(b"1")
    os.utime(old, (0, 0))
    side_files.make_room(0)
    assert names() == ["new.partial"]


def test_a_bound_that_is_no_size_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv(side_files.BOUND, "much")
    with pytest.raises(ValueError, match="WEIGHTSTREAM_CACHE_BYTES: expected bytes or a size"):
        converted(tmp_path, "a")
