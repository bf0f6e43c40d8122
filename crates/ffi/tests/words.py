"""Writes the folder words: a language model of random weights, its tokenizer, and what it says after PROMPT.

`python crates/ffi/tests/words.py`
"""

from pathlib import Path

import torch
import weightstream as ws
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

FOLDER = Path(__file__).with_suffix("")
PROMPT = [3, 1, 4]

torch.manual_seed(0)
config = LlamaConfig(
    vocab_size=64, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
    num_key_value_heads=1, max_position_embeddings=32, tie_word_embeddings=True, initializer_range=0.9,
    bos_token_id=None, eos_token_id=None, pad_token_id=0,
)  # fmt: skip
model = LlamaForCausalLM(config).eval()
words = Tokenizer(models.WordLevel({f"w{token}": token for token in range(64)}, unk_token="w0"))
words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
FOLDER.mkdir(exist_ok=True)
ws.export_text(
    model,
    FOLDER / "model.pt2",
    max_length=24,
    tokenizer=PreTrainedTokenizerFast(tokenizer_object=words),
)
with torch.no_grad():
    said = model.generate(torch.tensor([PROMPT]), max_new_tokens=16, do_sample=False)[0, len(PROMPT) :]
text = " ".join(f"w{token}" for token in said.tolist())
print(text)
(FOLDER / "said.txt").write_text(text)
