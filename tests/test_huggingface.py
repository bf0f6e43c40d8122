import json

import pytest
import torch
import weightstream as ws
from alignment import realigned
from safetensors.torch import load_file, save_file

transformers = pytest.importorskip("transformers")

TEXT = {"vocab_size": 99, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
TEXT |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64}
SMALL = {"vocab_size": 99, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
WHISPER = {"vocab_size": 99, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "num_mel_bins": 8}
WHISPER |= {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 48}
WHISPER |= {"decoder_ffn_dim": 48, "max_source_positions": 20, "max_target_positions": 20, "pad_token_id": 0}
WHISPER |= {"bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}

MODELS = {
    "Llama": ("LlamaForCausalLM", "LlamaConfig", TEXT),
    "Llama tied": ("LlamaForCausalLM", "LlamaConfig", TEXT | {"tie_word_embeddings": True}),
    "Qwen3": ("Qwen3ForCausalLM", "Qwen3Config", TEXT),
    "Qwen3-MoE": ("Qwen3MoeForCausalLM", "Qwen3MoeConfig", TEXT | EXPERTS),
    "Mixtral": ("MixtralForCausalLM", "MixtralConfig", TEXT | {"num_local_experts": 4}),
    "GPT-2": ("GPT2LMHeadModel", "GPT2Config", {"vocab_size": 99, "n_embd": 32, "n_layer": 2, "n_head": 4}),
    "T5": (
        "T5ForConditionalGeneration",
        "T5Config",
        {"vocab_size": 99, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
        | {"decoder_start_token_id": 0},
    ),
    "BERT": ("BertModel", "BertConfig", SMALL | {"num_attention_heads": 4}),
    "ViT": (
        "ViTForImageClassification",
        "ViTConfig",
        {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
        | {"image_size": 16, "patch_size": 4, "num_labels": 5},
    ),
    "Whisper": ("WhisperForConditionalGeneration", "WhisperConfig", WHISPER),
}  # fmt: skip


def saved(tmp_path, name, dtype=torch.float32):
    model_name, config_name, values = MODELS[name]
    config = getattr(transformers, config_name)(**values)
    model = getattr(transformers, model_name)(config).to(dtype).eval()
    model.config.dtype = dtype
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.1)
    model.save_pretrained(tmp_path)
    return getattr(transformers, model_name)


def inputs(name, dtype=torch.float32):
    ids = torch.randint(3, 99, (2, 7))
    if name == "ViT":
        return {"pixel_values": torch.randn(2, 3, 16, 16, dtype=dtype)}
    if name == "Whisper":
        return {"input_features": torch.randn(2, 8, 40, dtype=dtype), "decoder_input_ids": ids}
    return {"input_ids": ids} | ({"decoder_input_ids": ids} if name == "T5" else {})


def assert_same(left, right):
    assert left.keys() == right.keys()
    for key in left:
        if isinstance(left[key], torch.Tensor):
            assert torch.equal(left[key], right[key]), key


def assert_equal_models(model, reference):
    assert type(model) is type(reference)
    assert model.training is reference.training
    assert {n: (p.dtype, p.shape) for n, p in model.named_parameters()} == {
        n: (p.dtype, p.shape) for n, p in reference.named_parameters()
    }
    ours, theirs = dict(model.named_buffers()), dict(reference.named_buffers())
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    ours, theirs = model.state_dict(), reference.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_load_equals_from_pretrained(tmp_path, name, dtype):
    model_class = saved(tmp_path, name, dtype)
    reference = model_class.from_pretrained(tmp_path, dtype="auto")
    model = ws.load(tmp_path, memory="32MiB")
    assert_equal_models(model, reference)
    assert ws.stats(model).model_bytes == sum(p.nbytes for p in model.parameters())
    given = inputs(name, dtype)
    with torch.no_grad():
        assert_same(model(**given), realigned(reference, model)(**given))


def test_generate_equals_from_pretrained(tmp_path):
    model_class = saved(tmp_path, "Qwen3")
    ids = inputs("Qwen3")["input_ids"]
    model = ws.load(tmp_path)
    reference = realigned(model_class.from_pretrained(tmp_path), model)
    expected = reference.generate(ids, max_new_tokens=5, do_sample=False)
    assert torch.equal(model.generate(ids, max_new_tokens=5, do_sample=False), expected)


def per_expert(tmp_path):
    """A Mixtral checkpoint as they lie on the hub: three tensors for every expert."""
    tensors = {}
    for name, tensor in load_file(tmp_path / "model.safetensors").items():
        assert "gate_up_proj" not in name, "save_pretrained wrote the fused layout"
        tensors[name.replace(".mlp.", ".block_sparse_moe.")] = tensor
    save_file(tensors, tmp_path / "model.safetensors")
    return tensors


def test_a_checkpoint_with_a_tensor_for_every_expert_is_gathered(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model_class = saved(tmp_path, "Mixtral", torch.bfloat16)
    names = per_expert(tmp_path)
    assert any("block_sparse_moe.experts.3.w2.weight" in name for name in names)
    model = ws.load(tmp_path)
    assert_equal_models(model, model_class.from_pretrained(tmp_path, dtype="auto"))
    assert not (tmp_path / "cache").exists(), "a gather needs no side file"


@pytest.mark.parametrize("name", ["Llama", "Qwen3-MoE"])
def test_another_dtype_is_converted_once(tmp_path, monkeypatch, name):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model_class = saved(tmp_path, name, torch.float32)
    reference = model_class.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert_equal_models(ws.load(tmp_path, dtype=torch.bfloat16), reference)
    (converted,) = (tmp_path / "cache/weightstream/converted").iterdir()
    before = converted.stat()
    assert_equal_models(ws.load(tmp_path, dtype=torch.bfloat16), reference)
    assert converted.stat().st_ino == before.st_ino
    tensors = load_file(tmp_path / "model.safetensors")
    save_file({key: value + 1 for key, value in tensors.items()}, tmp_path / "model.safetensors")
    changed = model_class.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert_equal_models(ws.load(tmp_path, dtype=torch.bfloat16), changed)


def test_stored_dtype_other_than_the_config_says(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model_class = saved(tmp_path, "Llama", torch.float32)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"dtype": "bfloat16"}))
    reference = model_class.from_pretrained(tmp_path, dtype="auto")
    assert_equal_models(ws.load(tmp_path), reference)


def test_missing_and_unexpected_keys_are_named(tmp_path):
    saved(tmp_path, "Llama")
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["model.extra.weight"] = tensors.pop("model.norm.weight")
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ws.errors.CheckpointError) as error:
        ws.load(tmp_path)
    assert 'Missing key(s) in state_dict: "model.norm.weight"' in str(error.value)
    assert 'Unexpected key(s) in state_dict: "model.extra.weight"' in str(error.value)


def test_sharded_folder(tmp_path):
    model_class = saved(tmp_path, "Llama")
    reference = model_class.from_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    reference.save_pretrained(tmp_path, max_shard_size="20KB")
    assert (tmp_path / "model.safetensors.index.json").exists()
    assert_equal_models(ws.load(tmp_path), reference)


def test_the_transformer_of_a_sentence_transformers_folder(tmp_path):
    part = tmp_path / "0_Transformer"
    model_class = saved(part, "BERT")
    modules = [
        {"idx": 0, "name": "0", "path": "0_Transformer", "type": "sentence_transformers.models.Transformer"}
    ]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    assert_equal_models(ws.load(tmp_path), model_class.from_pretrained(part))


def test_an_unknown_architecture_is_named(tmp_path):
    saved(tmp_path, "Llama")
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"architectures": ["NoSuchModel"]}))
    with pytest.raises(ws.errors.CheckpointError, match="NoSuchModel"):
        ws.load(tmp_path)


def test_a_folder_without_config(tmp_path):
    with pytest.raises(ws.errors.CheckpointError, match=r"config\.json"):
        ws.load(tmp_path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_diffusers_model(tmp_path, dtype):
    diffusers = pytest.importorskip("diffusers")
    model = diffusers.UNet2DModel(
        sample_size=8, block_out_channels=(32, 32), layers_per_block=1, norm_num_groups=8,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    model.to(dtype).save_pretrained(tmp_path)
    reference = diffusers.UNet2DModel.from_pretrained(tmp_path, torch_dtype=dtype)
    streamed = ws.load(tmp_path)
    assert_equal_models(streamed, reference)
    x = torch.randn(1, 3, 8, 8, dtype=dtype)
    with torch.no_grad():
        assert torch.equal(streamed(x, 3).sample, realigned(reference, streamed)(x, 3).sample)


def test_diffusers_model_in_another_dtype(tmp_path, monkeypatch):
    diffusers = pytest.importorskip("diffusers")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    values = {
        "num_attention_heads": 2,
        "attention_head_dim": 8,
        "num_layers": 2,
        "sample_size": 8,
        "patch_size": 2,
    }
    values |= {
        "num_embeds_ada_norm": 10,
        "norm_num_groups": 4,
        "in_channels": 4,
        "norm_type": "ada_norm_zero",
    }
    diffusers.DiTTransformer2DModel(**values).save_pretrained(tmp_path)
    reference = diffusers.DiTTransformer2DModel.from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
    assert_equal_models(ws.load(tmp_path, dtype=torch.bfloat16), reference)
