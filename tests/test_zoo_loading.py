"""A small part of `python -m tests.zoo loading`: a model of each kind of loading, in both dtypes."""

import pytest

from tests.zoo import catalogue, loading

pytestmark = pytest.mark.current

NAMES = [("transformers", "BertModel"), ("diffusers", "AutoencoderKL"), ("torchvision", "mnasnet0_5")]


@pytest.mark.parametrize("dtype", loading.DTYPES)
@pytest.mark.parametrize(("collection", "name"), NAMES)
def test_a_model_loads_with_the_same_bits(collection, name, dtype, tmp_path):
    specimen = next(one for one in catalogue.COLLECTIONS[collection]() if one.name == name)
    outcome = loading.outcome(specimen, dtype, tmp_path / name)
    assert outcome["result"] == "same", outcome["detail"]


def test_a_difference_is_told():
    import torch

    assert loading.same([torch.ones(2), 1], [torch.ones(2), 1])
    assert not loading.same([torch.ones(2)], [torch.tensor([1, 1.0000001])])
    assert not loading.same([torch.ones(2)], [torch.ones(2, dtype=torch.float64)])
    assert not loading.same([], [torch.ones(2)])
