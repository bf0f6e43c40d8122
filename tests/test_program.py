"""Exported programs, run without torch, give what torch gives; streamed the same bits as resident."""

import pytest
import torch
import weightstream as ws
from torch.export import Dim, export, save

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
