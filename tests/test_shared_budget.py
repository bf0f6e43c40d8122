"""Several models in one budget: never more than it together, what one doesn't need for the others."""

import threading
import time

import pytest
import torch
import weightstream as ws
from safetensors.torch import load_file, save_file
from support.budget import LEAST
from support.threads import PATIENCE_S, run_together
from torch import nn

WIDTH, LAYERS = 512, 20  # 20 MiB
MIB = 2**20


def build():
    return nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)), nn.Tanh()).eval()


@pytest.fixture
def file(tmp_path):
    save_file(build().state_dict(), tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


@pytest.fixture
def reference(file):
    model = build()
    model.load_state_dict(load_file(file), assign=True)
    return model.requires_grad_(False)


@pytest.fixture
def opened(file):
    """Opens models, and closes them."""
    models = []

    def open_model(memory):
        models.append(ws.stream(build(), file, memory))
        return models[-1]

    yield open_model
    for model in models:
        ws.close(model)


def until(condition):
    """Wait for what another thread is about to do."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.01)


def memory(model):
    return ws.stats(model).budget


def running(model, given, expected, condition):
    """Make passes with `model` until `condition` holds."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it never happened"
        assert torch.equal(model(given), expected)


def test_a_model_gets_what_the_other_one_does_not_use(opened, reference):
    budget = ws.Budget(16 * MIB)
    one, other = opened(budget), opened(budget)
    given = torch.randn(3, WIDTH)
    expected = reference(given)
    # One runs: the other is down to what it needs.
    running(one, given, expected, lambda: memory(one) > 12 * MIB and memory(other) == ws.stats(other).least)
    running(other, given, expected, lambda: memory(other) > 12 * MIB)
    assert memory(one) + memory(other) <= budget.memory

    # Both run: equal shares.
    def alike():
        return abs(memory(one) - memory(other)) <= MIB and memory(one) > 7 * MIB

    run_together([lambda model=model: running(model, given, expected, alike) for model in (one, other)])


def test_shares_by_priority(opened, reference):
    budget = ws.Budget(16 * MIB)
    one, other = opened(budget.share(priority=3)), opened(budget)
    given = torch.randn(3, WIDTH)
    expected = reference(given)

    def three_to_one():  # of what is beyond the least
        return abs((memory(one) - LEAST) - 3 * (memory(other) - LEAST)) <= 2 * MIB

    run_together(
        [lambda model=model: running(model, given, expected, three_to_one) for model in (one, other)]
    )
    with pytest.raises(ValueError, match="priority"):
        budget.share(priority=0)


def test_all_together_stay_within_it_while_models_come_run_and_go(file, reference):
    budget = ws.Budget(16 * MIB)
    given = torch.randn(3, WIDTH)
    expected = reference(given)
    open_models, lock = [], threading.Lock()

    def come_and_go():
        for _ in range(4):
            model = ws.stream(build(), file, budget)
            with lock:
                open_models.append(model)
            for _ in range(15):
                assert torch.equal(model(given), expected)
            with lock:
                open_models.remove(model)
            ws.close(model)

    workers = [threading.Thread(target=come_and_go) for _ in range(3)]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        with lock:
            used = sum(ws.stats(model).used for model in open_models)
        assert used <= budget.memory, used
        time.sleep(0.005)
    for worker in workers:
        worker.join(PATIENCE_S)
    assert not any(worker.is_alive() for worker in workers)
    assert budget.least == 0


def test_resizing_and_what_is_refused(opened):
    budget = ws.Budget(16 * MIB)
    one, other = opened(budget), opened(budget)
    budget.resize(2 * LEAST)
    assert memory(one) == memory(other) == LEAST
    with pytest.raises(ws.BudgetError, match=str(2 * LEAST)):
        budget.resize(2 * LEAST - 1)
    with pytest.raises(ws.BudgetError, match=str(3 * LEAST)):
        opened(budget)
    with pytest.raises(ValueError, match="share of a Budget"):
        ws.resize(one, "16MiB")
    ws.close(other)
    budget.resize(12 * MIB)
    until(lambda: memory(one) > 11 * MIB)
    assert "12.00 MiB" in repr(budget)
