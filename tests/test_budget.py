"""The budget holds, memory comes back, and nothing is left behind."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support.architectures import ARCHITECTURES
from support.confined import DEEP, MARGIN, MIB

from bench.cgroup import Cgroup, CgroupError

TESTS = Path(__file__).parent


def child(*command, start=subprocess.Popen):
    """The JSON that a task of support.confined prints in a process of its own."""
    process = start(
        [sys.executable, "-m", "support.confined", *map(str, command)],
        cwd=TESTS,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, f"ended with {process.returncode}:\n{errors[-3000:]}"
    return json.loads(output.splitlines()[-1])


@pytest.fixture
def group():
    if os.geteuid() != 0:
        pytest.skip("control groups need root")
    try:
        with Cgroup(f"weightstream-test-{os.getpid()}", memory=None) as made:
            yield made
    except CgroupError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    root = tmp_path_factory.mktemp("deep")
    DEEP.save(root / DEEP.name, torch.float32)
    return root


@pytest.mark.current  # all of them: diffusers is not in the older set
def test_every_architecture_keeps_to_its_budget(tmp_path, deep, group):
    pytest.importorskip("transformers")
    for architecture in ARCHITECTURES:
        architecture.save(tmp_path / architecture.name, torch.float32)
    (tmp_path / DEEP.name).symlink_to(deep / DEEP.name)
    results = child("architectures", tmp_path, group.memory_folder, start=group.start)
    assert len(results) == len(ARCHITECTURES) + 1
    for result in results:
        assert result["passes"] == 3 and result["errors"] == 0, result
        assert result["used"] <= result["budget"] < result["model"], result
        assert result["peak"] < result["budget"] + MARGIN, result
    assert next(r for r in results if r["name"] == DEEP.name)["model"] > results[0]["budget"] + 2 * MARGIN


def test_a_fully_loaded_model_does_not_fit_where_the_streamed_one_does(deep, group):
    with pytest.raises(AssertionError, match="ended with -9"):
        child("fully_loaded", deep, group.memory_folder, start=group.start)


def test_passes_do_not_make_the_process_grow(tmp_path):
    next(one for one in ARCHITECTURES if one.name == "LlamaForCausalLM").save(tmp_path, torch.float32)
    assert child("growth", tmp_path) < MIB


def test_closing_gives_the_memory_back(deep):
    found = child("closing", deep / DEEP.name)
    assert found["opened"] > 110 * MIB, "the budget was not used"
    assert found["closed"] < 2 * MIB


def test_nothing_is_left_behind_by_streaming_and_closing(deep):
    first, last = child("cycles", deep / DEEP.name)
    for kind in ("threads", "descriptors"):
        assert last[kind] <= first[kind], (first, last)
    # What 50 rounds left behind would come to 50 times this or more; malloc's arenas come and go by a few.
    assert last["mappings"] < first["mappings"] + 25, (first, last)
    # The heap too: `empty` leaves it 1 to 3 GB of free addresses, with nothing of them in memory.
    assert last["addresses"] < first["addresses"] + 25 * 192 * MIB, (first, last)
    assert last["memory"] < first["memory"] + 2 * MIB, (first, last)
