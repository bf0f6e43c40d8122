"""Language models as programs that `weightstream generate` runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch.export import Dim, export, save
from torch.fx import GraphModule


def export_text(
    model: Any, path: str | os.PathLike[str], *, max_length: int = 1024, tokenizer: Any = None
) -> None:
    """Write a causal language model of transformers to `path`, a `.pt2` file.

    The program takes `input_ids` `[1, length]` and `cache_position` `[length]` and gives the logits of the
    token after them, `[1, 1, vocabulary]`. One program serves the prompt and each token after it: its KV
    cache, of `max_length` tokens, is state. `tokenizer` is saved beside it, and generation_config.json.

    Raises `ValueError` for models whose layers don't all keep a plain cache of `max_length` tokens.
    """
    program = export(
        TextModel(model.eval(), max_length),
        (),
        {"input_ids": torch.zeros(1, 2, dtype=torch.int64), "cache_position": torch.arange(2)},
        dynamic_shapes={
            "input_ids": {1: (length := Dim("length", min=1, max=max_length))},
            "cache_position": {0: length},
        },
        strict=False,
    )
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, GraphModule) else []:
            # Which lines of whose files it came from: a third of the program's description.
            node.meta.pop("stack_trace", None)
    save(program, path)
    folder = Path(path).parent
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    if getattr(model, "generation_config", None) is not None:
        model.generation_config.save_pretrained(folder)


class TextModel(torch.nn.Module):
    """A causal language model and its cache, whose tensors export sees written to: they become state."""

    def __init__(self, model: Any, max_length: int) -> None:
        super().__init__()
        from transformers import StaticCache
        from transformers.cache_utils import StaticLayer

        config = model.config.get_text_config()
        cache: Any = StaticCache(config=config, max_cache_len=max_length)
        for number, layer in enumerate(cache.layers):
            if type(layer) is not StaticLayer:
                raise ValueError(f"layer {number}: expected a plain cache, got {type(layer).__name__}")
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        cache.early_initialization(1, heads, size, model.dtype, model.device)
        self.model = model
        self.cache = cache

    def forward(self, input_ids: torch.Tensor, cache_position: torch.Tensor) -> torch.Tensor:
        """Logits of the token after the last of `input_ids`, which are at `cache_position` of the text."""
        for layer in self.cache.layers:
            layer.cumulative_length.copy_(cache_position[0])
        outputs = self.model(
            input_ids=input_ids, past_key_values=self.cache, use_cache=True, logits_to_keep=1
        )
        logits: torch.Tensor = outputs.logits
        return logits
