import threading

import pytest
import torch
import weightstream as ws
from torch import nn

INITIALISERS = dict.fromkeys(["uniform_", "normal_", "trunc_normal_", "ones_", "zeros_", "eye_"], ())
INITIALISERS |= dict.fromkeys(
    ["xavier_uniform_", "xavier_normal_", "kaiming_uniform_", "kaiming_normal_"], ()
)
INITIALISERS |= {"orthogonal_": (), "constant_": (1.0,), "sparse_": (0.5,)}


class Rotary(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))
        self.register_buffer("frequency", 1 / torch.arange(1, 5), persistent=False)


def test_parameters_take_no_memory_and_buffers_are_real():
    with ws.empty():
        module = Rotary()
    assert module.weight.is_meta and isinstance(module.weight, nn.Parameter)
    assert torch.equal(module.frequency, Rotary().frequency)


def test_ties_stay_ties():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            weight = nn.Parameter(torch.zeros(3, 3))
            self.first, self.second = weight, weight
            self.embedding, self.head = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
            self.head.weight = self.embedding.weight

    with ws.empty():
        module = Tied()
    assert module.first is module.second
    assert module.head.weight is module.embedding.weight
    assert len(list(module.parameters())) == 2


def test_dtype_and_requires_grad_are_kept():
    with ws.empty():
        module = nn.Linear(2, 2, dtype=torch.bfloat16)
        module.fixed = nn.Parameter(torch.zeros(2, dtype=torch.int8), requires_grad=False)
    assert module.weight.dtype == torch.bfloat16 and module.weight.requires_grad
    assert module.fixed.dtype == torch.int8 and not module.fixed.requires_grad


def test_nested_and_restored_after_an_exception():
    before = nn.Module.register_parameter
    with pytest.raises(ValueError), ws.empty():
        with ws.empty():
            pass
        assert nn.Linear(2, 2).weight.is_meta
        raise ValueError
    assert nn.Module.register_parameter is before
    assert not nn.Linear(2, 2).weight.is_meta


def test_other_threads_build_real_modules():
    built = []
    with ws.empty():
        thread = threading.Thread(target=lambda: built.append(nn.Linear(2, 2)))
        thread.start()
        thread.join()
    assert not built[0].weight.is_meta


@pytest.mark.parametrize("name", INITIALISERS)
def test_initialisers_find_nothing_to_fill(name):
    with ws.empty():
        module = nn.Linear(4, 4)
        getattr(nn.init, name)(module.weight, *INITIALISERS[name])
        real = getattr(nn.init, name)(torch.full((4, 4), 7.0), *INITIALISERS[name])
    assert module.weight.is_meta
    assert not torch.equal(real, torch.full((4, 4), 7.0))


@pytest.mark.parametrize(
    "build",
    [
        lambda: nn.LSTM(3, 4, 2, bidirectional=True),
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 2),
        lambda: nn.utils.parametrizations.weight_norm(nn.Linear(3, 4)),
        lambda: nn.MultiheadAttention(8, 2),
    ],
)
def test_composite_modules(build):
    with ws.empty():
        module = build()
    assert all(parameter.is_meta for parameter in module.parameters())
    assert module.state_dict().keys() == build().state_dict().keys()
