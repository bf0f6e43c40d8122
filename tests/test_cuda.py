"""Streaming to a device, simulated: its memory is host memory that is gone where nothing is mapped.

A touch of a weight that is not there would end the test run, as it ends a GPU's context.
"""

import copy
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import weightstream as ws
from safetensors.torch import save_file
from torch import nn
from weightstream import cuda
from weightstream.cuda import guard

MIB = 2**20


class Layer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)
        self.register_buffer("scale", torch.full((1,), 0.5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.scale * self.down(F.gelu(self.up(self.norm(x))))


class Net(nn.Module):
    def __init__(self, width: int = 128, depth: int = 6) -> None:
        super().__init__()
        self.embedding = nn.Embedding(3000, width)
        self.layers = nn.ModuleList(Layer(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 3000, bias=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embedding(ids)
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))


class Odd(Net):
    """Uses weights where no block's forward is."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(512, 4, batch_first=True)  # uses its out_proj by itself
        self.loose = nn.ParameterList([torch.randn(128, 128) for _ in range(3)])
        self.head.weight = self.embedding.weight
        self.sneaky = False

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embedding(ids)
        x = x + F.linear(F.linear(x, self.layers[4].up.weight), self.layers[1].up.weight.T)
        for layer in self.layers:
            x = layer(x) @ self.loose[0].T
        wide = x.repeat(1, 1, 4)
        x = x + self.attention(wide, wide, wide)[0][..., :128]
        if self.sneaky:
            x = x + self.layers[5].down.bias + self.layers[5].down.weight[0, :128]
        return self.head(self.norm(x))


@pytest.fixture(params=["storage", "swap"])
def gate(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of guarding; older versions of torch have only one."""
    if request.param == "swap":
        monkeypatch.setattr(guard, "_CLEAR", "what no version of torch has")
    elif not hasattr(torch._C, guard._CLEAR):
        pytest.skip("this torch can't close a storage for a while")
    return str(request.param)


@pytest.fixture
def device() -> Iterator[cuda.Device]:
    simulated = cuda.simulate(256 * MIB)
    yield simulated
    assert simulated.native.broken_rules() == []


IDS = torch.arange(20).view(2, 10) * 137 % 3000


def streamed(
    net: nn.Module, folder: Path, device: cuda.Device, memory: Any = "2.2MiB", **options: Any
) -> nn.Module:
    path = folder / "model.safetensors"
    tensors = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    save_file(tensors, path)
    with ws.empty():
        empty = type(net)().eval()
    return ws.stream(empty, path, memory, device=device, **{"host_memory": "64MiB", **options})


def made(kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return kind().eval()


def test_passes_equal_the_loaded_model(gate: str, tmp_path: Path, device: cuda.Device) -> None:
    net = made(Net)
    model = streamed(net, tmp_path, device)
    for mode in (torch.no_grad, torch.inference_mode, torch.enable_grad):
        with mode():
            assert torch.equal(model(IDS), net(IDS))
    stats = model._weightstream.stream.stats()
    assert stats["held"] <= 2.2 * MIB and stats["pass_bytes"] == 0  # all the rest is in host memory
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model(IDS), net(IDS))


def test_a_small_host_reads_from_disk_every_pass(tmp_path: Path, device: cuda.Device) -> None:
    net = made(Net)
    model = streamed(net, tmp_path, device, host_memory="2MiB")
    with torch.no_grad():
        for _ in range(4):
            assert torch.equal(model(IDS), net(IDS))
    stats = model._weightstream.stream.stats()
    assert 0 < stats["pass_bytes"] < stats["model_bytes"] and stats["host_used"] <= 2 * MIB


def test_odd_uses_are_seen_in_the_first_pass(gate: str, tmp_path: Path, device: cuda.Device) -> None:
    net = made(Odd)
    model = streamed(net, tmp_path, device, "7.5MiB")
    with torch.no_grad():
        for _ in range(4):
            assert torch.equal(model(IDS), net(IDS))
        # One that was never seen raises before anything is computed, and the model goes on working.
        model.sneaky = net.sneaky = True
        with pytest.raises(RuntimeError, match=r"layers.5.down.bias is streamed and not on the device"):
            model(IDS)
        model.sneaky = False
        with pytest.raises(RuntimeError, match=r"layers.2.up.weight is streamed and not on the device"):
            model.layers[2].up.weight.sum()
        net.sneaky = False
        assert torch.equal(model(IDS), net(IDS))


def test_the_first_pass_may_be_in_inference_mode(gate: str, tmp_path: Path, device: cuda.Device) -> None:
    net = made(Odd)
    model = streamed(net, tmp_path, device, "7.5MiB")
    with torch.inference_mode():
        for _ in range(2):
            assert torch.equal(model(IDS), net(IDS))


def test_named_weights_are_resident_from_the_start(gate: str, tmp_path: Path, device: cuda.Device) -> None:
    net = made(Net)
    model = streamed(net, tmp_path, device, resident=["layers.2.up.weight"])
    assert torch.equal(model.layers[2].up.weight, net.layers[2].up.weight)
    with torch.no_grad():
        assert torch.equal(model(IDS), net(IDS))
    with pytest.raises(ValueError, match="no weight named nothing"):
        streamed(net, tmp_path, device, resident=["nothing"])


def test_weights_are_brought_for_a_while(gate: str, tmp_path: Path, device: cuda.Device) -> None:
    net = made(Net)
    model = streamed(net, tmp_path, device)
    with cuda.resident(model.layers[3]):
        assert torch.equal(model.layers[3].down.weight, net.layers[3].down.weight)
        with torch.no_grad():
            assert torch.equal(model(IDS), net(IDS))
        assert torch.equal(model.layers[3].down.weight, net.layers[3].down.weight)
    with pytest.raises(RuntimeError, match="not on the device"):
        model.layers[3].down.weight.sum()
    with pytest.raises(ws.BudgetError, match="least that works"), cuda.resident(model):
        pass


@pytest.mark.skipif(not hasattr(torch._C, guard._CLEAR), reason="only what refers to the weight is guarded")
def test_views_are_closed_with_their_weight(tmp_path: Path, device: cuda.Device) -> None:
    model = streamed(made(Net), tmp_path, device)
    with cuda.resident(model.layers[3]):
        view = model.layers[3].down.weight.detach().T
        view.sum()
    with pytest.raises(RuntimeError, match=r"layers.3.down.weight is streamed"):
        view.sum()


def test_gradients_flow_through(gate: str, tmp_path: Path, device: cuda.Device) -> None:
    net = made(Net).requires_grad_(False)
    model = streamed(net, tmp_path, device)
    results = []
    for one in (net, model):
        x = torch.linspace(-1, 1, 1280).view(1, 10, 128).requires_grad_()
        y = x
        for layer in one.layers:
            y = layer(y)
        one.head(one.norm(y)).square().sum().backward()
        results.append(x.grad)
    assert torch.equal(*results)
    with torch.no_grad():
        assert torch.equal(model(IDS), net(IDS))


def test_threads_share_the_device(tmp_path: Path, device: cuda.Device) -> None:
    net = made(Net)
    model = streamed(net, tmp_path, device, "3MiB")
    with torch.no_grad():
        want = net(IDS)
    wrong: list[Any] = []

    def run() -> None:
        try:
            with torch.inference_mode():
                wrong.extend(i for i in range(4) if not torch.equal(model(IDS), want))
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_blocks_and_models_compile(tmp_path: Path, device: cuda.Device) -> None:
    for whole in (False, True):
        torch._dynamo.reset()
        net = made(Net)
        model = streamed(net, tmp_path, device)
        compiled: list[Any] = [net, model]
        if whole:
            compiled = [torch.compile(one, backend="aot_eager") for one in compiled]
        else:
            for one in compiled:
                for layer in one.layers:
                    layer.compile(backend="aot_eager")
        with torch.no_grad():
            for _ in range(3):
                assert torch.equal(compiled[1](IDS), compiled[0](IDS))
        ws.close(model)


def test_state_dicts_copies_and_conversions(gate: str, tmp_path: Path, device: cuda.Device) -> None:
    net = made(Net)
    model = streamed(net, tmp_path, device)
    saved = model.state_dict()
    assert saved.keys() == net.state_dict().keys()
    assert all(torch.equal(saved[name], tensor) for name, tensor in net.state_dict().items())
    assert model.to(device.tensors) is model
    with pytest.raises(TypeError, match=r"can't become torch.float16"):
        model.half()
    with torch.no_grad():
        assert torch.equal(model(IDS), net(IDS))


def test_copies_share_the_stream(tmp_path: Path, device: cuda.Device) -> None:
    if not hasattr(torch._C, guard._CLEAR):
        pytest.skip("a closed weight can't be referred to")
    net = made(Net)
    other = copy.deepcopy(streamed(net, tmp_path, device))
    with torch.no_grad():
        assert torch.equal(other(IDS), net(IDS))


def test_budgets_change(tmp_path: Path, device: cuda.Device) -> None:
    net = made(Net)
    model = streamed(net, tmp_path, device)
    with torch.no_grad():
        for memory in ("7.5MiB", "2.2MiB", "16MiB"):
            ws.resize(model, memory)
            assert torch.equal(model(IDS), net(IDS))
    ws.resize(model, {device: "8MiB"})
    assert ws.stats(model).budget == 8 * MIB
    with pytest.raises(ws.BudgetError, match="least that works"):
        ws.resize(model, "1MiB")


def test_two_models_share_a_device_and_close(tmp_path: Path, device: cuda.Device) -> None:
    nets = [made(Net), made(Odd)]
    models = [streamed(net, tmp_path, device, "7.5MiB") for net in nets]
    with torch.no_grad():
        for net, model in zip(nets, models, strict=True):
            assert torch.equal(model(IDS), net(IDS))
    free, total = device.native.memory()
    assert total - free <= 15 * MIB
    ws.close(models[0])
    with pytest.raises(ws.ClosedError):
        models[0](IDS)
    with torch.no_grad():
        assert torch.equal(models[1](IDS), nets[1](IDS))
    del model, models
    assert device.native.memory()[0] == total


def test_a_budget_below_the_largest_block_is_refused(tmp_path: Path, device: cuda.Device) -> None:
    with pytest.raises(ws.BudgetError, match="the least that works is"):
        streamed(made(Net), tmp_path, device, "1MiB")
    with pytest.raises(ws.BudgetError, match="host_memory of 65536 bytes is too small"):
        streamed(made(Net), tmp_path, device, host_memory="64KiB")
    with pytest.raises(ValueError, match="belong to a GPU"):
        ws.stream(made(Net), tmp_path / "model.safetensors", host_memory="1GiB")


@pytest.fixture
def two() -> Iterator[list[cuda.Device]]:
    devices = [cuda.simulate(256 * MIB), cuda.simulate(256 * MIB)]
    yield devices
    assert all(device.native.broken_rules() == [] for device in devices)


def split(net: nn.Module, folder: Path, memory: dict[cuda.Device, Any]) -> nn.Module:
    path = folder / "model.safetensors"
    save_file({name: tensor.clone() for name, tensor in net.state_dict().items()}, path)
    with ws.empty():
        empty = type(net)().eval()
    return ws.stream(empty, path, memory, host_memory="64MiB")


@pytest.mark.parametrize("kind", [Net, Odd])
def test_a_model_is_split_over_devices(
    gate: str, kind: type[nn.Module], tmp_path: Path, two: list[cuda.Device]
) -> None:
    net = made(kind)
    model = split(net, tmp_path, {two[0]: "6MiB", two[1]: "7MiB"})
    sizes = [part.stats()["model_bytes"] for part in model._weightstream.stream.parts]
    assert all(size > sum(sizes) / 5 for size in sizes)
    with torch.no_grad():
        for _ in range(3):
            assert torch.equal(model(IDS), net(IDS))
    assert all(part.stats()["passes"] == 3 for part in model._weightstream.stream.parts)
    saved = model.state_dict()
    assert all(torch.equal(saved[name], tensor) for name, tensor in net.state_dict().items())
    assert ws.stats(model).model_bytes == sum(sizes)
    ws.close(model)
    with pytest.raises(ws.ClosedError):
        model(IDS)
    del model
    assert all(device.native.memory()[0] == device.native.memory()[1] for device in two)


def test_each_part_of_a_split_model_keeps_to_its_budget(tmp_path: Path, two: list[cuda.Device]) -> None:
    net = made(Net)
    model = split(net, tmp_path, {two[0]: "2.2MiB", two[1]: "2.2MiB"})
    parts = model._weightstream.stream.parts
    with torch.no_grad():
        assert torch.equal(model(IDS), net(IDS))
        ws.resize(model, {two[1]: "4MiB"})
        assert torch.equal(model(IDS), net(IDS))
    assert [part.stats()["budget"] for part in parts] == [int(2.2 * MIB), 4 * MIB]
    assert all(part.stats()["held"] <= part.stats()["budget"] for part in parts)
    with pytest.raises(TypeError, match=r"expected \{'cuda:0': '4GiB'"):
        ws.resize(model, "4MiB")
    with pytest.raises(ws.BudgetError, match="least that works"):
        ws.resize(model, {two[0]: "64KiB"})
    with pytest.raises(ValueError, match="no part of the model is on"):
        ws.resize(model, {cuda.simulate(MIB): "4MiB"})
    with pytest.raises(ValueError, match="leave device out"):
        ws.stream(made(Net), tmp_path / "model.safetensors", {two[0]: "4MiB"}, device=two[0])
    with pytest.raises(ValueError, match="at least one GPU"):
        ws.stream(made(Net), tmp_path / "model.safetensors", {})


def test_without_a_gpu_the_error_says_so(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has one")
    from weightstream import _native

    with pytest.raises(ws.WeightstreamError, match="CUDA driver can't be opened"):
        _native.Device.open(0)


@pytest.mark.current
def test_a_language_model_generates_with_a_static_cache(tmp_path: Path, device: cuda.Device) -> None:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=2000, hidden_size=128, intermediate_size=512, num_hidden_layers=6,
        num_attention_heads=4, num_key_value_heads=2, head_dim=32, tie_word_embeddings=True,
    )  # fmt: skip
    Qwen3ForCausalLM(config).bfloat16().save_pretrained(tmp_path)
    loaded = Qwen3ForCausalLM.from_pretrained(tmp_path, dtype="auto").eval()
    model = ws.load(tmp_path, "1.5MiB", device=device, host_memory="64MiB")
    ids = torch.arange(12).view(1, 12)
    for cache in (None, "static"):
        options = {"max_new_tokens": 8, "do_sample": False, "cache_implementation": cache}
        assert torch.equal(model.generate(ids, **options), loaded.generate(ids, **options))
    with torch.no_grad():
        assert torch.equal(model(ids).logits, loaded(ids).logits)
