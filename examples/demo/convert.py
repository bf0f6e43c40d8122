"""A GGUF model as bf16 safetensors in Hugging Face layout: `python convert.py FOLDER_WITH_GGUF TARGET`."""

import os
import sys
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "TQDM_DISABLE": "1"}

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

source, target = map(Path, sys.argv[1:])
(gguf,) = source.glob("*.gguf")
AutoTokenizer.from_pretrained(source, gguf_file=gguf.name).save_pretrained(target)
model = AutoModelForCausalLM.from_pretrained(
    source, gguf_file=gguf.name, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
)
model.save_pretrained(target)
