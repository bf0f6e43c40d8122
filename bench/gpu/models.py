"""The models that are measured: real configurations with random weights, and small ones of the same kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from bench.models import QWEN3, Model, module_tensors, prepare

# Qwen/Qwen3-8B
LANGUAGE = QWEN3 | {
    "hidden_size": 4096, "intermediate_size": 12288, "num_attention_heads": 32, "num_hidden_layers": 36,
    "tie_word_embeddings": False,
}  # fmt: skip
SMALL_LANGUAGE = QWEN3 | {
    "hidden_size": 256, "intermediate_size": 768, "num_attention_heads": 8, "num_hidden_layers": 6,
    "num_key_value_heads": 4, "head_dim": 32, "vocab_size": 4000, "max_position_embeddings": 512,
    "bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": False,
}  # fmt: skip

# THUDM/CogVideoX-5b's transformer
VIDEO = {
    "_class_name": "CogVideoXTransformer3DModel", "num_attention_heads": 48, "attention_head_dim": 64,
    "in_channels": 16, "out_channels": 16, "time_embed_dim": 512, "text_embed_dim": 4096, "num_layers": 42,
    "patch_size": 2, "temporal_compression_ratio": 4, "max_text_seq_length": 226,
    "use_rotary_positional_embeddings": True, "sample_width": 90, "sample_height": 60, "sample_frames": 49,
}  # fmt: skip
SMALL_VIDEO = VIDEO | {"num_attention_heads": 4, "time_embed_dim": 64, "text_embed_dim": 128, "num_layers": 5}


def language(folder: Path, small: bool) -> Path:
    """The folder of a language model's checkpoint, made where it is missing."""
    config, shards = (SMALL_LANGUAGE, 2) if small else (LANGUAGE, 4)
    return _prepared(folder, "language", config, shards, small, "model")


def video(folder: Path, small: bool) -> Path:
    """The folder of a diffusion transformer's checkpoint; needs diffusers."""
    config, shards = (SMALL_VIDEO, 1) if small else (VIDEO, 3)
    return _prepared(folder, "video", config, shards, small, "diffusion_pytorch_model")


def _prepared(folder: Path, name: str, config: dict[str, Any], shards: int, small: bool, stem: str) -> Path:
    name += "-small" if small else ""
    return prepare(Model(name, name, config, "BF16", stem, shards, (), (), module_tensors), folder)


def language_inputs(kind: str, small: bool, device: torch.device) -> dict[str, Any]:
    """What a forward of the language model is given: one token, or many in a batch of four."""
    vocabulary = (SMALL_LANGUAGE if small else LANGUAGE)["vocab_size"]
    batch, length = (1, 1) if kind == "1 token" else (4, 64 if small else 4096)
    ids = torch.arange(batch * length, device=device).view(batch, length) * 7919 % vocabulary
    # The logits of the last token only: all of them would be five times the weights of the head.
    return {"input_ids": ids, "use_cache": False, "logits_to_keep": 1}


def video_inputs(kind: str, small: bool, device: torch.device) -> dict[str, Any]:
    """What a step of the diffusion transformer is given: 49 frames (13 latent ones) of the size `kind`."""
    generator = torch.Generator().manual_seed(0)
    width, height = (int(edge) // 8 for edge in kind.split("x"))
    frames, height, width, text = (3, 8, 8, 16) if small else (13, height, width, 226)
    channels = (SMALL_VIDEO if small else VIDEO)["text_embed_dim"]

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(device, torch.bfloat16)

    return {
        "hidden_states": random(1, frames, 16, height, width),
        "encoder_hidden_states": random(1, text, channels),
        "timestep": torch.tensor([500], device=device),
        "return_dict": False,
    }


def forward(model: Any, inputs: dict[str, Any]) -> Callable[[], torch.Tensor]:
    """A call that gives the model's result as one tensor."""

    def call() -> torch.Tensor:
        with torch.inference_mode():
            result = model(**inputs)
        logits: torch.Tensor = result[0] if isinstance(result, tuple) else result.logits
        return logits

    return call
