"""Streamed weights lie in memory as loaded ones do, and what looks at their memory looks at them."""

import contextlib

import pytest
import torch
import weightstream as ws
from safetensors.torch import load_file, save_file
from torch import nn
from torch.testing._internal.two_tensor import TwoTensor
from weightstream.attributes import read_lazies
from weightstream.opened import Opened


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def save(module, path):
    save_file({name: torch.randn(tensor.shape) for name, tensor in module.state_dict().items()}, path)


def loaded(module, path):
    """`module` with the checkpoint copied into it, as load_state_dict does."""
    module.load_state_dict(load_file(path))
    return module


class Transposed(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(24, 16).t())
        self.gaps = nn.Parameter(torch.zeros(16, 48)[:, ::2])
        self.turned = nn.Parameter(torch.zeros(4, 3, 5, 1).permute(2, 0, 3, 1))

    def forward(self, x):
        return x @ self.weight + x @ self.gaps + self.turned.sum()


def channels_last():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, (1, 3)), nn.Conv2d(8, 1, 3)).to(
        memory_format=torch.channels_last
    )


@pytest.mark.parametrize(
    ("make", "x"),
    [(channels_last, torch.randn(2, 3, 12, 12)), (Transposed, torch.randn(5, 16))],
    ids=["channels last", "transposed"],
)
@pytest.mark.parametrize("real", [True, False], ids=["real", "empty"])
def test_strides_are_kept(tmp_path, make, x, real):
    save(make(), tmp_path / "m.safetensors")
    reference = loaded(make(), tmp_path / "m.safetensors")
    if real:
        module = make()
    else:
        with ws.empty():
            module = make()
    ws.stream(module, tmp_path / "m.safetensors")
    for (name, ours), theirs in zip(module.named_parameters(), reference.parameters(), strict=True):
        if name != "gaps":  # what lies in between isn't there
            assert ours.stride() == theirs.stride(), name
        assert torch.equal(ours, theirs), name
    with torch.no_grad():
        assert torch.equal(module(x), reference(x))
    state = module.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in reference.state_dict().items())


class Looking(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.zeros(10, 64))
        self.norm = nn.BatchNorm1d(64)
        self.first = self.table.data[0]
        self.rows = {"pairs": [self.table.detach()[2:4], (self.table.detach().t()[5], "text")]}
        self.register_buffer("last", self.table.detach()[9], persistent=False)
        self.mean = self.norm.running_mean[:3]

    def forward(self):
        pairs, (column, _) = self.rows["pairs"]
        return [self.first, pairs, column, self.last, self.mean]


@pytest.mark.parametrize("real", [True, False], ids=["real", "empty"])
def test_views_that_a_constructor_stored_look_at_the_streamed_weight(tmp_path, real):
    save(Looking(), tmp_path / "m.safetensors")
    reference = loaded(Looking(), tmp_path / "m.safetensors").eval()
    with contextlib.nullcontext() if real else ws.empty():
        module = Looking().eval()
    ws.stream(module, tmp_path / "m.safetensors")
    for ours, theirs in zip(module(), reference(), strict=True):
        assert torch.equal(ours, theirs) and theirs.any() and ours.stride() == theirs.stride()
    assert module.first.data_ptr() == module.table.data_ptr()


def test_a_view_that_can_not_follow_is_named_and_nothing_is_changed(tmp_path):
    module = nn.Linear(4, 4)
    whole = torch.zeros(32)
    module.weight = nn.Parameter(whole[:16].view(4, 4))
    module.whole = whole
    save(module, tmp_path / "m.safetensors")
    with pytest.raises(ws.errors.WeightstreamError, match="whole shares memory with weight"):
        ws.stream(module, tmp_path / "m.safetensors")
    assert not module.weight.any() and module.weight.data_ptr() == whole.data_ptr()


def test_what_loading_leaves_lazy_beside_parameters_is_read(tmp_path):
    save_file({"a": torch.arange(6.0)}, tmp_path / "t.safetensors")
    lazy = Opened().lazies(tmp_path / "t.safetensors")["a"]
    module = nn.Module()
    module.kept = {"half": [lazy[:3], (lazy * 2,)]}
    module.register_buffer("table", lazy + 1, persistent=False)
    read_lazies(module)
    assert torch.equal(module.kept["half"][0], torch.arange(3.0))
    assert torch.equal(module.kept["half"][1][0], torch.arange(6.0) * 2)
    assert type(module.table) is torch.Tensor and torch.equal(module.table, torch.arange(6.0) + 1)


def test_a_lazy_tensor_inside_another_class_is_named(tmp_path):
    save_file({"a": torch.arange(6.0)}, tmp_path / "t.safetensors")
    lazy = Opened().lazies(tmp_path / "t.safetensors")["a"]
    module = nn.Module()
    module.kept = TwoTensor(lazy, lazy + 1)
    with pytest.raises(ws.errors.WeightstreamError, match="kept is a TwoTensor"):
        read_lazies(module)
