"""The models whose exported programs are tested and measured: how each is made, and what it is given.

Every one exists twice: as published (`full`), and small enough for a test, with every part of it.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

Inputs = tuple[Any, ...]


@dataclass(frozen=True)
class ProgramModel:
    """A module for `torch.export`.

    `build(full)` makes it, `inputs(full)` are its positional arguments in float32; `dynamic_shapes` tells
    `torch.export` which of their sizes vary.
    """

    name: str
    build: Callable[[bool], nn.Module]
    inputs: Callable[[bool], Inputs]
    real_weights: bool = False
    dynamic_shapes: Any = None

    def made(self, full: bool, dtype: torch.dtype) -> tuple[nn.Module, Inputs]:
        """The module and its inputs, the same ones at every call."""
        torch.manual_seed(0)
        module = self.build(full)
        if not (full and self.real_weights):
            unsettle(module)
        module = module.eval().requires_grad_(False).to(dtype)
        return module, tuple(
            value.to(dtype) if isinstance(value, torch.Tensor) and value.is_floating_point() else value
            for value in self.inputs(full)
        )


def export(name: str, full: bool, dtype: torch.dtype, path: Path) -> tuple[nn.Module, Inputs]:
    """The module and its inputs, exported to `path` unless that is there."""
    module, inputs = MODELS[name].made(full, dtype)
    if not path.exists():
        shapes = MODELS[name].dynamic_shapes
        partial = path.with_suffix(".partial.pt2")
        torch.export.save(torch.export.export(module, inputs, dynamic_shapes=shapes, strict=False), partial)
        partial.rename(path)
    return module, inputs


class Part(nn.Module):
    """One result of a module that gives several."""

    def __init__(self, module: nn.Module, part: str, **options: Any) -> None:
        super().__init__()
        self.module, self.part, self.options = module, part, options

    def forward(self, *inputs: Any) -> Any:
        return getattr(self.module(*inputs, **self.options), self.part)


def published(name: str) -> Path:
    """The folder of one of the two real checkpoints, which the demonstration fetches."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples" / "demo"))
    import models

    return {"minilm": models.minilm, "smollm2": models.smollm2}[name]()


def unsettle(module: nn.Module) -> None:
    """Change initial values (0, 1, a tiny variance) that would hide a weight that was mixed up."""
    with torch.no_grad():
        for parameter in module.parameters():
            scale = parameter.std() if parameter.dim() > 1 else torch.tensor(0.0)
            if not scale > 0.005:
                parameter.add_(torch.randn_like(parameter), alpha=0.03)


def minilm(full: bool) -> nn.Module:
    from transformers import BertConfig, BertModel

    if full:
        model = BertModel.from_pretrained(published("minilm"), dtype=torch.float32)
    else:
        model = BertModel(
            BertConfig(
                vocab_size=500,
                hidden_size=256,
                intermediate_size=1024,
                num_hidden_layers=6,
                num_attention_heads=8,
            )
        )
    return Part(model, "last_hidden_state", return_dict=True)


def smollm2(full: bool) -> nn.Module:
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    if full:
        model = AutoModelForCausalLM.from_pretrained(published("smollm2"), dtype=torch.float32)
    else:
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=1000, hidden_size=256, intermediate_size=768, num_hidden_layers=6,
                num_attention_heads=8, num_key_value_heads=4, tie_word_embeddings=True,
            )
        )  # fmt: skip
    return Part(model, "logits", use_cache=False)


def vit(full: bool) -> nn.Module:
    from torchvision.models import VisionTransformer

    layers, heads, width, size = (12, 12, 768, 224) if full else (6, 4, 256, 64)
    return VisionTransformer(size, 16, layers, heads, width, 4 * width)


def resnet(full: bool) -> nn.Module:
    from torchvision.models import resnet50

    return resnet50()


def convnext(full: bool) -> nn.Module:
    from torchvision.models import ConvNeXt, convnext_tiny
    from torchvision.models.convnext import CNBlockConfig

    if full:
        return convnext_tiny()
    widths = [48, 96, 192, 384, None]
    pairs = itertools.pairwise(widths)
    return ConvNeXt([CNBlockConfig(width, following, 2) for width, following in pairs])


def whisper(full: bool) -> nn.Module:
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    layers, heads, width, positions = (12, 12, 768, 1500) if full else (6, 4, 256, 50)
    config = WhisperConfig(
        encoder_layers=layers, encoder_attention_heads=heads, d_model=width, encoder_ffn_dim=4 * width,
        max_source_positions=positions,
    )  # fmt: skip
    return Part(WhisperEncoder(config), "last_hidden_state", return_dict=True)


def unet(full: bool) -> nn.Module:
    from diffusers import UNet2DConditionModel

    blocks, layers = ((320, 640, 1280), 1) if full else ((64, 128, 256), 1)
    model = UNet2DConditionModel(
        block_out_channels=blocks, layers_per_block=layers, cross_attention_dim=768 if full else 64,
        attention_head_dim=8, norm_num_groups=32,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    )  # fmt: skip
    return Part(model, "sample")


class Dit(nn.Module):
    def __init__(self, full: bool) -> None:
        from diffusers import DiTTransformer2DModel

        super().__init__()
        self.model = DiTTransformer2DModel(
            num_layers=12 if full else 4, num_attention_heads=12 if full else 4, attention_head_dim=64,
            sample_size=32 if full else 16, in_channels=4, out_channels=8, num_embeds_ada_norm=1000,
        )  # fmt: skip

    def forward(self, sample: torch.Tensor, step: torch.Tensor, kind: torch.Tensor) -> torch.Tensor:
        return self.model(sample, timestep=step, class_labels=kind).sample


def tokens(vocabulary: int, full_vocabulary: int, length: int) -> Callable[[bool], Inputs]:
    return lambda full: (
        torch.randint(0, full_vocabulary if full else vocabulary, (1, length if full else 16)),
    )


def picture(small: int) -> Callable[[bool], Inputs]:
    def inputs(full: bool) -> Inputs:
        size = 224 if full else small
        return (torch.randn(1, 3, size, size),)

    return inputs


def noise(full: bool) -> tuple[torch.Tensor, torch.Tensor]:
    size = 32 if full else 16
    return torch.randn(1, 4, size, size), torch.tensor([500])


MODELS = {
    model.name: model
    for model in [
        ProgramModel("minilm", minilm, tokens(500, 30522, 128), real_weights=True),
        ProgramModel(
            "smollm2",
            smollm2,
            tokens(1000, 49152, 64),
            real_weights=True,
            dynamic_shapes=(({1: torch.export.Dim("length", min=2, max=2048)},),),
        ),
        ProgramModel("vit-b", vit, picture(64)),
        ProgramModel("resnet-50", resnet, picture(64)),
        ProgramModel("convnext-t", convnext, picture(64)),
        ProgramModel("whisper-encoder", whisper, lambda full: (torch.randn(1, 80, 3000 if full else 100),)),
        ProgramModel(
            "unet", unet, lambda full: (*noise(full), torch.randn(1, 77 if full else 7, 768 if full else 64))
        ),
        ProgramModel("dit", Dit, lambda full: (*noise(full), torch.tensor([7]))),
    ]
}
