"""Checkpoints of torch.save and torch.export.save, streamed from where they lie."""

import json

import pytest
import torch
import transformers
import weightstream as ws
from support.budget import LEAST
from torch import nn


def module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Embedding(300, 512), nn.Linear(512, 2048), nn.GELU(), nn.Linear(2048, 512), nn.LayerNorm(512)
    )


TOKENS = torch.arange(40).view(2, 20)


def same_as_loaded(path, **kwargs) -> None:
    expected = module()(TOKENS)
    with ws.empty():
        streamed = module()
    ws.stream(streamed, path, memory=LEAST, **kwargs)
    assert torch.equal(streamed(TOKENS), expected)
    assert torch.equal(streamed(TOKENS), expected)
    ws.close(streamed)


@pytest.mark.parametrize("name", ["weights.pt", "pytorch_model.bin"])
def test_a_state_dict(tmp_path, name):
    torch.save(module().state_dict(), tmp_path / name)
    same_as_loaded(tmp_path / name)


def test_a_training_checkpoint(tmp_path):
    loaded = module()
    optimiser = torch.optim.Adam(loaded.parameters())
    loaded(TOKENS).sum().backward()
    optimiser.step()
    torch.save(
        {"model": module().state_dict(), "optimiser": optimiser.state_dict(), "step": 3},
        tmp_path / "step3.pt",
    )
    same_as_loaded(tmp_path / "step3.pt", prefix="model.")


def test_an_exported_program(tmp_path):
    torch.export.save(torch.export.export(module(), (TOKENS,)), tmp_path / "model.pt2")
    same_as_loaded(tmp_path / "model.pt2")


@pytest.mark.parametrize("shards", [1, 3])
def test_a_folder_of_transformers(tmp_path, shards):
    config = transformers.LlamaConfig(
        hidden_size=256, intermediate_size=512, num_hidden_layers=3, num_attention_heads=4, vocab_size=1000
    )
    torch.manual_seed(0)
    reference = transformers.LlamaForCausalLM(config).to(torch.bfloat16).eval()
    reference.config.architectures = ["LlamaForCausalLM"]
    reference.config.save_pretrained(tmp_path)
    state = reference.state_dict()
    names = list(state)
    files = [f"pytorch_model-{i + 1:05}-of-{shards:05}.bin" for i in range(shards)]
    for i, file in enumerate(files):
        torch.save({name: state[name].clone() for name in names[i::shards]}, tmp_path / file)
    weight_map = {name: files[i % shards] for i, name in enumerate(names)}
    if shards == 1:
        (tmp_path / files[0]).rename(tmp_path / "pytorch_model.bin")
    else:
        (tmp_path / "pytorch_model.bin.index.json").write_text(
            json.dumps({"metadata": {}, "weight_map": weight_map})
        )
    model = ws.load(tmp_path, memory=LEAST)
    reference = transformers.LlamaForCausalLM.from_pretrained(tmp_path, dtype="auto")
    tokens = TOKENS % 1000
    with torch.no_grad():
        assert model.dtype == torch.bfloat16
        assert torch.equal(model(tokens).logits, reference(tokens).logits)
    ws.close(model)


class Evil:
    def __reduce__(self):
        return (print, ("executed",))


def test_a_pickle_that_calls_is_refused(tmp_path, capsys):
    torch.save({"weight": torch.ones(3), "more": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(ws.errors.CheckpointError, match=r"evil.pt.*print, which only executing"):
        ws.stream(nn.Linear(3, 1), tmp_path / "evil.pt")
    assert "executed" not in capsys.readouterr().out


def test_what_cannot_be_read_in_place_says_why(tmp_path):
    torch.save(module().state_dict(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(ws.errors.CheckpointError, match="got a bare pickle"):
        ws.stream(module(), tmp_path / "old.pt")
    torch.save({"weight": torch.ones(4, 3).t()}, tmp_path / "view.pt")
    with pytest.raises(ws.errors.CheckpointError, match=r"'weight'|\"weight\".*contiguous"):
        ws.stream(nn.Linear(4, 3, bias=False), tmp_path / "view.pt")
