"""Weights that their user gives other memory (`weight.data = ...`) are ordinary ones from then on."""

import copy
import pickle

import pytest
import torch
import weightstream as ws
from safetensors.torch import save_file
from torch import nn


@pytest.fixture
def model(tmp_path):
    reference = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    save_file(reference.state_dict(), tmp_path / "m.safetensors")
    return ws.stream(copy.deepcopy(reference).eval(), tmp_path / "m.safetensors", "16MiB")


@pytest.fixture
def replaced(model):
    for parameter in model[0].parameters():
        parameter.data = torch.full(parameter.shape, 2.0)
    return model


def test_a_copy_has_memory_of_its_own(replaced):
    copied = copy.deepcopy(replaced)
    with torch.no_grad():
        copied[0].weight.zero_()
    assert replaced[0].weight.sum() == 128 and copied[0].weight.sum() == 0
    assert copied[1].weight.data_ptr() == replaced[1].weight.data_ptr()


def test_conversion_concerns_what_is_streamed(replaced):
    replaced[0].half()
    assert replaced[0].weight.dtype == torch.float16
    with pytest.raises(TypeError, match=r"1.weight is streamed"):
        replaced.half()


def test_they_are_loaded_into_and_pickled(replaced):
    replaced[0].load_state_dict({"weight": torch.ones(8, 8), "bias": torch.zeros(8)})
    assert replaced[0].weight.sum() == 64
    again = pickle.loads(pickle.dumps(replaced[0].weight))
    assert torch.equal(again, replaced[0].weight)
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(replaced[1].weight)


def test_they_learn(replaced):
    replaced.requires_grad_(True)
    replaced(torch.ones(1, 8)).sum().backward()
    assert replaced[0].weight.grad is not None


def test_a_state_dict_has_what_is_there_now(replaced):
    state = replaced.state_dict()
    assert state["0.weight"].sum() == 128
    assert state["0.weight"].data_ptr() == replaced[0].weight.data_ptr()
