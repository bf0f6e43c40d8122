"""Tiny models of diffusers, one of each kind of part: what a pipeline denoises, encodes and decodes with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from tests.zoo.specimens import Made, Specimen

BLOCKS = {"block_out_channels": (32, 64), "layers_per_block": 1, "norm_num_groups": 8}


def specimens() -> Iterator[Specimen]:
    """One for each class below."""
    for name, (config, inputs) in MODELS.items():
        yield Specimen(
            "diffusers", name, lambda name=name, config=config, inputs=inputs: make(name, config, inputs)
        )


def make(name: str, config: dict[str, Any], inputs: Callable[[], dict[str, Any]]) -> Made:
    """A model of this class and what it is called with."""
    import diffusers

    return getattr(diffusers, name)(**config), (), inputs()


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape)


def image() -> dict[str, Any]:
    return {"sample": noise(1, 3, 32, 32)}


def step() -> dict[str, Any]:
    return {"timestep": torch.tensor([7])}


#: A class' config, and its inputs.
MODELS: dict[str, tuple[dict[str, Any], Callable[[], dict[str, Any]]]] = {
    "AutoencoderKL": (
        BLOCKS
        | {
            "down_block_types": ("DownEncoderBlock2D",) * 2,
            "up_block_types": ("UpDecoderBlock2D",) * 2,
            "sample_size": 32,
        },
        image,
    ),
    "AutoencoderTiny": (
        {
            "encoder_block_out_channels": (16, 16),
            "decoder_block_out_channels": (16, 16),
            "num_encoder_blocks": (1, 1),
            "num_decoder_blocks": (1, 1),
        },
        image,
    ),
    "VQModel": (
        {
            "block_out_channels": (32, 64),
            "norm_num_groups": 8,
            "down_block_types": ("DownEncoderBlock2D",) * 2,
            "up_block_types": ("UpDecoderBlock2D",) * 2,
        },
        image,
    ),
    "UNet2DModel": (
        BLOCKS
        | {
            "sample_size": 16,
            "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
            "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
            "attention_head_dim": 8,
        },
        lambda: {"sample": noise(1, 3, 16, 16)} | step(),
    ),
    "UNet2DConditionModel": (
        BLOCKS
        | {
            "sample_size": 16,
            "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
            "cross_attention_dim": 32,
            "attention_head_dim": 8,
        },
        lambda: {"sample": noise(1, 4, 16, 16), "encoder_hidden_states": noise(1, 5, 32)} | step(),
    ),
    "UNet1DModel": (
        {
            "block_out_channels": (32, 32, 64),
            "extra_in_channels": 16,
            "sample_size": 512,
            "sample_rate": 16000,
        },
        lambda: {"sample": noise(1, 2, 512)} | step(),
    ),
    "ControlNetModel": (
        BLOCKS
        | {
            "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
            "cross_attention_dim": 32,
            "attention_head_dim": 8,
            "conditioning_embedding_out_channels": (16, 32),
        },
        lambda: (
            {
                "sample": noise(1, 4, 16, 16),
                "encoder_hidden_states": noise(1, 5, 32),
                "controlnet_cond": noise(1, 3, 32, 32),
                "return_dict": False,
            }
            | step()
        ),
    ),
    "DiTTransformer2DModel": (
        {
            "num_attention_heads": 4,
            "attention_head_dim": 8,
            "in_channels": 4,
            "num_layers": 2,
            "sample_size": 8,
            "num_embeds_ada_norm": 10,
        },
        lambda: {"hidden_states": noise(1, 4, 8, 8), "class_labels": torch.tensor([3])} | step(),
    ),
    "PixArtTransformer2DModel": (
        {
            "num_attention_heads": 4,
            "attention_head_dim": 8,
            "in_channels": 4,
            "num_layers": 2,
            "cross_attention_dim": 32,
            "caption_channels": 16,
            "sample_size": 8,
        },
        lambda: (
            {
                "hidden_states": noise(1, 4, 8, 8),
                "encoder_hidden_states": noise(1, 5, 16),
                "added_cond_kwargs": {"resolution": None, "aspect_ratio": None},
            }
            | step()
        ),
    ),
    "SD3Transformer2DModel": (
        {
            "sample_size": 16,
            "in_channels": 4,
            "num_layers": 2,
            "attention_head_dim": 8,
            "num_attention_heads": 4,
            "joint_attention_dim": 32,
            "caption_projection_dim": 32,
            "pooled_projection_dim": 16,
            "out_channels": 4,
        },
        lambda: (
            {
                "hidden_states": noise(1, 4, 16, 16),
                "encoder_hidden_states": noise(1, 5, 32),
                "pooled_projections": noise(1, 16),
            }
            | step()
        ),
    ),
    "FluxTransformer2DModel": (
        {
            "in_channels": 4,
            "num_layers": 1,
            "num_single_layers": 1,
            "attention_head_dim": 16,
            "num_attention_heads": 2,
            "joint_attention_dim": 32,
            "pooled_projection_dim": 16,
            "axes_dims_rope": (4, 4, 8),
        },
        lambda: {
            "hidden_states": noise(1, 16, 4),
            "encoder_hidden_states": noise(1, 5, 32),
            "pooled_projections": noise(1, 16),
            "img_ids": torch.zeros(16, 3),
            "txt_ids": torch.zeros(5, 3),
            "timestep": torch.tensor([0.5]),
        },
    ),
    "PriorTransformer": (
        {
            "num_attention_heads": 2,
            "attention_head_dim": 8,
            "num_layers": 2,
            "embedding_dim": 16,
            "num_embeddings": 7,
            "additional_embeddings": 4,
        },
        lambda: (
            {
                "hidden_states": noise(1, 16),
                "proj_embedding": noise(1, 16),
                "encoder_hidden_states": noise(1, 7, 16),
            }
            | step()
        ),
    ),
}
