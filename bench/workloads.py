"""What is computed in one pass, the same for every contender."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

SEED = 20


@dataclass(frozen=True)
class Workload:
    """`run(model, pass number)` gives the tensor that contenders are compared by.

    `sweeps` is how often one pass goes over the weights; `warm` how many passes follow the first.
    """

    name: str
    sweeps: int
    warm: int
    run: Callable[[Any, int], Any]
    differs: bool = False  # every pass has another input


def token_ids(count: int, number: int = 0) -> Any:
    import torch

    return torch.randint(0, 150_000, (1, count), generator=torch.Generator().manual_seed(SEED + number))


def logits(count: int, *, differs: bool = False) -> Callable[[Any, int], Any]:
    return lambda model, number: model(token_ids(count, number if differs else 0)).logits


def generate(model: Any, number: int) -> Any:
    ids = token_ids(16)
    return model.generate(
        ids,
        attention_mask=ids.new_ones(ids.shape),
        do_sample=False,
        min_new_tokens=16,
        max_new_tokens=16,
        pad_token_id=0,
    )


def denoising_step(model: Any, number: int) -> Any:
    import torch

    random = torch.Generator().manual_seed(SEED)
    size = model.config.sample_size
    return model(
        torch.randn(1, 4, size, size, generator=random),
        encoder_hidden_states=torch.randn(1, 120, 4096, generator=random),
        timestep=torch.tensor([500]),
        added_cond_kwargs={"resolution": None, "aspect_ratio": None},
    ).sample


WORKLOADS = {
    workload.name: workload
    for workload in [
        Workload("1 token", 1, 12, logits(1)),
        Workload("1 token, each another", 1, 8, logits(1, differs=True), differs=True),
        Workload("256 tokens", 1, 2, logits(256)),
        Workload("generate 16", 16, 1, generate),
        Workload("denoising step", 1, 3, denoising_step),
    ]
}
