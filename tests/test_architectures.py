"""Every kind of model computes the same bits streamed as fully loaded."""

import pytest
import torch
import weightstream as ws
from support.architectures import ARCHITECTURES, weight_bytes
from support.equality import assert_equal

pytest.importorskip("transformers")
pytest.importorskip("diffusers")
pytest.importorskip("torchvision")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda architecture: architecture.name)
def test_bit_equal_to_fully_loaded(tmp_path, architecture, dtype):
    architecture.save(tmp_path, dtype)
    reference = architecture.fully_loaded(tmp_path, dtype)
    model = architecture.streamed(tmp_path, dtype)
    with torch.inference_mode():
        for size in (0, 0, 2):  # cold, warm, warm with another shape
            inputs = architecture.inputs(dtype, size)
            assert_equal(model(**inputs), reference(**inputs))
    stats = ws.stats(model)
    assert stats.passes == 3 and stats.errors == 0
    assert stats.used <= stats.budget == architecture.memory(weight_bytes(tmp_path))
    assert stats.model_bytes > 1.5 * stats.budget, "too small to prove anything"
