"""A small valid example of each kind of file that weightstream reads, and what reads it."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# Arguments of the command; {case} is the folder of the case.
CHECKPOINT = [
    "inspect {path}",
    "inspect --json {path}",
    "verify {path}",
    "pack {path} {case}/out",
    "unpack {path} {case}/out",
    "plan --memory 2MiB --rate 1GB {path}",
    "doctor {case}",
]
PROGRAM = [
    "run {path} --input {case}/x.npy --memory 2MiB --out {case}/y.npy",
    "run {path} --json --input x={case}/x.npy",
]
WORDS = 64


@dataclass
class Kind:
    """One kind of file: how its example is written, which files of it are damaged, and what reads them."""

    name: str
    write: Callable[[Path], None]
    damaged: tuple[str, ...]
    commands: list[str]
    """What the command does with it."""
    calls: tuple[str, ...] = ()
    """What Python does with it: names of functions in calls.py."""
    path: str = ""
    """What is opened, in the folder."""


def _model() -> object:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=WORDS, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=32, tie_word_embeddings=False,
        bos_token_id=None, eos_token_id=7, pad_token_id=0,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def _tokenizer() -> object:
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = [chr(97 + number) for number in range(26)] + ["th", "he", "the", "<unk>"]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("t", "h"), ("h", "e"), ("th", "e")], unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace("  ", " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(pre_tokenizers_pattern(), "isolated"), pre_tokenizers.Metaspace()]
    )
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 40)])
    tokenizer.add_special_tokens([AddedToken("</s>", normalized=False)])
    tokenizer.enable_padding(length=4)
    tokenizer.enable_truncation(8)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def pre_tokenizers_pattern() -> object:
    """Words and what stands between."""
    from tokenizers import Regex

    return Regex(r"\w+|[^\w\s]+")


def _plain(folder: Path) -> None:
    _model().save_pretrained(folder)  # type: ignore[attr-defined]


def _sharded(folder: Path) -> None:
    _model().save_pretrained(folder, max_shard_size="30KB")  # type: ignore[attr-defined]


def _torch(folder: Path) -> None:
    import torch

    model = _model()
    model.config.save_pretrained(folder)  # type: ignore[attr-defined]
    torch.save(model.state_dict(), folder / "pytorch_model.bin")  # type: ignore[attr-defined]


def _sentences(folder: Path) -> None:
    _plain(folder / "0_Transformer")
    modules = [
        {"idx": 0, "name": "0", "path": "0_Transformer", "type": "sentence_transformers.models.Transformer"}
    ]
    (folder / "modules.json").write_text(json.dumps(modules))


def _adapter(folder: Path) -> None:
    import torch
    from safetensors.torch import save_file

    save_file({"base.q.lora_A.weight": torch.randn(4, 32)}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "r": 4, "target_modules": ["q"]})
    )


def _gguf(folder: Path) -> None:
    import gguf
    import numpy

    random = numpy.random.default_rng(0)
    writer = gguf.GGUFWriter(folder / "model.gguf", "llama")
    writer.add_block_count(1)
    writer.add_context_length(32)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(WORDS)
    writer.add_token_list([f"<{number}>" for number in range(WORDS)])
    shapes = {"attn_q": (64, 64), "attn_k": (32, 64), "attn_v": (32, 64), "attn_output": (64, 64),
              "ffn_gate": (64, 64), "ffn_up": (64, 64), "ffn_down": (64, 64)}  # fmt: skip
    weights = {"token_embd": (WORDS, 64), **{f"blk.0.{name}": shape for name, shape in shapes.items()}}
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", numpy.ones(64, numpy.float32))
    for name, shape in weights.items():
        kind = gguf.GGMLQuantizationType.Q8_0
        values = random.normal(0, 0.05, shape).astype(numpy.float32)
        writer.add_tensor(f"{name}.weight", gguf.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _program(folder: Path) -> None:
    import numpy
    import torch
    from support.attack.operators import Operators

    torch.export.save(
        torch.export.export(Operators().eval(), (torch.randn(2, 3, 8, 8),)), folder / "model.pt2"
    )
    numpy.save(folder / "x.npy", numpy.ones((2, 3, 8, 8), numpy.float32))


def _text(folder: Path) -> None:
    import weightstream as ws

    ws.export_text(_model(), folder / "model.pt2", max_length=16, tokenizer=_tokenizer())


def _packed(folder: Path) -> None:
    _plain(folder)
    _pack(folder)


def _packed_program(folder: Path) -> None:
    _program(folder)
    _pack(folder / "model.pt2")


def _pack(source: Path) -> None:
    from support.attack.command import run

    folder = source if source.is_dir() else source.parent
    if run(["pack", str(source), str(folder / "packed")]) != 0:
        raise RuntimeError(f"{source} could not be packed")


def _order(folder: Path) -> None:
    _plain(folder)
    names = ["model.embed_tokens.weight", "lm_head.weight"]
    (folder / "order.json").write_text(json.dumps({"tensors": names}))


GENERATE = ["generate {path} the --tokens 3", "generate {path} abcxyz --tokens 2 --memory 1MiB --stop a"]

KINDS = [
    Kind("safetensors", _plain, ("model.safetensors",), CHECKPOINT, ("load", "stream")),
    Kind("shards", _sharded, ("model*",), CHECKPOINT, ("load", "stream")),
    Kind("config.json", _plain, ("config.json", "generation*"), CHECKPOINT, ("load", "load_wider")),
    Kind("modules.json", _sentences, ("modules.json",), CHECKPOINT, ("load",)),
    Kind("gguf", _gguf, ("model.gguf",), CHECKPOINT, ("load", "stream"), "model.gguf"),
    Kind("torch", _torch, ("pytorch_model.bin",), CHECKPOINT, ("load", "stream")),
    Kind("pt2", _program, ("model.pt2",), PROGRAM + CHECKPOINT, ("program", "stream"), "model.pt2"),
    Kind("npy", _program, ("x.npy",), PROGRAM, (), "model.pt2"),
    Kind("text pt2", _text, ("model.pt2",), GENERATE, ("program",), "model.pt2"),
    Kind("tokenizer.json", _text, ("tokenizer.json", "generation_config.json"), GENERATE, (), "model.pt2"),
    Kind("packed", _packed, ("packed/*",), CHECKPOINT, ("load", "stream"), "packed"),
    Kind(
        "packed pt2",
        _packed_program,
        ("packed/*", "packed/models/*"),
        PROGRAM + CHECKPOINT,
        ("program",),
        "packed",
    ),
    Kind("order", _order, ("order.json",), ["pack {path} {case}/out --order {case}/order.json"]),
    Kind("adapter", _adapter, ("adapter*",), CHECKPOINT, ("load", "stream")),
    Kind("side file", _plain, (".cache/**/*",), [], ("load_wider",)),
]

# transformers reads these with a package that may be missing.
if importlib.util.find_spec("gguf") is None:
    KINDS = [kind for kind in KINDS if kind.name != "gguf"]
