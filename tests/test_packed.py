"""Packed checkpoints through the command that users have, and models that run from them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import weightstream as ws
from safetensors.torch import load_file
from support.equality import assert_equal
from test_huggingface import MODELS, inputs, saved

COMMAND = Path(sys.executable).with_name("weightstream")


def weightstream(*arguments, code=0):
    done = subprocess.run([COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def test_the_command_is_installed_and_starts_without_torch():
    assert weightstream("--version").split() == ["weightstream", ws.__version__]
    script = "import sys, weightstream_command as w; w._native(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
    assert "torch" in weightstream("doctor")


def run(model, given):
    with torch.inference_mode():
        return model(**given)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["Llama tied", "Qwen3-MoE", "GPT-2", "T5", "BERT", "Whisper"])
def test_a_packed_model_gives_the_same_bits(tmp_path, name, dtype):
    original, packed, back = tmp_path / "original", tmp_path / "packed", tmp_path / "back"
    model_class = saved(original, name, dtype)
    given = inputs(name, dtype)
    expected = run(model_class.from_pretrained(original, dtype="auto").eval(), given)
    streamed = ws.load(original, memory="16MiB", model_class=model_class)
    with ws.order(streamed, original, tmp_path / "order.json"):
        plain = run(streamed, given)
    assert_equal(plain, expected)

    order = json.loads((tmp_path / "order.json").read_text())["tensors"]
    tensors = load_file(original / "model.safetensors")
    assert set(order) <= set(tensors) and len(order) == len(set(order)) >= len(tensors) // 2
    weightstream("pack", original, packed, "--order", tmp_path / "order.json")
    assert "every byte" in weightstream("verify", packed)
    for _ in range(2):
        assert_equal(run(ws.load(packed, memory="16MiB", model_class=model_class), given), expected)

    weightstream("unpack", packed, back)
    assert_equal(load_file(back / "model.safetensors"), tensors)
    assert_equal(run(model_class.from_pretrained(back, dtype="auto").eval(), given), expected)


def test_the_order_is_that_of_use(tmp_path):
    original = tmp_path / "original"
    saved(original, "Llama")
    model = ws.load(original, memory="16MiB")
    with ws.order(model, original, tmp_path / "order.json"):
        run(model, inputs("Llama"))
    order = json.loads((tmp_path / "order.json").read_text())["tensors"]
    assert order[0] == "model.embed_tokens.weight" and order[-1] == "lm_head.weight"
    layers = [int(name.split(".")[2]) for name in order if ".layers." in name]
    assert layers == sorted(layers) and len(order) == len(load_file(original / "model.safetensors"))
    weightstream("pack", original, tmp_path / "packed", "--order", tmp_path / "order.json")
    shown = json.loads(weightstream("inspect", "--json", tmp_path / "packed"))
    assert [tensor["name"] for tensor in shown["tensors"]] == order


def test_damage_is_an_error_that_names_the_tensor_and_never_a_number(tmp_path):
    original, packed = tmp_path / "original", tmp_path / "packed"
    torch.manual_seed(1)
    saved(original, "Llama", torch.bfloat16)
    given = inputs("Llama")
    weightstream("pack", original, packed)
    expected = run(ws.load(packed, memory="16MiB"), given)
    chunks, manifest = packed / "chunks-00001.weightstream", packed / "manifest.weightstream"
    random = torch.Generator().manual_seed(7)
    for path, error in [(chunks, ws.ReadError), (manifest, ws.CheckpointError)] * 10:
        whole = path.read_bytes()
        position = int(torch.randint(len(whole) * 8, (), generator=random))
        damaged = bytearray(whole)
        damaged[position // 8] ^= 1 << position % 8
        path.write_bytes(damaged)
        # Some damage is met as early as that: small buffers are loaded at once.
        with pytest.raises(error) as raised:
            run(ws.load(packed, memory="16MiB"), given)
        assert error is not ws.ReadError or "chunks-00001" in str(raised.value)
        weightstream("verify", packed, code=1)
        path.write_bytes(whole)
    assert_equal(run(ws.load(packed, memory="16MiB"), given), expected)


@pytest.mark.parametrize("name", [n for n in MODELS if n in ("Llama", "Llama tied", "Qwen3-MoE")])
def test_a_plan_is_made_without_running(tmp_path, name):
    saved(tmp_path / "model", name)
    said = weightstream("plan", tmp_path / "model", "--memory", "16MiB", "--compute", "0.1")
    assert "computing" in said and "least memory" in said
    refused = weightstream("plan", tmp_path / "model", "--memory", "1MiB", code=1)
    assert "the least that works" in refused
