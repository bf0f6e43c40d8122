import os

# Before torch: threads that spin while they wait would fight over the cores with whatever else runs.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# No test asks a hub for what it has not made itself.
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import torch
from weightstream import _native


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def faults():
    """What goes wrong with the reads of every stream that the test opens: tells nothing by itself."""
    table = _native.Faults()
    table.install()
    yield table
    table.clear()
    _native.Faults.uninstall()
