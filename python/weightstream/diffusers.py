"""Models of diffusers: built by their own class without memory."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import nn

from weightstream.config import read_config
from weightstream.empty import empty
from weightstream.errors import CheckpointError
from weightstream.lazy import Source, cast
from weightstream.parameters import Slot, match, slots
from weightstream.stored import Index, weights_in


def build(
    folder: Path,
    dtype: torch.dtype | None,
    model_class: type[Any] | None,
    config: Any,
    strict: bool,
    kwargs: Any,
) -> tuple[Index, Any, list[tuple[Slot, Source]]]:
    """The model of `folder` and the source of each of its weights."""
    import diffusers

    described = config or read_config(folder) or {}
    if model_class is None:
        name = described["_class_name"]
        model_class = getattr(diffusers, name, None)
        if model_class is None:
            raise CheckpointError(
                f"{folder}: config.json names {name}, which diffusers {diffusers.__version__} lacks"
            )
    index = Index.open(weights_in(folder, "diffusion_pytorch_model"))
    wanted = dtype or _floating(index)
    before = torch.get_default_dtype()
    torch.set_default_dtype(wanted)
    try:
        with empty():
            model = model_class.from_config(described, **kwargs)
    finally:
        torch.set_default_dtype(before)
    _keep_in_float32(model)
    model.register_to_config(_name_or_path=str(folder))
    model.eval()
    dtypes = {name: tensor.dtype for name, tensor in model.state_dict().items()}
    tensors = {
        name: cast(stored, dtypes.get(name, stored.dtype), index.contents)
        for name, stored in index.tensors.items()
    }
    return index, model, match(model, tensors, strict)


def _floating(index: Index) -> torch.dtype:
    """The dtype that most of the floating weights are stored as."""
    sizes: Counter[torch.dtype] = Counter()
    for stored in index.tensors.values():
        if stored.dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
            sizes[stored.dtype] += stored.nbytes
    return sizes.most_common(1)[0][0] if sizes else torch.get_default_dtype()


def _keep_in_float32(model: nn.Module) -> None:
    """As from_pretrained does: modules that the class names stay in float32 whatever the rest is."""
    kept = getattr(model, "_keep_in_fp32_modules", None) or []
    for slot in slots(model):
        if slot.tensor.is_floating_point() and any(part in kept for part in slot.names[0].split(".")):
            slot.put(slot.tensor.to(torch.float32))
