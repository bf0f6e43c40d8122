"""Signals that touches need, whoever blocks them or has a handler of its own; memory locked or shared."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import weightstream as ws
from safetensors.torch import save_file
from support.budget import LEAST
from support.signals import build

TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_file(build().state_dict(), path)
    return path


@pytest.fixture
def live(file):
    """Runs one of support.signals in a process of its own."""

    def run(life, *options):
        return subprocess.run(
            [sys.executable, *options, "-m", "support.signals", life, str(file)],
            cwd=TESTS,
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


@pytest.mark.parametrize("life", ["main_thread", "threads", "teams", "program"])
def test_threads_with_all_signals_blocked(live, life):
    run = live(life)
    assert run.returncode == 0, run.stderr[-3000:]


def test_faulthandler_leaves_touches_alone(live):
    run = live("switched")
    assert (run.returncode, run.stderr) == (0, ""), run.stderr[-3000:]


def test_faulthandler_of_the_command_line_may_be_disabled(live):
    run = live("disabled_only", "-X", "faulthandler")
    assert (run.returncode, run.stderr) == (0, ""), run.stderr[-3000:]


def test_a_handler_that_nobody_told_of_lets_touches_through(live):
    run = live("enabled_unseen")
    assert run.returncode == 0, run.stderr[-3000:]


@pytest.mark.parametrize("life", ["raised", "raised_in_a_thread", "crashed"])
def test_what_is_no_touch_still_ends_the_process(live, life):
    run = live(life)
    assert run.returncode == -signal.SIGSEGV, run
    assert "Segmentation fault" in run.stderr


def test_locked_memory_stays_within_the_budget(live):
    run = live("locked")
    if run.returncode == 77:
        pytest.skip("memory may not be locked here")
    assert run.returncode == 0, run.stderr[-3000:]


@pytest.mark.parametrize("life", ["few_addresses", "no_threads"])
def test_what_the_system_has_no_more_of_is_an_error(live, life):
    run = live(life)
    assert run.returncode == 0, run.stderr[-3000:]


SHARING = {
    "share_memory_": lambda weight: weight.share_memory_(),
    "of a view": lambda weight: weight[1:].share_memory_(),
    "of its data": lambda weight: weight.data.share_memory_(),
    "a queue": lambda weight: torch.multiprocessing.SimpleQueue().put(weight),
    "a queue of views": lambda weight: torch.multiprocessing.SimpleQueue().put(weight[:2]),
}


@pytest.mark.parametrize("strategy", ["file_descriptor", "file_system"])
@pytest.mark.parametrize("way", SHARING)
def test_weights_are_not_moved_to_shared_memory(file, way, strategy):
    before = torch.multiprocessing.get_sharing_strategy()
    torch.multiprocessing.set_sharing_strategy(strategy)
    model = ws.stream(build(), file, LEAST).requires_grad_(False)
    address = model[1].weight.data_ptr()
    try:
        with pytest.raises(TypeError, match=r"1\.weight is streamed and can't be shared"):
            SHARING[way](model[1].weight)
    finally:
        torch.multiprocessing.set_sharing_strategy(before)
    assert model[1].weight.data_ptr() == address and not model[1].weight.is_shared()
    torch.multiprocessing.SimpleQueue().put(model[1].weight.clone())
    ws.close(model)


def test_memory_beyond_measure_is_all_that_a_model_takes(file):
    model = ws.stream(build(), file, 2**63 - 1)
    given = torch.randn(3, model[0].in_features)
    expected = model(given)
    ws.resize(model, "32MiB")
    assert torch.equal(model(given), expected)
    with pytest.raises(ValueError, match="memory: expected at most"):
        ws.resize(model, 2**63)
    ws.close(model)
