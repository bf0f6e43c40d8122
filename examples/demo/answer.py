"""One model's answer, as JSON, from a process whose peak memory is the model's alone.

python answer.py generate|search FOLDER [MEMORY IN BYTES; without it the model is loaded whole]
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "TOKENIZERS_PARALLELISM": "false"}

import torch
import transformers
import weightstream as ws
from transformers.utils.logging import disable_progress_bar

QUESTION = "What does a computer use memory for? One sentence."
QUERY = "What should I do when my program needs more memory than the computer has?"
SENTENCES = [
    "Working sets larger than RAM can be streamed from disk as they are used.",
    "Ice is less dense than liquid water, so it floats.",
    "The bakery on the corner opens at six in the morning.",
    "Memory that is rarely touched can be paged out to make room.",
    "A violin has four strings tuned in perfect fifths.",
    "The night train to Vienna leaves from platform nine.",
    "Solid-state drives read several gigabytes per second.",
    "Tomatoes ripen faster next to a banana.",
    "Buying more RAM is the simplest cure for an application that runs out of it.",
    "The referee stopped the match because of fog.",
    "Glaciers carve valleys over thousands of years.",
    "A good compost heap needs both green and brown material.",
]


@torch.inference_mode()
def generate(model: torch.nn.Module, tokenizer: Any) -> tuple[Any, Sequence[torch.Tensor]]:
    """Greedy text, and the logits of every token of it."""
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": QUESTION}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    answer = model.generate(
        **prompt, max_new_tokens=48, do_sample=False, return_dict_in_generate=True, output_logits=True
    )
    text = tokenizer.decode(answer.sequences[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
    return text.strip(), answer.logits


@torch.inference_mode()
def search(model: torch.nn.Module, tokenizer: Any) -> tuple[Any, Sequence[torch.Tensor]]:
    """The three sentences closest to the query with their similarities, and every embedding."""

    def embed(texts: list[str]) -> torch.Tensor:
        batch = tokenizer(texts, padding=True, return_tensors="pt")
        mask = batch["attention_mask"].unsqueeze(-1)
        hidden = model(**batch).last_hidden_state
        return torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1))

    sentences = torch.cat([embed(SENTENCES[first : first + 4]) for first in range(0, len(SENTENCES), 4)])
    query = embed([QUERY])
    similarity, best = (sentences @ query[0]).topk(3)
    found = [
        (value, SENTENCES[index]) for value, index in zip(similarity.tolist(), best.tolist(), strict=True)
    ]
    return found, [sentences, query]


def digest(tensors: Sequence[torch.Tensor]) -> str:
    """SHA-256 of the tensors' bytes."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()


def resident(field: str) -> int | None:
    """Bytes of this process in memory, now (VmRSS) or at most so far (VmHWM); None if that is not known."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(field))


def main(task: str, folder: str, memory: str | None = None) -> None:
    """Load, answer, and print what was answered and what it took."""
    disable_progress_bar()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    # Naming the class imports its code, so that neither time nor memory below counts that.
    kind, answer = {
        "generate": lambda: (transformers.LlamaForCausalLM, generate),
        "search": lambda: (transformers.BertModel, search),
    }[task]()
    empty = resident("VmRSS")

    start = time.perf_counter()
    model = ws.load(folder, memory=int(memory)) if memory else kind.from_pretrained(folder, dtype="auto")
    loaded = time.perf_counter()
    result, numbers = answer(model.eval(), tokenizer)
    end = time.perf_counter()

    report = {
        "result": result,
        "digest": digest(numbers),
        "numbers": sum(tensor.numel() for tensor in numbers),
        "load_seconds": loaded - start,
        "answer_seconds": end - loaded,
        "empty_bytes": empty,
        "peak_bytes": resident("VmHWM"),
        "stats": str(ws.stats(model)) if memory else None,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
