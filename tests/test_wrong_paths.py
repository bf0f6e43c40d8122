"""What every call and command says to a path that is not what it expects: docs/errors.md has it as a table.

`WEIGHTSTREAM_ERRORS=write pytest tests/test_wrong_paths.py` writes the table anew.
"""

import json
import os
import sys
from pathlib import Path

import pytest
import torch
import weightstream as ws
from safetensors.torch import save_file
from support.architectures import TEXT
from torch import nn
from weightstream import _native

transformers = pytest.importorskip("transformers")

PAGE = Path(__file__).parents[1] / "docs" / "errors.md"
MARK = "<!-- made by tests/test_wrong_paths.py -->\n"

CALLS = {
    "ws.load": lambda path: ws.load(path),
    "ws.stream": lambda path: ws.close(ws.stream(_Model(), path)),
    "ws.order": lambda path: ws.order(_Model(), path, "order.json"),
    "ws.Program": lambda path: ws.Program(path),
}
COMMANDS = {
    "inspect": [],
    "plan": ["--memory", "8MB", "--rate", "1GB"],
    "verify": [],
    "pack": ["{path} packed"],
    "unpack": ["{path} unpacked"],
    "run": [],
    "generate": ["A prompt"],
}


class _Model(nn.Module):
    """What the weights in the paths are for."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2, bias=False)


def _checkpoint(file):
    file.parent.mkdir(exist_ok=True, parents=True)
    save_file({"layer.weight": torch.zeros(2, 2)}, file)


@pytest.fixture
def given(tmp_path, monkeypatch):
    """Paths that are not what is expected, by what the page calls them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "model_index.json").write_text("{}")
    for part in ["transformer", "vae"]:
        _checkpoint(tmp_path / "pipeline" / part / "diffusion_pytorch_model.safetensors")
        (tmp_path / "pipeline" / part / "config.json").write_text("{}")
    _checkpoint(tmp_path / "adapter" / "adapter_model.safetensors")
    adapter = {"peft_type": "LORA", "base_model_name_or_path": "owner/base"}
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(adapter))
    _checkpoint(tmp_path / "file.safetensors")
    (tmp_path / "empty").mkdir()
    return {
        "a pipeline's folder": "pipeline",
        "an adapter alone": "adapter",
        "a hub's name": "owner/model",
        "a home folder": "~/model",
        "a file of weights": "file.safetensors",
        "an empty folder": "empty",
        "nothing": "none",
    }


def _said_by_call(call, path):
    try:
        call(path)
    except ws.CheckpointError as error:
        return " ".join(str(error).split())
    return None


def _said_by_command(name, path, capfd):
    capfd.readouterr()
    more = [word.format(path=path.replace("/", " ")) for word in COMMANDS[name]]
    code = _native.run_command(["weightstream", name, path, *more], sys.executable)
    said = capfd.readouterr().err
    assert code in (0, 1), said
    return " ".join(said.removeprefix("error: ").split()) if code else None


def _table(given, capfd):
    rows = ["| given | to | says |", "|---|---|---|"]
    for kind, path in given.items():
        said = {}
        for name, call in CALLS.items():
            said.setdefault(_said_by_call(call, path), []).append(f"`{name}`")
        for name in COMMANDS:
            said.setdefault(_said_by_command(name, path, capfd), []).append(f"`{name}`")
        for words, names in said.items():
            rows.append(f"| {kind}, `{path}` | {', '.join(names)} | {words or 'is opened'} |")
    return "\n".join(rows) + "\n"


def test_the_page_has_what_is_said(given, capfd):
    table = _table(given, capfd)
    before, mark, written = PAGE.read_text().partition(MARK)
    assert mark
    if os.environ.get("WEIGHTSTREAM_ERRORS") == "write":
        PAGE.write_text(before + mark + table)
        return
    assert written == table
    for row in table.splitlines()[2:]:
        said = row.split(" | ")[-1]
        assert said == "is opened |" or ("expected" in said and "got" in said), row


def test_a_cache_that_takes_nothing_is_named(tmp_path, monkeypatch):
    config = transformers.LlamaConfig(**TEXT | {"num_hidden_layers": 1, "vocab_size": 99})
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path / "model")
    (tmp_path / "cache").write_text("a file in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(ws.CheckpointError, match=str(tmp_path / "cache")):
        ws.load(tmp_path / "model", dtype=torch.bfloat16)
