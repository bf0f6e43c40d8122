import os

# Before torch: threads that spin while they wait would fight over the cores with whatever else runs.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import pytest
import torch


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
