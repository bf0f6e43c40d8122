"""What PyTorch does around a model: inference mode, TorchScript, distribution, layers that change dtype."""

import pytest
import torch
import weightstream as ws
from safetensors.torch import save_file
from torch import nn

X = torch.randn(2, 8)


@pytest.fixture
def reference():
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)).eval()


@pytest.fixture
def file(tmp_path, reference):
    save_file(reference.state_dict(), tmp_path / "m.safetensors")
    return tmp_path / "m.safetensors"


def module():
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)).eval()


def test_weights_streamed_in_inference_mode_are_ordinary_ones(file, reference):
    with torch.inference_mode():
        model = ws.stream(module(), file, "16MiB")
        assert torch.equal(model(X), reference(X))
    assert not model[0].weight.is_inference()
    x = X.clone().requires_grad_()
    model(x).sum().backward()
    assert x.grad is not None


def test_a_scripted_module_is_refused(file):
    with pytest.raises(TypeError, match="TorchScript"):
        ws.stream(torch.jit.script(module()), file, "16MiB")


def test_a_streamed_model_is_traced_and_not_scripted(file, reference):
    model = ws.stream(module(), file, "16MiB")
    with torch.no_grad():
        assert torch.equal(torch.jit.trace(model, X)(X), reference(X))
    with pytest.raises(TypeError, match="can't be scripted"):
        torch.jit.script(model)


def test_a_layer_converts_itself(file, reference):
    class Router(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(8, 8)

        def forward(self, x):
            self.layer = self.layer.to(torch.float32)
            return self.layer(x.float())

    router = Router().to(torch.bfloat16)
    save_file(router.state_dict(), file)
    model = ws.stream(Router().to(torch.bfloat16), file, "16MiB")
    for _ in range(2):
        with torch.no_grad():
            assert torch.equal(model(X), router(X))
    assert model.layer.weight.dtype == torch.float32
    with pytest.raises(TypeError, match="is streamed"):
        ws.stream(module(), save(file), "16MiB").half()


def test_a_small_layer_is_converted_by_its_user(file, reference):
    model = ws.stream(module(), file, "16MiB")
    model[0].double()
    reference[0].double()
    with torch.no_grad():
        assert torch.equal(model[0](X.double()), reference[0](X.double()))
    with pytest.raises(TypeError, match="can't be moved to meta"):
        model[2].to("meta")


def save(file):
    save_file(module().state_dict(), file)
    return file


def test_a_distributed_wrapper_leaves_streamed_weights_alone(file, reference, tmp_path):
    distributed = pytest.importorskip("torch.distributed")
    if not distributed.is_gloo_available():
        pytest.skip("this torch has no gloo")
    store = distributed.FileStore(str(tmp_path / "store"), 1)
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        model = ws.stream(module(), file, "16MiB")
        model.register_parameter("scale", nn.Parameter(torch.ones(1)))
        with torch.no_grad():
            assert torch.equal(nn.parallel.DistributedDataParallel(model)(X), reference(X))
    finally:
        distributed.destroy_process_group()


def test_two_elements_in_a_byte(tmp_path):
    if not hasattr(torch, "float4_e2m1fn_x2"):
        pytest.skip("this torch has no float4")
    values = torch.randint(0, 255, (8, 4), dtype=torch.uint8)
    save_file({"weight": values.view(torch.float4_e2m1fn_x2)}, tmp_path / "m.safetensors")
    holder = nn.Module()
    holder.weight = nn.Parameter(
        torch.zeros(8, 4, dtype=torch.uint8).view(torch.float4_e2m1fn_x2), requires_grad=False
    )
    model = ws.stream(holder, tmp_path / "m.safetensors", "16MiB")
    assert torch.equal(model.weight.view(torch.uint8), values)
