"""Another process takes the memory away: the governed model gets slower, and is not killed."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import weightstream as ws
from safetensors.torch import save_file
from support.budget import LEAST
from torch import nn

from bench.cgroup import Cgroup, CgroupError

MIB = 2**20
TESTS = Path(__file__).parent
WIDTH, LAYERS = 2048, 16  # 256 MiB


@pytest.fixture
def group():
    if os.geteuid() != 0:
        pytest.skip("control groups need root")
    try:
        with Cgroup(f"weightstream-pressure-{os.getpid()}", memory=None) as made:
            yield made
    except CgroupError as error:
        pytest.skip(str(error))


def limit(group, memory):
    name = "memory.max" if group.is_version_2 else "memory.limit_in_bytes"
    (group.memory_folder / name).write_text(str(memory))


def usage(group):
    name = "memory.current" if group.is_version_2 else "memory.usage_in_bytes"
    return int((group.memory_folder / name).read_text())


@pytest.mark.parametrize("governed", [True, False])
def test_another_process_takes_the_memory_away(tmp_path, group, governed):
    layers = nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)))
    save_file(layers.state_dict(), tmp_path / "model.safetensors")
    command = [sys.executable, "-m", "support.pressed", str(tmp_path), str(int(governed))]
    model = group.start(command, cwd=TESTS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def told():
        line = model.stdout.readline()
        return json.loads(line) if line else None

    before = told()
    assert before["budget"] > 190 * MIB
    # Room for what the model has now, and somewhat more.
    limit(group, usage(group) + 120 * MIB)
    hog = group.start(
        [sys.executable, "-m", "support.hog", str(220 * MIB)], cwd=TESTS, stdout=subprocess.PIPE
    )
    hog.stdout.readline()  # it has it all, or was killed
    with suppress(BrokenPipeError):  # it was killed already: it tells nothing
        print("go", file=model.stdin, flush=True)
    pressed = told()
    survived = pressed is not None and hog.poll() is None and not group.killed()
    hog.kill()
    hog.wait()
    assert survived == governed, (pressed, hog.returncode, group.killed())
    if not governed:
        model.kill()
        model.wait()
        return
    assert pressed["right"] and pressed["budget"] < 120 * MIB, pressed
    print("go", file=model.stdin, flush=True)
    after = told()
    assert model.wait(60) == 0
    assert after["right"] and after["budget"] > pressed["budget"] + 10 * MIB, after


def test_limits_that_make_no_sense_are_refused(tmp_path):
    save_file(
        nn.Sequential(*(nn.Linear(512, 512) for _ in range(8))).state_dict(), tmp_path / "m.safetensors"
    )
    model = ws.stream(
        nn.Sequential(*(nn.Linear(512, 512) for _ in range(8))), tmp_path / "m.safetensors", LEAST
    )
    with pytest.raises(ValueError, match="less than the least"):
        ws.govern(model, most=LEAST - 1)
    with pytest.raises(ValueError, match="less than the least"):
        ws.govern(ws.Budget("1GiB"), least="2GiB", most="1GiB")
    with pytest.raises(TypeError, match="not streamed"):
        ws.govern(nn.Linear(2, 2), most="1GiB")
    with ws.govern(model, most=2 * LEAST) as governor:
        assert LEAST <= ws.stats(model).budget <= 2 * LEAST
    governor.stop()
    ws.close(model)
