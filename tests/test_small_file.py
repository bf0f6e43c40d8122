"""Files that came with a checkpoint are read whole within a limit, and never waited for."""

import ast
import json
import os
from pathlib import Path

import pytest
import weightstream as ws
from support.architectures import TEXT
from weightstream.small_file import read_list, read_object

transformers = pytest.importorskip("transformers")

PACKAGE = Path(ws.__file__).parent
# What they open is the kernel's, or their own.
FREE = {"memory.py", "side_files.py"}


def _saved(folder: Path) -> None:
    config = transformers.LlamaConfig(**TEXT | {"num_hidden_layers": 1, "vocab_size": 99})
    transformers.LlamaForCausalLM(config).save_pretrained(folder)


def _bare_reads(source: str) -> list[int]:
    """Lines that read a file by another way than `small_file`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        mode = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
        reads = not any(str(value).startswith(("w", "a", "x")) for value in mode)
        match node.func:
            case ast.Name("open") if reads:
                found.append(node.lineno)
            case ast.Attribute(_, "read_text" | "read_bytes"):
                found.append(node.lineno)
            case ast.Attribute(ast.Name("json"), "load"):
                found.append(node.lineno)
            case ast.Attribute(_, "open") if any(str(value).startswith("r") for value in mode):
                found.append(node.lineno)
    return found


def test_nothing_in_the_package_reads_a_file_another_way():
    assert _bare_reads("open(p); p.read_text(); json.load(f); p.open('rb'); open(p, 'w')") == [1] * 4
    found = {path.name: _bare_reads(path.read_text()) for path in PACKAGE.rglob("*.py")}
    assert {name for name, lines in found.items() if lines} <= FREE, found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "expected JSON"),
        (b"\xff{}", "expected JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "expected JSON"),
        (b"[" * 100_000, "expected JSON"),
        (b'{"a":' + b"[" * 200 + b"]" * 200 + b"}", "levels"),
        (b"[]", "expected an object, got list"),
        (b"null", "expected an object, got NoneType"),
    ],
)
def test_what_is_no_object_is_refused(tmp_path, text, said):
    (tmp_path / "config.json").write_bytes(text)
    with pytest.raises(ws.CheckpointError, match=said):
        read_object(tmp_path, "config.json")


def test_numbers_of_transformers_are_read(tmp_path):
    (tmp_path / "config.json").write_text('{"time_step_limit": [0.0, Infinity]}')
    assert read_object(tmp_path, "config.json") == {"time_step_limit": [0.0, float("inf")]}
    assert read_list(tmp_path, "modules.json") is None


@pytest.mark.parametrize("name", ["config.json", "modules.json", "generation_config.json"])
@pytest.mark.parametrize("kind", ["pipe", "endless", "large", "folder"])
def test_what_is_no_small_file_is_refused_at_once(tmp_path, name, kind):
    _saved(tmp_path)
    if name == "modules.json":
        (tmp_path / "config.json").unlink()
    (tmp_path / name).unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(tmp_path / name)
    elif kind == "endless":
        (tmp_path / name).symlink_to("/dev/zero")
    elif kind == "large":
        with (tmp_path / name).open("wb") as file:
            file.truncate(50 * 2**30)
    else:
        (tmp_path / name).mkdir()
    with pytest.raises(ws.CheckpointError, match=name):
        ws.load(tmp_path)


def test_a_part_lies_in_its_folder(tmp_path):
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "folder"
    _saved(elsewhere)
    folder.mkdir()
    (folder / "linked").symlink_to(elsewhere)
    for path in ["../elsewhere", str(elsewhere), "linked"]:
        part = {"type": "sentence_transformers.models.Transformer", "path": path}
        (folder / "modules.json").write_text(json.dumps([part]))
        with pytest.raises(ws.CheckpointError, match="expected the name of a file in this folder"):
            ws.load(folder)
