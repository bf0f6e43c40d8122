"""torchvision's models, and one of each family of timm, on small images."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import torch

from tests.zoo.specimens import Made, Specimen, check_size

#: Words in the names of a family's smaller models, the smallest first.
SMALL = [
    "atto",
    "femto",
    "pico",
    "nano",
    "xxs",
    "xxt",
    "tiny",
    "xs",
    "extra_small",
    "mini",
    "small",
    "_s_",
    "_s",
    "b0",
    "_18",
    "18",
    "_0",
    "a0",
    "_t",
]


def torchvision_specimens() -> Iterator[Specimen]:
    """Every model that torchvision lists."""
    import torchvision

    for name in torchvision.models.list_models():
        yield Specimen("torchvision", name, lambda name=name: made_by_torchvision(name))


def made_by_torchvision(name: str) -> Made:
    """A model without pretrained weights, and an image or a clip that it takes."""
    import torchvision

    builder = torchvision.models.get_model_builder(name)
    options = {"weights": None}
    if "weights_backbone" in inspect.signature(builder).parameters:
        options["weights_backbone"] = None
    with torch.device("meta"):
        check_size(builder(**options))
    model = builder(**options)
    where = builder.__module__
    if ".detection" in where:
        return model, ([torch.rand(3, 96, 96)],), {}
    if ".video" in where:
        side = 224 if "mvit" in name or "swin" in name else 112
        frames = 16 if "mvit" in name else 8
        return model, (torch.rand(1, 3, frames, side, side),), {}
    if ".optical_flow" in where:
        return model, (torch.rand(1, 3, 128, 128), torch.rand(1, 3, 128, 128)), {"num_flow_updates": 2}
    whole = name.startswith(("vit", "maxvit", "inception", "googlenet"))
    side = 299 if name.startswith("inception") else 224 if whole else 96
    return model, (torch.rand(2, 3, side, side),), {}


def timm_specimens() -> Iterator[Specimen]:
    """Of each family the model whose name promises the least."""
    import timm

    for family in timm.list_modules():
        names = timm.list_models(module=family)
        if names:
            name = min(names, key=lambda name: (promise(name), len(name), name))
            yield Specimen("timm", name, lambda name=name: made_by_timm(name))


def promise(name: str) -> int:
    """The place of the smallest word in a model's name."""
    return next((place for place, word in enumerate(SMALL) if word in name), len(SMALL))


def made_by_timm(name: str) -> Made:
    """The model, and an image of the size that it asks for."""
    import timm

    with torch.device("meta"):
        check_size(timm.create_model(name))
    model = timm.create_model(name)
    return model, (torch.rand(1, *model.default_cfg["input_size"]),), {}
