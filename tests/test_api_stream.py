import copy
import gc
import io
import json
import pickle
import subprocess
import sys
import threading
import weakref

import pytest
import torch
import weightstream as ws
from alignment import realigned
from safetensors.torch import load_file, save_file
from torch import nn


def build():
    return nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.BatchNorm1d(8)).eval()


@pytest.fixture
def file(tmp_path):
    reference = build()
    save_file(reference.state_dict(), tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


@pytest.fixture
def model(file):
    return ws.stream(build(), file, memory="16MiB")


X = torch.randn(3, 8)

MODULES = {
    "LSTM": (lambda: nn.LSTM(8, 6, 2, bidirectional=True), torch.randn(4, 2, 8)),
    "TransformerEncoder": (
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2),
        torch.randn(2, 4, 8),
    ),
    "weight_norm": (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(8, 3)), torch.randn(2, 8)),
    "spectral_norm": (lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(8, 3)), torch.randn(2, 8)),
    "convolutions": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 3)),
        torch.randn(1, 3, 8, 8),
    ),
    "EmbeddingBag": (lambda: nn.EmbeddingBag(9, 4), torch.tensor([[1, 2], [8, 0]])),
    "Bilinear of large": (lambda: nn.Linear(8, 2**16), torch.randn(1, 8)),
}


@pytest.mark.parametrize("real", [True, False], ids=["real", "empty"])
@pytest.mark.parametrize("name", MODULES)
def test_modules_compute_the_same(tmp_path, name, real):
    make, x = MODULES[name]
    reference = make().eval()
    save_file(reference.state_dict(), tmp_path / "m.safetensors")
    if real:
        module = make()
    else:
        with ws.empty():
            module = make()
    module.eval()
    assert ws.stream(module, tmp_path / "m.safetensors", "16MiB") is module
    # A weight that requires gradients has nn.TransformerEncoder compute in another way.
    realigned(reference, module).requires_grad_(False)
    expected, got = reference(x), module(x)
    if name == "LSTM":
        expected, got = expected[0], got[0]
    assert torch.equal(got, expected)
    with torch.inference_mode():
        again, expected = module(x), reference(x)
    assert torch.equal(again[0], expected[0]) if name == "LSTM" else torch.equal(again, expected)


def test_gradients_flow_through_frozen_weights(model, file):
    reference = build()
    reference.load_state_dict(load_file(file))
    realigned(reference, model)
    ours, theirs = X.clone().requires_grad_(), X.clone().requires_grad_()
    model(ours).sum().backward()
    reference(theirs).sum().backward()
    assert torch.equal(ours.grad, theirs.grad)
    assert all(parameter.grad is None for parameter in model.parameters() if not parameter.requires_grad)


def test_threads(model):
    expected, got = model(X), []
    threads = [threading.Thread(target=lambda: got.append(model(X))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 4 and all(torch.equal(expected, one) for one in got)


def test_state_dict_can_be_saved_and_is_independent(model, file, tmp_path):
    state = model.state_dict()
    stored = load_file(file)
    assert state.keys() == stored.keys()
    assert all(torch.equal(state[name], stored[name]) for name in stored)
    assert state["0.weight"].data_ptr() != model[0].weight.data_ptr()
    state["0.weight"].zero_()
    assert torch.equal(model[0].weight, stored["0.weight"])
    torch.save(model.state_dict(), tmp_path / "saved.pt")
    build().load_state_dict(torch.load(tmp_path / "saved.pt"))
    part = model[0].state_dict()
    assert part["weight"].data_ptr() != model[0].weight.data_ptr()
    assert model.state_dict(keep_vars=True)["0.weight"] is model[0].weight


def test_tied_weights_stay_tied_in_a_state_dict(tmp_path):
    def make():
        module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        module[1].weight = module[0].weight
        return module

    tensors = {name: value.clone() for name, value in make().state_dict().items()}
    save_file(tensors, tmp_path / "m.safetensors")
    state = ws.stream(make(), tmp_path / "m.safetensors").state_dict()
    assert state["0.weight"].data_ptr() == state["1.weight"].data_ptr()


def test_a_state_dict_that_does_not_fit_is_refused(model, monkeypatch):
    monkeypatch.setattr("weightstream.protection.free_memory", lambda: 100)
    with pytest.raises(MemoryError, match="100 B are free"):
        model.state_dict()


def test_a_deepcopy_of_the_whole_shares_the_stream(model):
    twin = copy.deepcopy(model)
    assert torch.equal(twin(X), model(X))
    assert twin[0].weight is not model[0].weight
    assert twin[0].weight.data_ptr() == model[0].weight.data_ptr()
    assert twin[2].running_mean.data_ptr() != model[2].running_mean.data_ptr()
    part = copy.deepcopy(model[0])
    assert part.weight.data_ptr() != model[0].weight.data_ptr() and torch.equal(part.weight, model[0].weight)
    again = copy.deepcopy(twin)
    with pytest.raises(TypeError, match="can't become"):
        again.half()
    del model
    gc.collect()
    assert twin(X).shape == (3, 8)
    ws.close(twin)
    with pytest.raises(ws.errors.ClosedError):
        again(X)


@pytest.mark.parametrize("save", [pickle.dumps, lambda module: torch.save(module, io.BytesIO())])
def test_pickling_is_refused_with_a_remedy(model, save):
    for module in (model, model[0], model[0].weight):
        with pytest.raises(TypeError, match="state_dict"):
            save(module)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.half(), "can't become torch.float16"),
        (lambda m: m.to(torch.bfloat16), r"load\(path, dtype=torch.bfloat16\)"),
        (lambda m: m.to("meta"), "can't be moved to meta"),
        (lambda m: m.share_memory(), "read-only"),
        (lambda m: m.to_empty(device="cpu"), "read-only"),
        (lambda m: m.load_state_dict(build().state_dict()), "can't be loaded into"),
        (lambda m: m[0].load_state_dict(build()[0].state_dict()), "can't be loaded into"),
    ],
)
def test_what_would_change_weights_is_refused_and_changes_nothing(model, change, message):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(TypeError, match=message):
        change(model)
    after = model.state_dict()
    assert all(
        torch.equal(before[name], after[name]) and before[name].dtype == after[name].dtype for name in before
    )


def test_what_changes_nothing_is_allowed(model):
    address = model[0].weight.data_ptr()
    assert model.to("cpu") is model and model.float() is model and model.cpu() is model
    model.train().eval().requires_grad_(False)
    assert model[0].weight.data_ptr() == address


def test_adapters_can_be_loaded_beside_streamed_weights(model):
    model.adapter = nn.Linear(8, 8)
    state = {f"adapter.{name}": torch.ones_like(value) for name, value in model.adapter.state_dict().items()}
    model.load_state_dict(state, strict=False)
    assert torch.equal(model.adapter.weight, torch.ones(8, 8))


def test_close(model):
    weight = model[0].weight
    ws.close(model)
    ws.close(model)
    for module in (model, model[0], model[2]):
        with pytest.raises(ws.errors.ClosedError):
            module(X)
    assert weight.shape == (8, 8)


def test_streaming_twice(model, file):
    with pytest.raises(ws.errors.WeightstreamError, match="streamed already"):
        ws.stream(model, file)
    expected = model(X)
    ws.close(model)
    ws.stream(model, file)
    assert torch.equal(model(X), expected)
    assert len(model.state_dict()) == 9


def test_nothing_keeps_the_stream_alive(file):
    model = ws.stream(build(), file)
    model(X)
    stream = weakref.ref(model._weightstream)
    gc.disable()
    try:
        weight = model[0].weight
        del model
        assert stream() is None
        assert weight.sum().isfinite()  # a tensor keeps its memory
    finally:
        gc.enable()


def test_a_budget_too_small_changes_nothing(file):
    module = build()
    weight, values = module[0].weight, module[0].weight.clone()
    with pytest.raises(ws.errors.BudgetError, match="least"):
        ws.stream(module, file, memory=1)
    assert module[0].weight is weight and torch.equal(weight, values) and weight.requires_grad
    module.half()


@pytest.mark.parametrize(
    "call", [ws.stats, ws.close, lambda m: ws.resize(m, "1GiB"), lambda m: ws.trace(m, "x")]
)
def test_a_module_that_is_not_streamed(call):
    with pytest.raises(TypeError, match="not streamed"):
        call(build())
    with pytest.raises(TypeError, match=r"torch\.nn\.Module"):
        call(3)


def test_wrappers_are_looked_through(model, file):
    assert ws.stats(nn.Sequential(model)).model_bytes == ws.stats(model).model_bytes
    with pytest.raises(TypeError, match="2 streamed"):
        ws.stats(nn.Sequential(model, ws.stream(build(), file)))


def test_stats_and_resize(tmp_path):
    module = nn.Sequential(*(nn.Linear(1024, 1024) for _ in range(6)))
    save_file(module.state_dict(), tmp_path / "m.safetensors")
    ws.stream(module, tmp_path / "m.safetensors", memory="16MiB")
    x = torch.randn(2, 1024)
    expected = module(x)
    stats = ws.stats(module)
    assert stats.passes == 1 and stats.budget == 16 * 2**20
    assert stats.model_bytes == sum(parameter.nbytes for parameter in module.parameters())
    assert stats.bytes_read >= stats.model_bytes and 1.5 < stats.oversize < 1.6
    for given in (12 * 2**20 + 5, 100 * 2**20, 12 * 2**20):
        ws.resize(module, given)
        assert ws.stats(module).budget == given  # not what chunks make of it
    assert "12.00 MiB" in str(ws.stats(module))
    assert torch.equal(module(x), expected)
    with pytest.raises(ws.errors.BudgetError, match="least"):
        ws.resize(module, 1)


def test_trace(model, tmp_path):
    path = tmp_path / "timeline.json"
    with ws.trace(model, path):
        model(X)
    events = json.loads(path.read_text())["traceEvents"]
    names = {event["name"] for event in events if event["ph"] == "X"}
    assert "Sequential" in names
    assert all(event["dur"] >= 0 and event["ts"] >= 0 for event in events if event["ph"] == "X")
    timeline = ws.trace(model, path)
    timeline.start()
    timeline.stop()


def test_export_of_a_lora_like_adapter(model):
    adapter = nn.Linear(8, 8)
    optimiser = torch.optim.SGD(adapter.parameters(), lr=0.1)
    before = adapter.weight.clone()
    (model(X) + adapter(X)).square().mean().backward()
    optimiser.step()
    assert not torch.equal(before, adapter.weight)


@pytest.mark.parametrize("whole", [True, False])
def test_compile_with_the_default_backend(model, whole):
    compiled = torch.compile(model if whole else model[0], fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(X), (model if whole else model[0])(X))


def test_a_forked_child_is_told_so(tmp_path):
    script = f"""
import os, torch
from torch import nn
from safetensors.torch import save_file
import weightstream as ws
module = nn.Linear(512, 2048)
save_file(module.state_dict(), r"{tmp_path}/linear.safetensors")
ws.stream(module, r"{tmp_path}/linear.safetensors", "64MiB")
module(torch.ones(1, 512))
child = os.fork()
if child == 0:
    try:
        module(torch.ones(1, 512))
    except ws.WeightstreamError as error:
        os._exit(7 if "spawn" in str(error) else 8)
    os._exit(9)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
module(torch.ones(1, 512))
child = os.fork()
if child == 0:
    raise SystemExit(0)  # ends as a Python process does, stream and all
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
