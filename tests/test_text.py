"""Exported language models say what transformers says, token by token, also in a quarter of their memory."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import weightstream as ws
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
)

pytestmark = pytest.mark.current

COMMAND = Path(sys.executable).with_name("weightstream")
WORDS = 2048
PROMPT = [3, 1, 4, 1, 5, 9, 2, 6]


def words(tokens):
    return " ".join(f"w{token}" for token in tokens)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """(model, program): a program beside its tokenizer, in which token 7 is the word w7."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    torch.manual_seed(0)
    # Far from the usual initialisation, whose text would be one token again and again.
    config = LlamaConfig(
        vocab_size=WORDS, hidden_size=256, intermediate_size=512, num_hidden_layers=6,
        num_attention_heads=8, num_key_value_heads=2, max_position_embeddings=256,
        tie_word_embeddings=False, initializer_range=0.3,
        bos_token_id=None, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    tokenizer = Tokenizer(models.WordLevel({f"w{token}": token for token in range(WORDS)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    path = tmp_path_factory.mktemp("text") / "model.pt2"
    ws.export_text(model, path, max_length=96, tokenizer=PreTrainedTokenizerFast(tokenizer_object=tokenizer))
    return model, path


def expected(model, count):
    with torch.no_grad():
        text = model.generate(torch.tensor([PROMPT]), max_new_tokens=count, do_sample=False)
    return text[0, len(PROMPT) :].tolist()


def generate(path, *options):
    command = [COMMAND, "generate", path, words(PROMPT), *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_sixty_four_tokens_are_those_of_transformers(exported):
    model, path = exported
    tokens = expected(model, 64)
    assert len(set(tokens)) > 16, "a text of few words would show little"
    for memory in [[], ["--memory", sum(p.numel() for p in model.parameters())]]:
        said = generate(path, "--tokens", 64, *memory)
        assert said.returncode == 0, said.stderr
        assert said.stdout.split() == words(tokens).split()
        assert "64 tokens (as many as were wanted)" in said.stderr


def test_texts_end_where_they_are_told_to_and_where_the_cache_ends(exported):
    model, path = exported
    tokens = expected(model, 88)
    last = next(place for place, token in enumerate(tokens) if place > 3 and token not in tokens[:place])
    assert generate(path, "--stop", f"w{tokens[last]}").stdout.split() == words(tokens[:last]).split()
    config = path.with_name("generation_config.json")
    before = config.read_text()
    config.write_text(json.dumps({"eos_token_id": [tokens[last]]}))
    assert generate(path).stdout.split() == words(tokens[:last]).split()
    config.write_text(before)
    full = generate(path, "--tokens", 500)
    # The token after the cache's last one is still known.
    assert full.stdout.split()[:88] == words(tokens).split()
    assert len(full.stdout.split()) == 96 - len(PROMPT) + 1
    assert "the model's cache is full" in full.stderr


def test_samples_repeat_with_their_seed(exported):
    _, path = exported
    options = ["--tokens", 12, "--temperature", 1.5, "--top-k", 50, "--top-p", 0.95]
    first, again, other = (generate(path, *options, "--seed", seed) for seed in (1, 1, 2))
    assert first.returncode == 0, first.stderr
    assert first.stdout == again.stdout != other.stdout


def test_what_is_no_text_model_is_told(exported, tmp_path):
    _, path = exported
    other = tmp_path / "other.pt2"
    torch.export.save(torch.export.export(torch.nn.Linear(2, 2), (torch.zeros(1, 2),)), other)
    said = generate(other, "--tokenizer", path.with_name("tokenizer.json"))
    assert said.returncode == 1 and "expected a program of a language model" in said.stderr
    assert "expected a token" in generate(path, "--stop", "nothing").stderr
    assert "temperature" in generate(path, "--temperature=-1").stderr
    assert "tokenizer" in generate(path, "--tokenizer", path).stderr
    long = subprocess.run([COMMAND, "generate", path, words([1] * 97)], capture_output=True, text=True)
    assert long.returncode == 1 and "at most 96 more tokens" in long.stderr


def test_models_with_windows_are_refused(tmp_path):
    config = MistralConfig(
        vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, sliding_window=8,
    )  # fmt: skip
    with pytest.raises(ValueError, match="layer 0: expected a plain cache, got StaticSlidingWindowLayer"):
        ws.export_text(MistralForCausalLM(config), tmp_path / "model.pt2", max_length=32)
