"""What Python does with files that may be damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import transformers
import weightstream as ws
from transformers.models.llama import modeling_llama  # noqa: F401  (before the fork, not in each case)

MEMORY = "8MiB"


def load(path: Path) -> None:
    """A model of transformers, loaded and run once."""
    _used(ws.load(path, MEMORY))


def load_wider(path: Path) -> None:
    """The same in another dtype, through a side file."""
    _used(ws.load(path, MEMORY, dtype=torch.float64))


def _used(model: torch.nn.Module) -> None:
    with torch.no_grad():
        model(torch.tensor([[1, 2, 3]]))
    ws.close(model)


def stream(path: Path) -> None:
    """A module of one's own, streamed without being strict."""
    module = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=32, tie_word_embeddings=False,
        )
    )  # fmt: skip
    _used(ws.stream(module.eval(), path, MEMORY, strict=False))


def program(path: Path) -> None:
    """An exported program, run twice."""
    opened = ws.Program(path, MEMORY)
    names = opened._program.inputs()
    if "input_ids" in names:
        inputs = {"input_ids": torch.tensor([[1, 2]]), "cache_position": torch.arange(2)}
        opened(**inputs)
    else:
        opened(torch.ones(2, 3, 8, 8))
    opened.resize("2MiB")


CALLS: dict[str, Callable[[Path], None]] = {
    function.__name__: function for function in (load, load_wider, stream, program)
}
