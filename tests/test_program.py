"""Exported programs, run without torch, give what torch gives; streamed the same bits as resident."""

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
import weightstream as ws
from support.threads import run_together
from torch.export import Dim, export, save
from torch.export.pt2_archive._package import package_pt2

pytestmark = pytest.mark.current


class Encoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(1000, 512)
        self.layers = torch.nn.ModuleList(
            torch.nn.TransformerEncoderLayer(512, 8, 1024, batch_first=True, activation="gelu")
            for _ in range(6)
        )

    def forward(self, ids):
        hidden = self.embedding(ids)
        for layer in self.layers:
            hidden = layer(hidden)
        return {"hidden": hidden, "pooled": [hidden.mean(1), hidden.shape[1]]}


class Counter(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(3))

    def forward(self, x):
        self.seen.add_(x)
        return self.seen * 2


class Cache(torch.nn.Module):
    """Writes each input to the next row of a buffer, in place and through a view, and counts them."""

    def __init__(self):
        super().__init__()
        self.register_buffer("rows", torch.zeros(8, 4))
        self.register_buffer("count", torch.zeros(1, dtype=torch.int64))

    def forward(self, row):
        self.rows.index_copy_(0, self.count, row)
        self.rows[:, 0].mul_(2)
        self.count.add_(1)
        return self.rows.sum(0), self.rows


class Choice(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)

    def forward(self, x):
        return torch.cond(
            x.sum() > 0, lambda x: torch.relu(self.first(x)), lambda x: self.second(x) - 1, (x,)
        )


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    torch.manual_seed(0)
    model = Encoder().eval()
    ids = torch.randint(0, 1000, (2, 16))
    shapes = {"ids": {0: Dim("batch", min=1, max=8), 1: Dim("length", min=2, max=64)}}
    path = tmp_path_factory.mktemp("program") / "encoder.pt2"
    save(export(model, (ids,), dynamic_shapes=shapes, strict=False), path)
    return model, path


def test_resident_streamed_and_torch_agree(encoder):
    model, path = encoder
    size = sum(p.numel() * 4 for p in model.parameters())
    resident, streamed = ws.Program(path), ws.Program(path, size // 4)
    for shape in [(2, 16), (1, 5), (4, 33)]:
        ids = torch.randint(0, 1000, shape)
        with torch.no_grad():
            expected = model(ids)
        first, second = resident(ids), streamed(ids)
        assert second["pooled"][1] == shape[1]
        for got, want in [(first["hidden"], expected["hidden"]), (first["pooled"][0], expected["pooled"][0])]:
            assert (got - want).norm() / want.norm() < 1e-4
        assert torch.equal(first["hidden"], second["hidden"])
    assert streamed.stats["budget"] == size // 4
    assert streamed.stats["bytes_read"] > size
    assert streamed.activation_peak > 0


def test_what_a_program_does_not_take_is_told(encoder):
    _, path = encoder
    program = ws.Program(path)
    with pytest.raises(ws.ProgramError, match="1 to 8 entries in dimension 0"):
        program(torch.zeros(9, 4, dtype=torch.int64))
    with pytest.raises(ws.ProgramError, match="a tensor of I64"):
        program(torch.zeros(2, 4))
    with pytest.raises(TypeError, match="structure"):
        program()


def test_buffers_that_are_written_are_kept_until_reset(tmp_path):
    path = tmp_path / "counter.pt2"
    save(export(Counter(), (torch.ones(3),), strict=False), path)
    program = ws.Program(path)
    assert program(torch.ones(3)).tolist() == [2.0] * 3
    assert program(torch.ones(3)).tolist() == [4.0] * 3
    program.reset()
    assert program(torch.ones(3)).tolist() == [2.0] * 3


@pytest.mark.parametrize("decomposed", [False, True])
def test_buffers_are_written_as_torch_writes_them(tmp_path, decomposed):
    path = tmp_path / "cache.pt2"
    exported = export(Cache(), (torch.ones(1, 4),), strict=False)
    save(exported.run_decompositions() if decomposed else exported, path)
    model, program = Cache(), ws.Program(path)
    for _ in range(3):
        row = torch.randn(1, 4)
        for got, want in zip(program(row), model(row), strict=True):
            assert torch.equal(got, want)


def test_a_condition_is_decided_at_each_run(tmp_path):
    path = tmp_path / "choice.pt2"
    model = Choice().eval()
    save(export(model, (torch.ones(2, 4),), strict=False), path)
    program = ws.Program(path)
    for x in (torch.ones(2, 4), -torch.ones(2, 4), torch.ones(2, 4)):
        with torch.no_grad():
            assert torch.allclose(program(x), model(x), atol=1e-6)


def test_threads_share_a_program_and_programs_a_process(encoder):
    model, path = encoder
    size = sum(p.numel() * 4 for p in model.parameters())
    shared, other = ws.Program(path, size // 2), ws.Program(path, size // 4)
    inputs = [torch.randint(0, 1000, (2, length)) for length in (5, 9, 16, 23)]
    expected = [ws.Program(path)(ids)["hidden"] for ids in inputs]

    def runs(program, number):
        for _ in range(2):
            assert torch.equal(program(inputs[number])["hidden"], expected[number])

    run_together([partial(runs, program, number) for program in (shared, other) for number in range(4)])


def test_threads_take_turns_with_what_a_program_keeps(tmp_path):
    path = tmp_path / "counter.pt2"
    save(export(Counter(), (torch.ones(3),), strict=False), path)
    program = ws.Program(path)
    seen = run_together([lambda: [program(torch.ones(3))[0].item() for _ in range(25)]] * 4)
    assert sorted(number for numbers in seen for number in numbers) == [2.0 * n for n in range(1, 101)]


@pytest.mark.parametrize("source", ["file", "packed"])
def test_several_programs_of_one_file(tmp_path, source):
    torch.manual_seed(0)
    models = {name: torch.nn.Sequential(torch.nn.Linear(4, 4)) for name in ("prefill", "decode")}
    path = tmp_path / "both.pt2"
    x = torch.randn(2, 4)
    programs = {name: export(model, (x,), strict=False) for name, model in models.items()}
    package_pt2(path, exported_programs=programs)
    if source == "packed":
        command = [str(Path(sys.executable).with_name("weightstream")), "pack", path, tmp_path / "packed"]
        subprocess.run(command, check=True)
        path = tmp_path / "packed"
    for name, model in models.items():
        with torch.no_grad():
            assert torch.allclose(ws.Program(path, model=name)(x), model(x), atol=1e-6)
    with pytest.raises(ws.ProgramError, match=r"prefill"):
        ws.Program(path)


def test_operators_that_are_missing_are_told_all_at_once(tmp_path):
    class Unusual(torch.nn.Module):
        def forward(self, x):
            return torch.linalg.svdvals(x), torch.special.i0e(x)

    path = tmp_path / "unusual.pt2"
    save(export(Unusual(), (torch.ones(3, 3),), strict=False), path)
    with pytest.raises(ws.ProgramError, match=r"2 operators(.|\n)*special_i0e(.|\n)*svdvals|svdvals"):
        ws.Program(path)


def test_a_damaged_archive_is_refused(tmp_path, encoder):
    _, path = encoder
    damaged = tmp_path / "damaged.pt2"
    damaged.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ws.WeightstreamError):
        ws.Program(damaged)
