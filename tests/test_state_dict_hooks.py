"""Modules that rename or convert what is loaded into them do so when it is streamed into them too."""

import pytest
import torch
import weightstream as ws
from safetensors.torch import save_file
from torch import nn

X = torch.randn(3, 8)


class Kernel(nn.Linear):
    """Was saved transposed, under another name, by older versions of itself."""

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        if prefix + "kernel" in state_dict:
            state_dict[prefix + "weight"] = state_dict.pop(prefix + "kernel").t()
        state_dict.setdefault(prefix + "bias", torch.full((8,), 0.5))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


class Counting(nn.Linear):
    """Has a state beside its tensors."""

    count = 0

    def get_extra_state(self):
        return torch.tensor([self.count])

    def set_extra_state(self, state):
        self.count = int(state)


def equal(model, reference):
    with torch.no_grad():
        return torch.equal(model(X), reference(X))


def test_an_override_transposes_and_adds(tmp_path):
    reference = Kernel(8, 8)
    save_file({"0.kernel": reference.weight.detach().t().contiguous()}, tmp_path / "m.safetensors")
    with torch.no_grad():
        reference.bias.fill_(0.5)
    model = ws.stream(nn.Sequential(Kernel(8, 8)), tmp_path / "m.safetensors", "16MiB")
    assert equal(model, reference)
    assert ws.stats(model).model_bytes == 9 * 8 * 4


@pytest.mark.parametrize("empty", [False, True])
def test_a_hook_renames(tmp_path, empty):
    def rename(module, state_dict, prefix, *args):
        for name in list(state_dict):
            state_dict[name.removeprefix("old.")] = state_dict.pop(name)

    reference = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    old = {f"old.{name}": tensor for name, tensor in reference.state_dict().items()}
    save_file(old, tmp_path / "m.safetensors")
    if empty:
        with ws.empty():
            module = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    else:
        module = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    module.register_load_state_dict_pre_hook(rename)
    assert equal(ws.stream(module, tmp_path / "m.safetensors", "16MiB"), reference)


def test_a_state_beside_tensors_is_given(tmp_path):
    reference = Counting(8, 8)
    reference.count = 3
    save_file(reference.state_dict(), tmp_path / "m.safetensors")
    model = ws.stream(Counting(8, 8), tmp_path / "m.safetensors", "16MiB")
    assert model.count == 3 and equal(model, reference)


def test_what_does_not_fit_leaves_the_module_as_it_is(tmp_path):
    save_file({"kernel": torch.ones(8, 8), "another": torch.ones(1)}, tmp_path / "m.safetensors")
    module = Kernel(8, 8)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with pytest.raises(ws.CheckpointError, match=r'Unexpected key.*"another"'):
        ws.stream(module, tmp_path / "m.safetensors", "16MiB")
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


@pytest.mark.parametrize("kind", [nn.Linear, Counting])
def test_a_checkpoint_of_something_else_is_refused_also_where_parts_may_be_missing(tmp_path, kind):
    save_file({"something.else": torch.ones(1)}, tmp_path / "m.safetensors")

    with pytest.raises(ws.CheckpointError, match=r"none of them \('something.else'"):
        ws.stream(nn.Sequential(kind(8, 8)), tmp_path / "m.safetensors", "16MiB", strict=False)
