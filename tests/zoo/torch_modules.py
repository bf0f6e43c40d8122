"""The modules of torch.nn, by torch's own list of them with arguments and inputs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from tests.zoo.specimens import Made, Specimen


def specimens() -> Iterator[Specimen]:
    """Every entry of torch's list with each of its arguments."""
    from torch.testing._internal.common_modules import module_db

    for entry in module_db:
        try:
            count = len(samples(entry))
        except Exception:
            continue
        for number in range(count):
            name = f"{entry.name.replace('.', '_')}_{number}"
            yield Specimen("torch.nn", name, lambda entry=entry, number=number: make(entry, number))


def samples(entry: Any) -> list[Any]:
    """Arguments and inputs of one module, the same ones at every call."""
    torch.manual_seed(0)
    return list(
        entry.module_inputs_func(
            entry, device="cpu", dtype=torch.float32, requires_grad=False, training=False
        )
    )


def make(entry: Any, number: int) -> Made:
    """The module that a sample says."""
    sample = samples(entry)[number]
    module = entry.module_cls(*sample.constructor_input.args, **sample.constructor_input.kwargs)
    return module, tuple(sample.forward_input.args), dict(sample.forward_input.kwargs)
