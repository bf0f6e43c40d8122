"""Streamed weights require gradients as loaded ones do, and get none."""

import copy
import itertools
import logging
import threading

import pytest
import torch
import weightstream as ws
from alignment import realigned
from safetensors.torch import save_file
from torch import nn
from torch.utils.checkpoint import checkpoint


class Net(nn.Module):
    def __init__(self, checkpointed=False):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(32, 32) for _ in range(3))
        self.checkpointed = checkpointed

    def forward(self, x):
        for layer in self.layers:
            x = checkpoint(layer, x, use_reentrant=False) if self.checkpointed else layer(x)
            x = x.relu()
        return x


@pytest.fixture(params=[False, True], ids=["plain", "gradient checkpointing"])
def pair(tmp_path, request):
    reference = Net(request.param)
    save_file(reference.state_dict(), tmp_path / "m.safetensors")
    with ws.empty():
        model = Net(request.param)
    ws.stream(model, tmp_path / "m.safetensors")
    return model, realigned(reference, model)


def test_bits_are_those_of_weights_that_require_gradients(tmp_path):
    shapes = list(itertools.product((16, 100), (1, 16, 32)))
    reference = nn.ModuleList(nn.Linear(k, n) for k, n in shapes)
    save_file(reference.state_dict(), tmp_path / "m.safetensors")
    with ws.empty():
        model = nn.ModuleList(nn.Linear(k, n) for k, n in shapes)
    realigned(reference, ws.stream(model, tmp_path / "m.safetensors"))
    frozen = copy.deepcopy(reference).requires_grad_(False)
    differ = 0
    for a, b, number in itertools.product((1, 13), (7, 12, 64), range(len(shapes))):
        # Products fold over such an input by the weight's flag.
        x = torch.randn(a, shapes[number][0], b).transpose(1, 2)
        for mode in (torch.no_grad, torch.inference_mode):
            with mode():
                expected = reference[number](x)
                assert torch.equal(model[number](x), expected)
                differ += not torch.equal(frozen[number](x), expected)
    assert differ, "no shape at which the flag matters: this shows nothing"


def test_a_pass_that_autograd_records_freezes_the_weights_and_says_so_once(pair, caplog):
    model, reference = pair
    assert all(weight.requires_grad for weight in model.parameters())
    for _ in range(2):
        ours, theirs = torch.randn(4, 32).requires_grad_(), None
        theirs = ours.detach().clone().requires_grad_()
        with caplog.at_level(logging.WARNING, logger="weightstream"):
            model(ours).square().sum().backward()
        reference(theirs).square().sum().backward()
        assert torch.equal(ours.grad, theirs.grad)
        assert not any(weight.requires_grad for weight in model.parameters())
        assert all(weight.grad is None for weight in model.parameters())
    (record,) = caplog.records
    assert "layers.0.weight and 5 more" in record.getMessage()


def test_weights_made_to_require_gradients_after_that_keep_them(pair):
    model, reference = pair
    x = torch.randn(4, 32)
    model(x)
    model.requires_grad_(True)
    model(x).sum().backward()
    reference(x).sum().backward()
    for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)


def test_weights_frozen_by_their_user_are_not_talked_about(pair, caplog):
    model, _ = pair
    model.requires_grad_(False)
    x = torch.randn(4, 32, requires_grad=True)
    model(x).sum().backward()
    assert x.grad is not None and not caplog.records


def test_a_gradient_that_is_asked_for_is_given(pair):
    model, reference = pair
    x = torch.randn(4, 32)
    model(x)
    model.requires_grad_(True)
    (ours,) = torch.autograd.grad(model(x).sum(), [model.layers[1].weight])
    (theirs,) = torch.autograd.grad(reference(x).sum(), [reference.layers[1].weight])
    assert torch.equal(ours, theirs) and model.layers[1].weight.requires_grad


def test_copies_are_frozen_with_the_model(pair):
    model, _ = pair
    other = copy.deepcopy(model)
    assert all(weight.requires_grad for weight in other.parameters())
    other(torch.randn(4, 32, requires_grad=True)).sum().backward()
    assert all(not weight.requires_grad and weight.grad is None for weight in other.parameters())
    assert not any(weight.requires_grad for weight in model.parameters())


def test_threads_may_go_backward_at_once_from_the_first_pass_on(pair):
    model, reference = pair
    start, found = threading.Barrier(6), []

    def run():
        start.wait()
        for _ in range(5):
            x = torch.ones(4, 32, requires_grad=True)
            model(x).sum().backward()
            found.append(x.grad)

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    x = torch.ones(4, 32, requires_grad=True)
    reference(x).sum().backward()
    assert len(found) == 30 and all(torch.equal(gradient, x.grad) for gradient in found)
