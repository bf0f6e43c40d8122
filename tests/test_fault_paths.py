"""However a weight that can't be read is used, whoever uses it gets an error, and no number made of it."""

import logging
import threading

import pytest
import torch
import weightstream as ws
from safetensors.torch import load_file, save_file
from support.budget import LEAST
from support.threads import run_together
from torch import nn

# Each layer is larger than the budget: no use of one finds all of it in memory.
WIDTH, LAYERS = 1024, 3
BLOCK = 1


@pytest.fixture
def file(tmp_path):
    save_file(build().state_dict(), tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def build():
    return nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)), nn.Tanh()).eval()


@pytest.fixture
def model(file, faults):
    model = ws.stream(build(), file, LEAST)
    yield model
    ws.close(model)


@pytest.fixture
def reference(file):
    model = build()
    model.load_state_dict(load_file(file), assign=True)
    return model.requires_grad_(False)


def x(**kind):
    return torch.randn(3, WIDTH, **kind)


def in_a_thread(task):
    return run_together([task])[0]


def here(task):
    return task()


def compiled_model(model):
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True)
    with torch.no_grad():
        compiled(x())
    return lambda: compiled(x())


def compiled_block(model):
    torch.compiler.reset()
    compiled = torch.compile(model[BLOCK], backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        compiled(x())
    return lambda: compiled(x())


def model_of_a_compiled_block(model):
    torch.compiler.reset()
    model[BLOCK] = torch.compile(model[BLOCK], backend="aot_eager")
    return lambda: model(x())


PASSES = {
    "eager": lambda model: lambda: model(x()),
    "a block alone": lambda model: lambda: model[BLOCK](x()),
    "compiled": compiled_model,
    "a compiled block alone": compiled_block,
    "a compiled block in its model": model_of_a_compiled_block,
    "state_dict": lambda model: model.state_dict,
}


@pytest.mark.parametrize("where", [here, in_a_thread])
@pytest.mark.parametrize("kind", PASSES)
def test_a_pass(model, reference, faults, kind, where):
    run = PASSES[kind](model)
    with torch.no_grad():
        where(lambda: fail_and_recover(run, faults))
    given = x()
    assert torch.equal(no_grad(lambda: model(given)), reference(given))


def fail_and_recover(run, faults):
    no_grad(run)
    for _ in range(2):
        fault = faults.add("fail")
        for _ in range(2):
            with pytest.raises(ws.ReadError, match="offset"):
                no_grad(run)
        faults.remove(fault)
        no_grad(run)


def no_grad(run):
    with torch.no_grad():
        return run()


def eager_loss(model):
    return model


def compiled_loss(model):
    torch.compiler.reset()
    return torch.compile(model, backend="aot_eager", fullgraph=True)


@pytest.mark.parametrize("where", [here, in_a_thread])
@pytest.mark.parametrize("kind", [eager_loss, compiled_loss])
def test_a_backward_pass(model, reference, faults, kind, where):
    run = kind(model)

    def backward():
        given = x(requires_grad=True)
        loss = run(given).square().sum()
        fault = faults.add("fail")
        with pytest.raises(ws.ReadError, match="offset"):
            loss.backward()
        faults.remove(fault)
        given.grad = None
        run(given).square().sum().backward()
        expected = given.detach().clone().requires_grad_()
        reference(expected).square().sum().backward()
        assert torch.equal(given.grad, expected.grad)

    where(lambda: (backward(), backward()))


USES = {
    "an operator": lambda weight: weight.sum(),
    "a product": lambda weight: torch.nn.functional.linear(x(), weight),
    "tolist": lambda weight: weight.tolist(),
    "numpy": lambda weight: bytes(weight.detach().numpy()),
}


@pytest.mark.parametrize("use", USES)
def test_a_use_in_the_main_thread(model, reference, faults, use):
    for _ in range(2):
        fault = faults.add("fail")
        with pytest.raises(ws.ReadError, match="offset"):
            USES[use](model[BLOCK].weight)
        faults.remove(fault)
        given = x()
        assert torch.equal(model(given), reference(given))
        assert torch.equal(model[BLOCK].weight, reference[BLOCK].weight)


def test_what_passes_is_counted_and_told_once(model, reference, faults, caplog):
    given = x()
    expected = reference(given)
    with caplog.at_level(logging.WARNING, "weightstream"):
        for effect in ("fail", "short", "fail"):
            faults.add(effect, skip=7, times=2)
            assert torch.equal(model(given), expected)
    assert ws.stats(model).retries == faults.hits == 6 and ws.stats(model).errors == 0
    assert [record.levelname for record in caplog.records if record.name == "weightstream"] == ["WARNING"]
    assert "trying again" in caplog.text and "offset" in caplog.text


def test_a_slow_read_is_waited_for(model, reference, faults):
    given = x()
    faults.add("delay", seconds=2, skip=5, times=1)
    assert torch.equal(model(given), reference(given))
    assert ws.stats(model).retries == 0 and faults.hits == 1


def test_others_run_while_a_pass_waits(model, reference, faults):
    """The interpreter's lock is free while a weight is waited for."""
    faults.add("delay", seconds=2, skip=5, times=1)
    given = x()
    over = threading.Event()

    def wait():
        assert torch.equal(model(given), reference(given))
        over.set()

    def count():
        steps = 0
        while not over.wait(0.001):
            steps += 1
        return steps

    assert run_together([wait, count])[1] > 100


def test_a_device_that_is_unplugged_and_comes_back(model, reference, faults):
    given = x()
    expected = reference(given)
    assert torch.equal(model(given), expected)
    for _ in range(3):
        fault = faults.add("fail", errno=19)
        for _ in range(2):
            with pytest.raises(ws.ReadError, match="No such device"):
                model(given)
        faults.remove(fault)
        assert torch.equal(model(given), expected)
