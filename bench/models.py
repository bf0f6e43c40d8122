"""The models that are measured: real architectures, real configurations, random weights."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.random_checkpoint import Part, TensorSpec, write_checkpoint

VERSION = 2  # of what is generated: a folder of another version is made anew

# Qwen/Qwen3-1.7B
QWEN3 = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "dtype": "bfloat16",
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "initializer_range": 0.02,
    "intermediate_size": 6144,
    "max_position_embeddings": 40960,
    "num_attention_heads": 16,
    "num_hidden_layers": 28,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000,
    "tie_word_embeddings": True,
    "use_cache": True,
    "vocab_size": 151936,
}

# Qwen/Qwen3-0.6B, in fp32: many tokens at once for CPUs without bf16 instructions
QWEN3_SMALL = {
    **QWEN3,
    "dtype": "float32",
    "hidden_size": 1024,
    "intermediate_size": 3072,
}

# Qwen/Qwen3-30B-A3B, narrower and with fewer layers: 12 layers of 64 experts, 8 of them for each token
MOE = {
    **QWEN3,
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "decoder_sparse_step": 1,
    "hidden_size": 1024,
    "mlp_only_layers": [],
    "moe_intermediate_size": 768,
    "norm_topk_prob": True,
    "num_attention_heads": 16,
    "num_experts": 64,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 12,
    "num_key_value_heads": 4,
    "router_aux_loss_coef": 0.001,
    "tie_word_embeddings": False,
}

# PixArt-alpha/PixArt-XL-2-256x256, stored in fp32 as there
DIT = {
    "_class_name": "PixArtTransformer2DModel",
    "activation_fn": "gelu-approximate",
    "attention_bias": True,
    "attention_head_dim": 72,
    "attention_type": "default",
    "caption_channels": 4096,
    "cross_attention_dim": 1152,
    "dropout": 0.0,
    "in_channels": 4,
    "norm_elementwise_affine": False,
    "norm_eps": 1e-06,
    "norm_num_groups": 32,
    "norm_type": "ada_norm_single",
    "num_attention_heads": 16,
    "num_embeds_ada_norm": 1000,
    "num_layers": 28,
    "out_channels": 8,
    "patch_size": 2,
    "sample_size": 32,
    "upcast_attention": False,
    "use_additional_conditions": False,
}


@dataclass(frozen=True)
class Model:
    """One model of the benchmark; `budgets` are bytes, or a fraction of the model where below 1."""

    name: str
    title: str
    config: dict[str, Any]
    dtype: str
    stem: str
    shards: int
    budgets: tuple[float, ...]
    workloads: tuple[str, ...]
    tensors: Callable[[dict[str, Any]], list[TensorSpec]]

    @property
    def is_language_model(self) -> bool:
        return "architectures" in self.config


def empty_module(config: dict[str, Any]) -> Any:
    """The module of a configuration on the `meta` device: names and shapes, no memory."""
    import torch

    settings = {name: value for name, value in config.items() if name not in ("architectures", "_class_name")}
    with torch.device("meta"):
        if "_class_name" in config:
            import diffusers

            return getattr(diffusers, config["_class_name"])(**settings)
        from transformers import AutoConfig, AutoModelForCausalLM

        return AutoModelForCausalLM.from_config(AutoConfig.for_model(**settings))


def tensor_of_one_part(name: str, shape: tuple[int, ...]) -> TensorSpec:
    values = 1
    for size in shape:
        values *= size
    return TensorSpec(name, shape, (Part(name, values),))


def module_tensors(config: dict[str, Any]) -> list[TensorSpec]:
    """The tensors as the module names them, a tied one once."""
    module = empty_module(config)
    kept = {name for name, _ in module.named_parameters()} | {name for name, _ in module.named_buffers()}
    return [
        tensor_of_one_part(name, tuple(value.shape))
        for name, value in module.state_dict().items()
        if name in kept  # named_parameters drops the second name of a tied weight
    ]


def per_expert_tensors(config: dict[str, Any]) -> list[TensorSpec]:
    """The layout of the hub, and of `save_pretrained`: every expert's matrices are tensors of their own."""
    tensors: list[TensorSpec] = []
    for tensor in module_tensors(config):
        tensors.extend(expert_matrices(tensor) or [tensor])
    return tensors


def fused_expert_tensors(config: dict[str, Any]) -> list[TensorSpec]:
    """The module's own layout, with the same weights as the hub's.

    It is what `save_pretrained(save_original_format=False)` writes.
    """
    fused = []
    for tensor in module_tensors(config):
        parts = tuple(part for matrix in expert_matrices(tensor) for part in matrix.parts)
        fused.append(TensorSpec(tensor.name, tensor.shape, parts or tensor.parts))
    return fused


def expert_matrices(tensor: TensorSpec) -> list[TensorSpec]:
    """A fused 3-D parameter taken apart, in the order of its bytes; empty for any other tensor."""
    prefix, _, leaf = tensor.name.rpartition(".")
    if not prefix.endswith(".experts"):
        return []
    experts, rows, columns = tensor.shape
    names = ["gate_proj", "up_proj"] if leaf == "gate_up_proj" else ["down_proj"]
    return [
        tensor_of_one_part(f"{prefix}.{expert}.{name}.weight", (rows // len(names), columns))
        for expert in range(experts)
        for name in names
    ]


MODELS = {
    model.name: model
    for model in [
        Model(
            "qwen3", "Qwen3-1.7B, bf16", QWEN3, "BF16", "model", 4,
            (0.34e9, 1e9), ("1 token", "256 tokens", "generate 16"), module_tensors,
        ),
        Model(
            "qwen3-fp32", "Qwen3-0.6B, fp32", QWEN3_SMALL, "F32", "model", 2,
            (0.1, 1 / 3.4), ("1 token", "256 tokens"), module_tensors,
        ),
        Model(
            "moe", "Qwen3-MoE, 64 experts, bf16", MOE, "BF16", "model", 4,
            (0.25,), ("1 token, each another",), per_expert_tensors,
        ),
        Model(
            "moe-fused", "Qwen3-MoE, 64 experts, bf16, fused layout", MOE, "BF16", "model", 4,
            (0.25,), ("1 token, each another",), fused_expert_tensors,
        ),
        Model(
            "dit", "PixArt-XL-2, fp32", DIT, "F32", "diffusion_pytorch_model", 1,
            (0.25,), ("denoising step",), module_tensors,
        ),
    ]
}  # fmt: skip


def prepare(model: Model, folder: Path) -> Path:
    """The checkpoint's folder, generated where it is missing or of another version."""
    path = folder / model.name
    manifest = path / "bench.json"
    wanted = {"version": VERSION, "config": model.config, "dtype": model.dtype, "shards": model.shards}
    if manifest.exists() and (found := json.loads(manifest.read_text())) | wanted == found:
        return path
    shutil.rmtree(path, ignore_errors=True)
    total = write_checkpoint(path, model.stem, model.tensors(model.config), model.dtype, model.shards)
    (path / "config.json").write_text(json.dumps(model.config, indent=2))
    if model.is_language_model:
        write_tokenizer(path)
    os.sync()  # what is still to be written can't be dropped from the page cache
    manifest.write_text(json.dumps({**wanted, "bytes": total}))
    return path


def write_tokenizer(path: Path) -> None:
    """A small tokenizer: the measured passes don't use one, but AirLLM opens it."""
    words = {word: number for number, word in enumerate(["<unk>", "<eos>", "hello", "world"])}
    tokenizer = {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "Whitespace"},
        "model": {"type": "WordLevel", "vocab": words, "unk_token": "<unk>"},
    }
    (path / "tokenizer.json").write_text(json.dumps(tokenizer))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>", "eos_token": "<eos>"}
    (path / "tokenizer_config.json").write_text(json.dumps(settings))


def weight_files(path: Path) -> list[Path]:
    return sorted(path.glob("*.safetensors"))


def weight_bytes(path: Path) -> int:
    """Bytes of all tensors, without headers."""
    return int(json.loads((path / "bench.json").read_text())["bytes"])
