"""A small part of `python -m tests.zoo programs`: some modules of torch.nn, as exported and decomposed."""

import pytest

from tests.zoo import programs, torch_modules

pytestmark = pytest.mark.current

NAMES = [
    "nn_CrossEntropyLoss_0",
    "nn_CosineEmbeddingLoss_0",
    "nn_LPPool2d_1",
    "nn_Transformer_0",
    "nn_MaxPool3d_0",
]


@pytest.mark.parametrize("form", programs.FORMS)
@pytest.mark.parametrize("name", NAMES)
def test_a_module_of_torch_as_a_program(name, form, tmp_path):
    specimen = next(one for one in torch_modules.specimens() if one.name == name)
    outcome = programs.outcome(specimen, form, tmp_path)
    assert outcome["result"] == "same", outcome["detail"]


def test_a_difference_is_told():
    import torch

    expected = [torch.ones(3)]
    assert programs.compare([torch.ones(3)], expected) == ""
    assert "relative error" in programs.compare([torch.full((3,), 1.001)], expected)
    assert "expected" in programs.compare([torch.ones(2)], expected)
    assert "differ" in programs.compare([torch.tensor([1, 2])], [torch.tensor([1, 3])])
