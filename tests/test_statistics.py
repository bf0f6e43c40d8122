"""A forecast, a statistic and the documentation mean the same by the same name."""

import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import torch
import weightstream as ws
from safetensors.torch import save_file
from torch import nn
from weightstream import _native

DOCUMENT = Path(__file__).parents[1] / "docs" / "python.md"

COMMAND = "import sys, weightstream_command; sys.exit(weightstream_command.main())"


@pytest.fixture
def file(tmp_path):
    layers = nn.Sequential(*(nn.Linear(1024, 1024, bias=False) for _ in range(16)))
    save_file(layers.state_dict(), tmp_path / "m.safetensors")
    return tmp_path / "m.safetensors"


def opened(file, memory):
    with ws.empty():
        layers = nn.Sequential(*(nn.Linear(1024, 1024, bias=False) for _ in range(16)))
    return ws.stream(layers, file, memory)


def test_every_counter_is_declared_once():
    declared = [name for name, *_ in _native.statistics()]
    assert [field.name for field in fields(ws.Stats)] == [*declared, "read_rate", "source"]
    document = DOCUMENT.read_text()
    for name, unit, together, meaning in _native.statistics():
        row = f"| `{name}` | {unit} | {together} | {meaning} |\n"
        assert row in document, f"docs/python.md lacks {row}"


def test_resident_is_what_is_in_memory_at_this_moment(file):
    model = opened(file, "24MiB")
    assert ws.stats(model).resident_bytes == 0
    for _ in range(3):
        model(torch.ones(1, 1024))
        stats = ws.stats(model)
        resident = sum(block.resident for block in ws.residency(model).values())
        assert 0 < stats.resident_bytes <= stats.used <= stats.budget
        # Reads go on, so both are asked of a model that may have more by then.
        assert abs(stats.resident_bytes - resident) <= 8 * stats.chunk_bytes
    ws.resize(model, "200MiB")
    for _ in range(2):
        model(torch.ones(1, 1024))
    stats = ws.stats(model)
    assert stats.resident_bytes == stats.kept_bytes == stats.model_bytes == 64 << 20
    assert stats.resident_bytes == sum(block.resident for block in ws.residency(model).values())
    ws.close(model)
    assert ws.stats(model).resident_bytes == 0


@pytest.mark.parametrize("memory", ["24MiB", "200MiB"])
def test_what_is_forecast_is_what_is_counted(file, memory):
    planned = subprocess.run(
        [sys.executable, "-c", COMMAND, "plan", file, "--memory", memory, "--rate", "1GB", "--json"],
        check=True,
        capture_output=True,
        text=True,
    )
    forecast = json.loads(planned.stdout)
    model = opened(file, memory)
    for _ in range(5):
        model(torch.ones(1, 1024))
    stats = ws.stats(model)
    ws.close(model)
    for name in ("model_bytes", "chunk_bytes", "kept_bytes", "coded_bytes", "buffers"):
        assert forecast[name] == getattr(stats, name), name
    assert stats.pass_bytes == pytest.approx(forecast["pass_bytes"], rel=0.1)
