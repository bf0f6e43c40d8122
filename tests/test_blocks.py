import pytest
import torch
import weightstream as ws
from safetensors.torch import save_file
from torch import nn
from weightstream.blocks import find_blocks
from weightstream.slices import slice_ranges


class Layer(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(size, size) for _ in range(3))

    def forward(self, x):
        for expert in self.experts:
            x = expert(x)
        return x


class Model(nn.Module):
    def __init__(self, size=8, rows=10):
        super().__init__()
        self.embedding = nn.Embedding(rows, size)
        self.layers = nn.ModuleList(Layer(size) for _ in range(3))
        self.head = nn.Linear(size, 4)

    def forward(self, ids):
        x = self.embedding(ids)
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


class Recorder:
    """The native stream, with what it is told written down."""

    def __init__(self, stream):
        self.stream, self.calls = stream, []

    def __getattr__(self, name):
        value = getattr(self.stream, name)
        if name not in ("enter", "leave", "fetch", "announce"):
            return value

        def call(argument):
            self.calls.append((name, argument))
            return value(argument)

        return call


def streamed(tmp_path, module):
    save_file(module.state_dict(), tmp_path / "model.safetensors")
    ws.stream(module, tmp_path / "model.safetensors", "16MiB")
    recorder = module._weightstream.stream = Recorder(module._weightstream.stream)
    return module, recorder


def test_repeated_children_are_blocks_and_nothing_inside_them():
    assert list(find_blocks(Model())) == ["layers.0", "layers.1", "layers.2"]


def test_large_leaves_outside_are_blocks():
    assert "embedding" in find_blocks(Model(rows=2**17))


def test_children_without_weights_are_no_blocks():
    stack = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2), nn.ReLU())
    assert list(find_blocks(stack)) == ["0", "2"]


def test_lists_of_lists_are_searched():
    nested = nn.ModuleList([nn.ModuleList([Layer(2), Layer(2)]), nn.ModuleList([Layer(2), Layer(2)])])
    assert list(find_blocks(nested)) == ["0.0", "0.1", "1.0", "1.1"]


def test_a_pass_is_reported_in_order(tmp_path):
    model, recorder = streamed(tmp_path, Model())
    model(torch.tensor([1, 2]))
    blocks = [call for call in recorder.calls if call[0] != "fetch"]
    inner = [(kind, number) for number in (1, 2, 3) for kind in ("enter", "leave")]
    assert blocks == [("enter", 0), *inner, ("leave", 0)]


def test_blocks_are_left_when_forward_raises(tmp_path):
    model, recorder = streamed(tmp_path, Model())
    model.layers[1].experts[0].register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model(torch.tensor([1, 2]))
    assert recorder.calls[-2:] == [("leave", 2), ("leave", 0)]


def test_grad_and_inference_mode_are_untouched(tmp_path):
    model, _ = streamed(tmp_path, Model())
    x = torch.randn(2, 8, requires_grad=True)
    model.layers[0](x).sum().backward()
    assert x.grad is not None
    with torch.inference_mode():
        assert model(torch.tensor([1])).is_inference()


def test_an_embedding_fetches_the_rows_it_looks_up(tmp_path):
    model, recorder = streamed(tmp_path, Model())
    model(torch.tensor([[7, 2], [3, 7]]))
    base = model.embedding.weight.data_ptr()
    assert ("fetch", [(base + 2 * 32, 64), (base + 7 * 32, 32)]) in recorder.calls


def test_an_embedding_that_is_not_streamed_fetches_nothing(tmp_path):
    module = nn.Sequential(nn.Embedding(10, 8), nn.Linear(8, 8))
    save_file(module[1].state_dict(), tmp_path / "m.safetensors")
    keys = {"weight": "1.weight", "bias": "1.bias"}
    ws.stream(module, tmp_path / "m.safetensors", strict=False, keys=keys)
    recorder = module._weightstream.stream = Recorder(module._weightstream.stream)
    module(torch.tensor([1, 2]))
    assert [call for call in recorder.calls if call[0] == "fetch"] == []


class Experts(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.Parameter(torch.randn(6, 8, 4))
        self.down = nn.Parameter(torch.randn(6, 4, 8))

    def forward(self, x, *, chosen):
        return sum(x @ self.up[expert] @ self.down[expert] for expert in chosen)


def test_the_experts_that_a_router_chose_are_announced(tmp_path):
    model, recorder = streamed(tmp_path, Experts())
    model(torch.randn(2, 8), chosen=torch.tensor([4, 1, 2]))
    up, down = model.up.data_ptr(), model.down.data_ptr()
    size = 8 * 4 * 4
    announced = [
        (up + size, 2 * size),
        (up + 4 * size, size),
        (down + size, 2 * size),
        (down + 4 * size, size),
    ]
    assert ("announce", announced) in recorder.calls


def test_without_numbers_of_experts_nothing_is_announced(tmp_path):
    model, recorder = streamed(tmp_path, Experts())
    model(torch.randn(2, 8), chosen=[1, 2])
    assert [call for call in recorder.calls if call[0] == "announce"] == []


@pytest.mark.parametrize(
    "ids",
    [
        None,
        torch.tensor([0.5]),
        torch.empty(2, dtype=torch.long, device="meta"),
        torch.zeros(10**6, dtype=int),
    ],
)
def test_ids_that_cannot_be_seen_cheaply_fetch_nothing(ids):
    assert not slice_ranges(torch.zeros(4, 2), ids)


def test_ids_out_of_range_are_left_to_the_embedding(tmp_path):
    model, _ = streamed(tmp_path, Model())
    with pytest.raises(IndexError):
        model(torch.tensor([99]))


def test_vmap_over_ids(tmp_path):
    model, _ = streamed(tmp_path, Model())
    ids = torch.tensor([[1, 2], [3, 4]])
    assert torch.equal(torch.vmap(model.embedding)(ids), model.embedding(ids))


@pytest.mark.parametrize("what", ["block", "model"])
def test_compiled_without_graph_breaks(tmp_path, what):
    model, _ = streamed(tmp_path, Model())
    target, given = (model, torch.tensor([1, 2])) if what == "model" else (model.layers[0], torch.randn(2, 8))
    expected = target(given)
    compiled = torch.compile(target, fullgraph=True, backend="eager")
    assert torch.equal(compiled(given), expected)


def test_exported(tmp_path):
    model, _ = streamed(tmp_path, Model())
    ids = torch.tensor([1, 2])
    program = torch.export.export(model, (ids,))
    assert torch.equal(program.module()(ids), model(ids))
