import threading

import pytest
import torch
import weightstream as ws
from torch import nn

LARGE = (160, 160)

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


def test_nested_and_over_after_an_exception():
    with ws.empty():
        with ws.empty():
            inner = nn.Linear(2, 2)
        outer = nn.Linear(2, 2)
    assert inner.weight.is_meta and outer.weight.is_meta
    with pytest.raises(ValueError), ws.empty():
        raise ValueError
    after = nn.Linear(200, 200)
    assert not after.weight.is_meta and after.weight.std() > 0


def test_other_threads_build_real_modules():
    built = []
    with ws.empty():
        thread = threading.Thread(target=lambda: built.append(nn.Linear(2, 2)))
        thread.start()
        thread.join()
    assert not built[0].weight.is_meta


@pytest.mark.parametrize("name", INITIALISERS)
def test_what_is_initialised_reads_so(name):
    initialise = getattr(nn.init, name)
    with ws.empty():
        module = nn.Linear(*LARGE)
        initialise(module.weight, *INITIALISERS[name])
        once, again = module.weight.detach().clone(), module.weight.detach().clone()
        module.register_buffer("kept", initialise(torch.full(LARGE, 7.0), *INITIALISERS[name]))
    assert module.weight.is_meta
    torch.manual_seed(0)
    expected = initialise(torch.empty(LARGE), *INITIALISERS[name])
    for filled in (once, again, module.kept):
        assert abs(filled.mean() - expected.mean()) < 0.03
        assert abs(filled.std() - expected.std()) < 0.03
    assert torch.equal(once, again)


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


class Curious(nn.Module):
    """Does in its constructor what constructors have been seen to do with parameters."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(*LARGE)
        self.convolution = nn.Conv2d(3, 200, 7)
        with torch.no_grad():
            self.linear.weight[0].fill_(0)
            self.linear.weight[1:].normal_().clamp_(-1, 1).mul_(0.5)
        self.device = self.linear.weight.device
        self.largest = self.linear.weight.abs().max().item()
        self.first_row = self.linear.weight[0].tolist()
        self.scale = self.linear.weight.new_tensor([2.0])
        self.channels = self.convolution(torch.zeros(1, 3, 8, 8)).shape[1]
        self.as_array = self.convolution.weight.detach().numpy().std()
        self.listed = [self.linear.weight]
        self.transposed = self.linear.weight.t()
        self.register_buffer("squares", self.linear.weight.detach() ** 2)
        self.register_buffer("mask", torch.ones(LARGE).tril())
        self.register_buffer("constant", torch.full(LARGE, 3.0))


def test_constructors_may_look_at_parameters_and_compute_with_them():
    with ws.empty():
        module = Curious()
        assert module.linear.weight.device.type == "cpu" and isinstance(module.linear.weight, nn.Parameter)
    assert module.device == torch.device("cpu")
    assert 0.4 < module.largest <= 0.5
    assert module.first_row == [0.0] * LARGE[1]
    assert torch.equal(module.scale, torch.tensor([2.0]))
    assert module.channels == 200
    assert 0 < module.as_array < 1
    assert module.squares[0].eq(0).all() and 0.2 < module.squares.max() <= 0.25
    assert torch.equal(module.mask, torch.ones(LARGE).tril())
    assert torch.equal(module.constant, torch.full(LARGE, 3.0))
    assert all(parameter.is_meta for parameter in module.parameters())


def test_other_holders_of_a_parameter_follow_it():
    with ws.empty():
        module = Curious()
    assert module.listed[0] is module.linear.weight
    assert module.transposed.is_meta
    assert module.transposed.untyped_storage()._cdata == module.linear.weight.untyped_storage()._cdata


def test_copies_are_filled_as_what_they_were_copied_from_was_then():
    with ws.empty():
        module = nn.Module()
        source, target = torch.zeros(LARGE), torch.zeros(LARGE)
        source[1] = 1
        target.copy_(source)
        source.fill_(9)
        module.register_buffer("target", target)
        module.register_buffer("halves", source.to(torch.float16))
    assert module.target.sum() == LARGE[1]
    assert torch.equal(module.halves, torch.full(LARGE, 9.0, dtype=torch.float16))


def test_what_is_not_read_takes_no_memory():
    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    with ws.empty():
        nn.Linear(*LARGE).weight.sum()
        before = resident()
        layer = nn.TransformerEncoderLayer(4096, 8, 16384)
        module = nn.TransformerEncoder(layer, 2)
        module.layers[0].linear1.weight.to(torch.bfloat16)
        grown = resident() - before
    assert sum(parameter.nbytes for parameter in module.parameters()) > 2**30
    assert grown < 2**26
