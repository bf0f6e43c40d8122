"""Small models of real architectures: how each is saved, fully loaded, streamed and called.

Every one is large enough for a quarter of it to be a budget that works, and small enough to be quick.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import weightstream as ws
from safetensors.torch import load_file, save_file
from support.budget import quarter
from torch import nn

TEXT = {"vocab_size": 2048, "hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 4}
TEXT |= {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 32, "max_position_embeddings": 128}
SPECIAL = {"bos_token_id": 1, "eos_token_id": None, "pad_token_id": 0}
EXPERTS = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 192}
ENCODER = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 5, "num_attention_heads": 4}


@dataclass(frozen=True)
class Architecture:
    """One class of one library with a config, or a module of plain torch."""

    name: str
    library: str
    config: dict[str, Any] = field(default_factory=dict)
    build: Callable[[], nn.Module] | None = None
    inputs: Callable[[torch.dtype, int], dict[str, Any]] = lambda dtype, size: {}
    memory: Callable[[int], int] = quarter

    def save(self, folder: Path, dtype: torch.dtype) -> None:
        """Write a checkpoint with random weights."""
        model = self._made().to(dtype).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                # Initial values such as 0, 1 and a tiny variance would hide a weight that was mixed up.
                parameter.add_(torch.randn_like(parameter), alpha=0.05)
        if self.library == "torch":
            folder.mkdir(exist_ok=True)
            save_file(
                {name: value.contiguous() for name, value in model.state_dict().items()},
                folder / "model.safetensors",
            )
            return
        if self.library == "transformers":
            model.config.dtype = dtype
        model.save_pretrained(folder)

    def fully_loaded(self, folder: Path, dtype: torch.dtype) -> nn.Module:
        """The model with all of its weights in memory, as its library loads them."""
        if self.library == "transformers":
            return self._class().from_pretrained(folder, dtype="auto")
        if self.library == "diffusers":
            return self._class().from_pretrained(folder, torch_dtype=dtype)
        assert self.build is not None
        model = self.build().to(dtype).eval()
        # Assigned: the weights keep the addresses that they have in a mapped file, as by the libraries' own
        # loaders. MKL sums float32 matrix-vector products otherwise where an address is no multiple of 16.
        model.load_state_dict(load_file(folder / "model.safetensors"), assign=True)
        return model

    def streamed(self, folder: Path, dtype: torch.dtype, memory: int | None = None) -> nn.Module:
        """The model with its weights streaming through `memory` bytes, by default the architecture's own."""
        memory = self.memory(weight_bytes(folder)) if memory is None else memory
        if self.library != "torch":
            return ws.load(folder, memory)
        assert self.build is not None
        with ws.empty():
            model = self.build().to(dtype).eval()
        return ws.stream(model, folder, memory)

    def _class(self) -> Any:
        import importlib

        return getattr(importlib.import_module(self.library), self.name)

    def _made(self) -> Any:
        if self.build is not None:
            return self.build()
        if self.library == "diffusers":
            return self._class()(**self.config)
        return self._class()(self._class().config_class(**self.config))


def weight_bytes(folder: Path) -> int:
    """Bytes of the checkpoint in `folder`."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def ids(count: int, length: int) -> torch.Tensor:
    return torch.randint(3, 2048, (count, length))


def _text(dtype: torch.dtype, size: int) -> dict[str, Any]:
    return {"input_ids": ids(2, 5 + 4 * size), "output_hidden_states": True}


def _text_to_text(dtype: torch.dtype, size: int) -> dict[str, Any]:
    return {"input_ids": ids(2, 5 + 4 * size), "decoder_input_ids": ids(2, 3 + size)}


def _image(side: int) -> Callable[[torch.dtype, int], dict[str, Any]]:
    return lambda dtype, size: {"x": torch.randn(1 + size, 3, side, side, dtype=dtype)}


class TiedEmbedding(nn.Module):
    """Looks its embedding up, then uses the weight as a matrix without calling any module."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(8192, 512)
        self.mix = nn.Linear(512, 512)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        hidden = self.mix(self.embedding(input_ids)).tanh()
        return F.linear(hidden, self.embedding.weight)


def _resnet() -> nn.Module:
    from torchvision.models.resnet import BasicBlock, ResNet

    return ResNet(BasicBlock, [1, 1, 1, 1], num_classes=100)


def _convnext() -> nn.Module:
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    stages = [CNBlockConfig(64, 128, 2), CNBlockConfig(128, 256, 2), CNBlockConfig(256, None, 5)]
    return ConvNeXt(stages, num_classes=100)


def _encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(256, 4, 1024, batch_first=True)
    return nn.TransformerEncoder(layer, 6)


def _padded(dtype: torch.dtype, size: int) -> dict[str, Any]:
    mask = torch.zeros(3, 8 + size, dtype=torch.bool)
    mask[1, 5:] = True
    mask[2, 2:] = True
    return {"src": torch.randn(3, 8 + size, 256, dtype=dtype), "src_key_padding_mask": mask}


ARCHITECTURES = [
    Architecture("LlamaForCausalLM", "transformers", TEXT | SPECIAL, inputs=_text),
    Architecture("Qwen3ForCausalLM", "transformers", TEXT | SPECIAL, inputs=_text),
    Architecture(
        "MixtralForCausalLM",
        "transformers",
        TEXT | SPECIAL | {"num_local_experts": 4, "intermediate_size": 512},
        inputs=_text,
    ),
    Architecture("Qwen3MoeForCausalLM", "transformers", TEXT | SPECIAL | EXPERTS, inputs=_text),
    Architecture(
        "GPT2LMHeadModel",
        "transformers",
        SPECIAL | {"vocab_size": 2048, "n_embd": 256, "n_layer": 6, "n_head": 4, "n_positions": 128},
        inputs=_text,
    ),
    Architecture(
        "T5ForConditionalGeneration",
        "transformers",
        {"vocab_size": 2048, "d_model": 256, "d_kv": 64, "d_ff": 768, "num_layers": 4, "num_heads": 4}
        | {"decoder_start_token_id": 0, "eos_token_id": None, "pad_token_id": 0},
        inputs=_text_to_text,
    ),
    Architecture("BertModel", "transformers", ENCODER | {"vocab_size": 2048}, inputs=_text),
    Architecture(
        "ViTForImageClassification",
        "transformers",
        ENCODER | {"image_size": 32, "patch_size": 8, "num_labels": 10},
        inputs=lambda dtype, size: {"pixel_values": torch.randn(1 + size, 3, 32, 32, dtype=dtype)},
    ),
    Architecture(
        "WhisperForConditionalGeneration",
        "transformers",
        SPECIAL
        | {"vocab_size": 2048, "d_model": 256, "encoder_layers": 3, "decoder_layers": 3, "num_mel_bins": 16}
        | {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 768}
        | {"decoder_ffn_dim": 768, "max_source_positions": 50, "max_target_positions": 64}
        | {"decoder_start_token_id": 1, "suppress_tokens": None, "begin_suppress_tokens": None},
        inputs=lambda dtype, size: {
            "input_features": torch.randn(1 + size, 16, 100, dtype=dtype),
            "decoder_input_ids": ids(1 + size, 4),
        },
    ),
    Architecture("ResNet", "torch", build=_resnet, inputs=_image(64)),
    Architecture("ConvNeXt", "torch", build=_convnext, inputs=_image(64)),
    Architecture(
        "UNet2DConditionModel",
        "diffusers",
        {"sample_size": 16, "block_out_channels": (64, 160), "layers_per_block": 1, "norm_num_groups": 16}
        | {"down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "cross_attention_dim": 64}
        | {"up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"), "attention_head_dim": 8},
        inputs=lambda dtype, size: {
            "sample": torch.randn(1 + size, 4, 16, 16, dtype=dtype),
            "timestep": 10 * size,
            "encoder_hidden_states": torch.randn(1 + size, 7, 64, dtype=dtype),
        },
    ),
    Architecture(
        "DiTTransformer2DModel",
        "diffusers",
        {"num_attention_heads": 4, "attention_head_dim": 64, "num_layers": 4, "sample_size": 16}
        | {"in_channels": 4, "patch_size": 2, "num_embeds_ada_norm": 10, "norm_type": "ada_norm_zero"}
        | {"norm_elementwise_affine": False, "out_channels": 8, "activation_fn": "gelu-approximate"},
        inputs=lambda dtype, size: {
            "hidden_states": torch.randn(1 + size, 4, 16, 16, dtype=dtype),
            "timestep": torch.full((1 + size,), 10 * size),
            "class_labels": torch.arange(1 + size),
        },
    ),
    Architecture(
        "LSTM",
        "torch",
        build=lambda: nn.LSTM(256, 384, 3, bidirectional=True),
        inputs=lambda dtype, size: {"input": torch.randn(5 + size, 2, 256, dtype=dtype)},
    ),
    Architecture("TransformerEncoder", "torch", build=_encoder, inputs=_padded),
    Architecture(
        "TiedEmbedding",
        "torch",
        build=TiedEmbedding,
        inputs=lambda dtype, size: {"input_ids": torch.randint(0, 8192, (2, 3 + size))},
    ),
    Architecture(
        "Linear of twice the budget",
        "torch",
        build=lambda: nn.Linear(1024, 6144),
        inputs=lambda dtype, size: {"input": torch.randn(1 + 4 * size, 1024, dtype=dtype)},
        memory=lambda total: total // 2,
    ),
]
BY_NAME = {architecture.name: architecture for architecture in ARCHITECTURES}
