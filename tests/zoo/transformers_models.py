"""Tiny models of every configuration class of transformers, made by rule."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from tests.zoo.specimens import Made, Specimen, check_size

#: Sizes of tiny models, by the names that configurations have for them.
SIZES = {
    "vocab_size": 99,
    "hidden_size": 32,
    "d_model": 32,
    "n_embd": 32,
    "dim": 32,
    "embed_dim": 32,
    "embedding_size": 32,
    "projection_dim": 32,
    "intermediate_size": 48,
    "ffn_dim": 48,
    "d_ff": 48,
    "d_kv": 8,
    "n_inner": 48,
    "head_dim": 8,
    "num_hidden_layers": 2,
    "num_layers": 2,
    "n_layer": 2,
    "n_layers": 2,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "num_decoder_layers": 2,
    "num_encoder_layers": 2,
    "num_attention_heads": 4,
    "num_heads": 4,
    "n_head": 4,
    "n_heads": 4,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "num_key_value_heads": 2,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "moe_intermediate_size": 24,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "max_position_embeddings": 128,
    "n_positions": 128,
    "image_size": 32,
    "patch_size": 8,
    "num_mel_bins": 16,
    "max_source_positions": 64,
    "max_target_positions": 64,
    "num_queries": 6,
}
DEPTHS = {name: size for name, size in SIZES.items() if "layer" in name} | {"vocab_size": 99}
#: Kinds of models, by the names of transformers' tables of them.
HEADS = [
    "MODEL_MAPPING_NAMES",
    "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "MODEL_FOR_MASKED_LM_MAPPING_NAMES",
    "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
    "MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES",
    "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES",
    "MODEL_FOR_MULTIPLE_CHOICE_MAPPING_NAMES",
    "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
    "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES",
    "MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES",
    "MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES",
    "MODEL_FOR_DEPTH_ESTIMATION_MAPPING_NAMES",
    "MODEL_FOR_CTC_MAPPING_NAMES",
    "MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES",
    "MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES",
    "MODEL_FOR_IMAGE_TO_IMAGE_MAPPING_NAMES",
    "MODEL_FOR_VIDEO_CLASSIFICATION_MAPPING_NAMES",
    "MODEL_FOR_BACKBONE_MAPPING_NAMES",
    "MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING_NAMES",
    "MODEL_FOR_KEYPOINT_DETECTION_MAPPING_NAMES",
    "MODEL_FOR_TEXT_TO_WAVEFORM_MAPPING_NAMES",
]


def specimens() -> Iterator[Specimen]:
    """The base and one head of each configuration class; which head goes round, so that all kinds occur."""
    from transformers.models.auto import modeling_auto
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    for number, kind in enumerate(CONFIG_MAPPING_NAMES):
        names: list[str] = []
        for head in HEADS:
            of_kind = getattr(modeling_auto, head).get(kind, ())
            names += [of_kind] if isinstance(of_kind, str) else of_kind
        base, heads = names[:1], [name for name in dict.fromkeys(names) if name != names[0]]
        for name in base + ([heads[number % len(heads)]] if heads else []):
            yield Specimen("transformers", name, lambda kind=kind, name=name: make(kind, name))


def make(kind: str, name: str) -> Made:
    """A tiny `name` and inputs; less is shrunk where the rule gives a model that can't be called."""
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    for rule in (SIZES, DEPTHS):
        try:
            config = shrunk(CONFIG_MAPPING[kind], rule)
            with torch.device("meta"):
                check_size(getattr(transformers, name)._from_config(copy.deepcopy(config)))
            model = getattr(transformers, name)._from_config(config).eval()
            given = inputs(model, config)
            with torch.no_grad():
                model(**given)
        except Exception:
            if rule is DEPTHS:
                raise
            continue
        return model, (), given
    raise AssertionError("unreachable")


def shrunk(kind: type, rule: dict[str, int]) -> Any:
    """A configuration of `kind` whose sizes are small; nested ones too."""
    config = kind()
    values = config.to_dict()
    given: dict[str, Any] = {}
    for name, value in values.items():
        nested = getattr(config, name, None)
        if hasattr(nested, "to_dict") and hasattr(nested, "model_type"):
            given[name] = shrunk(type(nested), rule).to_dict()
        elif type(value) is int and name in rule:
            given[name] = min(rule[name], value)
        elif rule is SIZES and isinstance(value, list) and value and all(type(one) is int for one in value):
            given |= small_list(name, value)
    if "pad_token_id" in values:
        given["pad_token_id"] = 0
    for token in ("bos_token_id", "eos_token_id", "decoder_start_token_id"):
        if isinstance(values.get(token), int):
            given[token] = 1
    if (
        values.get("num_key_value_heads") == values.get("num_attention_heads")
        and "num_attention_heads" in given
    ):
        given["num_key_value_heads"] = given["num_attention_heads"]
    kinds = values.get("layer_types")
    if isinstance(kinds, list):
        # One layer of each kind at least.
        distinct = list(dict.fromkeys(kinds))
        count = max(given.get("num_hidden_layers", 2), len(distinct))
        given |= {"layer_types": (distinct + kinds)[:count], "num_hidden_layers": count}
    config = kind(**given)
    for switch in ("use_cache", "output_hidden_states"):
        if hasattr(config, switch):
            setattr(config, switch, False)
    return config


def small_list(name: str, value: list[int]) -> dict[str, list[int]]:
    """Depths become 1, widths small multiples of 16."""
    if any(word in name for word in ("depth", "layers", "blocks")):
        return {name: [1 for _ in value]}
    if any(word in name for word in ("hidden_sizes", "embed_dim", "channels")):
        return {name: [16 * (place + 1) for place in range(len(value))]}
    return {}


def inputs(model: nn.Module, config: Any) -> dict[str, Any]:
    """Random inputs by the names of the model's own parameters."""
    accepted = inspect.signature(model.forward).parameters
    main = getattr(model, "main_input_name", "")
    given: dict[str, Any] = {}
    if main == "input_ids" or ("input_ids" in accepted and main == "pixel_values"):
        given |= text_inputs(model, config, "attention_mask" in accepted)
    if "decoder_input_ids" in accepted:
        given["decoder_input_ids"] = ids(config)[:, :5]
    if main.startswith("pixel_values"):
        given[main] = images(config, video=main.endswith("videos"))
    elif main == "input_values":
        given[main] = torch.randn(2, 2048)
    elif main == "input_features":
        bins = getattr(config, "num_mel_bins", 16)
        shape = (bins, 128) if "Whisper" in type(model).__name__ else (64, bins)
        given[main] = torch.randn(2, *shape)
    if "use_cache" in accepted:
        given["use_cache"] = False
    return given


def ids(config: Any) -> torch.Tensor:
    """Two rows of tokens, none of them special."""
    text = getattr(config, "text_config", config)
    vocabulary = min(getattr(text, "vocab_size", None) or 99, 99)
    return torch.randint(2, vocabulary - 1, (2, 10))


def text_inputs(model: nn.Module, config: Any, masked: bool) -> dict[str, Any]:
    """Tokens, and a mask that leaves some of them out."""
    tokens = ids(config)
    if "MultipleChoice" in type(model).__name__:
        tokens = tokens[:, None].repeat(1, 2, 1)
    given = {"input_ids": tokens}
    if masked:
        given["attention_mask"] = torch.ones_like(tokens)
        given["attention_mask"][-1, ..., -3:] = 0
    return given


def images(config: Any, video: bool) -> torch.Tensor:
    """Images of the size that the configuration names, or clips of them."""
    vision = getattr(config, "vision_config", config)
    side = getattr(vision, "image_size", 32)
    side = side if isinstance(side, int) else 32
    frames = [getattr(config, "num_frames", 4)] if video else []
    return torch.randn(2, *frames, getattr(vision, "num_channels", 3), side, side)
