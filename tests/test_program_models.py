"""Programs of real architectures: as torch computes them, and streamed through a quarter the same bits."""

import pytest
import torch
import weightstream as ws
from support.budget import quarter

from bench.program_models import MODELS, export

pytestmark = pytest.mark.current

TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 2e-2}


@pytest.mark.parametrize("dtype", TOLERANCES, ids=["fp32", "bf16"])
@pytest.mark.parametrize("name", MODELS)
def test_a_model_as_torch_computes_it(name, dtype, tmp_path):
    path = tmp_path / "model.pt2"
    module, inputs = export(name, False, dtype, path)
    expected = module(*inputs)
    size = sum(value.nbytes for value in module.state_dict().values())
    resident, streamed = ws.Program(path)(*inputs), ws.Program(path, quarter(size))
    error = (resident.double() - expected.double()).norm() / expected.double().norm()
    assert error < TOLERANCES[dtype]
    for _ in range(2):
        assert torch.equal(streamed(*inputs), resident)
