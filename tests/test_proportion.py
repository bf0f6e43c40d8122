"""Models out of proportion to their checkpoint are refused before they are built."""

import json
import threading

import pytest
import torch
import weightstream as ws
from safetensors.torch import save_file
from support.architectures import TEXT
from torch import nn
from weightstream.proportion import in_proportion

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llama")
    config = transformers.LlamaConfig(**TEXT | {"num_hidden_layers": 2, "vocab_size": 99})
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("layers", [30_000, 10_000_000, 10**18])
def test_a_number_of_layers_is_compared_with_the_checkpoint(saved, tmp_path, layers):
    (tmp_path / "model.safetensors").write_bytes((saved / "model.safetensors").read_bytes())
    config = json.loads((saved / "config.json").read_text()) | {"num_hidden_layers": layers}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ws.CheckpointError, match=f"its 21 tensors, got num_hidden_layers of {layers}"):
        ws.load(tmp_path)


def test_a_number_by_any_name_stops_the_building(tmp_path):
    save_file({"weight": torch.zeros(2)}, tmp_path / "model.safetensors")
    built = []
    with (
        pytest.raises(ws.CheckpointError, match="its 1 tensors, got one of 2101"),
        in_proportion(tmp_path, {}),
    ):
        for _ in range(10_000):
            built.append(nn.Sequential(nn.Identity()))
    assert len(built) == 2100
    # Outside, and in other threads, nothing is counted.
    nn.Sequential(*[nn.Identity() for _ in range(3000)])
    with in_proportion(tmp_path, {}):
        thread = threading.Thread(target=lambda: built.append(nn.Sequential(*[nn.Identity()] * 3000)))
        thread.start()
        thread.join()
    assert len(built[-1]) == 3000


def test_a_model_with_many_tensors_has_many_layers(tmp_path):
    save_file({str(number): torch.zeros(1) for number in range(100)}, tmp_path / "model.safetensors")
    with in_proportion(tmp_path, {"num_hidden_layers": 5000, "nested": {"vocab_size": 10**9}}):
        nn.Sequential(*[nn.Linear(1, 1, device="meta") for _ in range(3000)])


def test_a_width_is_compared_with_the_checkpoint(saved, tmp_path):
    (tmp_path / "model.safetensors").write_bytes((saved / "model.safetensors").read_bytes())
    config = json.loads((saved / "config.json").read_text()) | {"intermediate_size": 10**7}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ws.CheckpointError, match="elements and more"):
        ws.load(tmp_path)
