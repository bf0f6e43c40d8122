"""A damaged configuration is a CheckpointError, whatever it is that a library runs into."""

import json

import pytest
import weightstream as ws
from support.architectures import TEXT

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llama")
    config = transformers.LlamaConfig(**TEXT | {"num_hidden_layers": 1, "vocab_size": 99})
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def _copied(saved, folder, **changes):
    (folder / "model.safetensors").write_bytes((saved / "model.safetensors").read_bytes())
    config = json.loads((saved / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    "changes",
    [
        {"architectures": "LlamaForCausalLM"},
        {"architectures": [7]},
        {"architectures": ["NoSuchModel"]},
        {"architectures": None, "model_type": "nothing"},
        {"model_type": ["llama"]},
        {"model_type": None},
        {"hidden_size": "large"},
        {"hidden_size": -64},
        {"num_attention_heads": 0},
        {"num_key_value_heads": None},
        {"rope_parameters": "yes"},
        {"hidden_act": "none"},
        {"dtype": "float99"},
        {"auto_map": 7, "architectures": []},
        {"_class_name": ["LlamaForCausalLM"]},
        {"_class_name": "NoSuchModel"},
        {"configuration_files": ["../config.4.json"]},
    ],
    ids=lambda changes: json.dumps(changes),
)
def test_a_damaged_value_is_a_checkpoint_error(saved, tmp_path, changes):
    _copied(saved, tmp_path, **changes)
    with pytest.raises(ws.CheckpointError, match=str(tmp_path)):
        ws.load(tmp_path)


@pytest.mark.parametrize("parts", [[7], [{}], [{"type": 7}], [{"type": "x.Transformer", "path": 7}]])
def test_damaged_modules_are_checkpoint_errors(saved, tmp_path, parts):
    _copied(saved, tmp_path)
    (tmp_path / "config.json").unlink()
    (tmp_path / "modules.json").write_text(json.dumps(parts))
    with pytest.raises(ws.CheckpointError, match=str(tmp_path)):
        ws.load(tmp_path)


def test_an_argument_of_the_callers_stays_a_type_error(saved):
    with pytest.raises(TypeError, match="nonsense"):
        ws.load(saved, nonsense=1)
