"""What measures a GPU, run on a simulated one: the same code, other numbers."""

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from bench.gpu.__main__ import run
from bench.gpu.place import Place
from bench.gpu.report import table
from bench.gpu.stages import STAGES, Run

features = pytest.importorskip("bench.gpu.features")

# What takes long, and tests/test_cuda.py has in other words, is left to `python -m bench.gpu --smoke`.
QUICK = [name for name in features.FEATURES if name not in ("compiled", "architectures", "generation")]


@pytest.mark.parametrize("name", QUICK)
def test_features_work_on_a_simulated_device(name: str) -> None:
    place = Place.open(True)
    features.FEATURES[name](place)
    assert place.device.native.broken_rules() == []


@pytest.mark.current
def test_stages_measure_and_the_table_says_so(tmp_path: Path) -> None:
    place = Place.open(True)
    results: dict[str, Any] = {}
    for name in ("prepare", "limits", "loaded", "host", "limited", "cpu_offload", "endurance"):
        results[name] = json.loads(json.dumps(STAGES[name](Run(place, tmp_path, True))))
    assert results["limited"]["read_per_pass"] > 0 == results["host"]["read_per_pass"]
    assert results["host"]["counters"]["held"] <= 3 * 2**20
    printed = table(results)
    assert "DIFFER" not in printed and printed.count("equal") == 3
    assert "cpu_offload: left out" in printed


def test_a_stage_that_fails_is_an_error_in_words(tmp_path: Path) -> None:
    options = argparse.Namespace(folder=str(tmp_path), simulate=True, small=True)
    assert "KeyError: 'nothing'" in run(options, "nothing", 100)["error"]
    assert "not done after" in run(options, "prepare", 0.1)["error"]
