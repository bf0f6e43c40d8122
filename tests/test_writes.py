"""Writes to streamed tensors are kept where modules make them, and else undone and told by name."""

import subprocess
import sys
from pathlib import Path

import pytest
from support.writes import WRITES


@pytest.mark.parametrize("name", WRITES)
def test_nothing_dies_of_it(tmp_path, name):
    run = subprocess.run(
        [sys.executable, "-m", "support.writes", name, str(tmp_path)],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    if name == "child":
        assert 'weight "layers.3.weight" was used in a forked child' in run.stderr, run.stderr
        assert "Fatal Python error: Segmentation fault" in run.stderr and "in child" in run.stderr, run.stderr
