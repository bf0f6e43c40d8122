"""What `load` is asked for is what from_pretrained makes of it, or is refused by name."""

import json
import threading

import pytest
import torch
import weightstream as ws
from safetensors.torch import save_file
from test_huggingface import MODELS, SMALL, TEXT, assert_equal_models

transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.filterwarnings("ignore")


def llama(folder, value, **how):
    """A Llama all of whose weights are `value`, saved."""
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**TEXT))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)
    model.save_pretrained(folder, **how)
    return type(model)


def value(model):
    return {float(weight.unique()) for weight in model.parameters()}


@pytest.mark.parametrize("shards", [{}, {"max_shard_size": "20KB"}], ids=["whole", "sharded"])
def test_variant(tmp_path, shards):
    llama(tmp_path, 1, **shards)
    model_class = llama(tmp_path, 2, variant="fp16", **shards)
    assert value(ws.load(tmp_path)) == {1}
    model = ws.load(tmp_path, variant="fp16")
    assert value(model) == {2}
    assert_equal_models(model, model_class.from_pretrained(tmp_path, variant="fp16"))


def test_subfolder(tmp_path):
    llama(tmp_path, 1)
    llama(tmp_path / "inside", 2)
    assert value(ws.load(tmp_path, subfolder="inside")) == {2}
    with pytest.raises(ws.errors.CheckpointError, match="nowhere"):
        ws.load(tmp_path, subfolder="nowhere")


def test_use_safetensors(tmp_path):
    llama(tmp_path, 1)
    state = {name: torch.full_like(weight, 2) for name, weight in ws.load(tmp_path).state_dict().items()}
    torch.save(state, tmp_path / "pytorch_model.bin")
    assert value(ws.load(tmp_path)) == value(ws.load(tmp_path, use_safetensors=True)) == {1}
    assert value(ws.load(tmp_path, use_safetensors=False)) == {2}


def test_a_config_given_goes_before_the_folders(tmp_path):
    llama(tmp_path, 1)
    config = transformers.LlamaConfig(**TEXT, rms_norm_eps=0.5)
    assert ws.load(tmp_path, config=config).config.rms_norm_eps == 0.5
    assert ws.load(tmp_path, rms_norm_eps=0.25).config.rms_norm_eps == 0.25


def test_dtype_in_all_its_words(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    llama(tmp_path, 1)
    for words in (
        {"dtype": torch.bfloat16},
        {"dtype": "bfloat16"},
        {"torch_dtype": torch.bfloat16},
        {"torch_dtype": "bfloat16"},
        {"dtype": torch.bfloat16, "torch_dtype": torch.bfloat16},
    ):
        assert ws.load(tmp_path, **words).dtype == torch.bfloat16
    for words in ({"dtype": "auto"}, {"torch_dtype": "auto"}, {"dtype": None}):
        assert ws.load(tmp_path, **words).dtype == torch.float32
    with pytest.raises(TypeError, match="say the same"):
        ws.load(tmp_path, dtype=torch.bfloat16, torch_dtype=torch.float16)
    with pytest.raises(TypeError, match="nonsense"):
        ws.load(tmp_path, dtype="nonsense")


@pytest.mark.parametrize(
    "argument",
    [
        {"no_such_argument": 1},
        {"device_map": "auto"},
        {"quantization_config": {"quant_method": "fp8"}},
        {"revision": "v1"},
        {"state_dict": {}},
        {"gguf_file": "model.gguf"},
        {"tp_plan": "auto"},
    ],
    ids=lambda argument: next(iter(argument)),
)
@pytest.mark.parametrize("library", ["transformers", "diffusers"])
def test_what_can_not_be_done_is_refused_by_name(tmp_path, library, argument):
    if library == "transformers":
        llama(tmp_path, 1)
    else:
        autoencoder(tmp_path, 1)
    with pytest.raises(TypeError, match=next(iter(argument))):
        ws.load(tmp_path, **argument)


def test_what_means_the_cpu_is_no_device_map(tmp_path):
    llama(tmp_path, 1)
    assert value(ws.load(tmp_path, device_map="cpu", revision="main", low_cpu_mem_usage=True)) == {1}


def test_a_packed_folder_is_one_checkpoint(tmp_path):
    (tmp_path / "manifest.weightstream").touch()
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "llama", "architectures": ["LlamaModel"]})
    )
    with pytest.raises(TypeError, match="variant"):
        ws.load(tmp_path, variant="fp16")


def autoencoder(folder, value, **how):
    diffusers = pytest.importorskip("diffusers")
    model = diffusers.AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, sample_size=8)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)
    model.save_pretrained(folder, **how)
    return type(model)


def test_a_model_of_diffusers(tmp_path):
    model_class = autoencoder(tmp_path, 1)
    autoencoder(tmp_path, 2, variant="fp16")
    autoencoder(tmp_path / "only" / "inside", 3)
    torch.save(
        {k: v + 3 for k, v in ws.load(tmp_path).state_dict().items()},
        tmp_path / "diffusion_pytorch_model.bin",
    )
    assert value(ws.load(tmp_path)) == {1}
    assert value(ws.load(tmp_path, low_cpu_mem_usage=False, use_safetensors=True)) == {1}
    assert value(ws.load(tmp_path, variant="fp16")) == {2}
    assert value(ws.load(tmp_path / "only", subfolder="inside")) == {3}
    assert value(ws.load(tmp_path, use_safetensors=False)) == {4}
    reference = model_class.from_pretrained(tmp_path, torch_dtype=torch.float16)
    assert_equal_models(ws.load(tmp_path, torch_dtype=torch.float16), reference)
    config = dict(reference.config) | {"scaling_factor": 0.5}
    assert ws.load(tmp_path, config=config).config.scaling_factor == 0.5
    assert "load_config" not in vars(model_class), "nothing stays replaced"


def test_attention_of_diffusers_by_its_old_names(tmp_path):
    model_class = autoencoder(tmp_path, 1)
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = {}
    for number, (name, tensor) in enumerate(ws.load(tmp_path).state_dict().items()):
        for new, former in old.items() if ".attentions." in name else ():
            name = name.replace(new, former)
        tensors[name] = torch.full_like(tensor, number)
    assert any("proj_attn" in name for name in tensors)
    save_file(tensors, tmp_path / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
    assert_equal_models(ws.load(tmp_path), model_class.from_pretrained(tmp_path))


def test_a_class_that_diffusers_does_not_export(tmp_path):
    pytest.importorskip("diffusers")
    from diffusers.pipelines.ltx.modeling_latent_upsampler import LTXLatentUpsamplerModel

    made = LTXLatentUpsamplerModel(in_channels=8, mid_channels=32, num_blocks_per_stage=1)
    made.save_pretrained(tmp_path)
    assert_equal_models(ws.load(tmp_path), LTXLatentUpsamplerModel.from_pretrained(tmp_path))


def test_a_whole_pipeline_says_how(tmp_path):
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(ws.errors.CheckpointError, match=r"whole pipeline.*Budget"):
        ws.load(tmp_path)


REMOTE = """
import torch
from transformers import PreTrainedModel, PretrainedConfig

class OwnConfig(PretrainedConfig):
    model_type = "own"

class OwnBase(PreTrainedModel):
    config_class = OwnConfig
    def __init__(self, config):
        super().__init__(config)
        self.weight = torch.nn.Parameter(torch.zeros(64))
        self.post_init()
    def _init_weights(self, module):
        pass

class OwnHead(OwnBase):
    pass
"""


def test_code_that_comes_with_the_checkpoint(tmp_path, monkeypatch):
    import transformers.dynamic_module_utils as dynamic

    monkeypatch.setattr(dynamic, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    folder = tmp_path / "own_model"
    folder.mkdir()
    (folder / "own.py").write_text(REMOTE)
    named = {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnBase", "AutoModelForCausalLM": "own.OwnHead"}
    config = {"model_type": "own", "architectures": ["OwnHead"], "auto_map": named}
    (folder / "config.json").write_text(json.dumps(config))
    save_file({"weight": torch.arange(64.0)}, folder / "model.safetensors", metadata={"format": "pt"})
    model = ws.load(folder, trust_remote_code=True)
    assert type(model).__name__ == "OwnHead" and torch.equal(model.weight, torch.arange(64.0))
    base = ws.load(folder, trust_remote_code=True, model_class=transformers.AutoModel)
    assert type(base).__name__ == "OwnBase" and torch.equal(base.weight, torch.arange(64.0))


def test_an_auto_class_and_a_part_of_the_model(tmp_path):
    llama(tmp_path, 1)
    model = ws.load(tmp_path, model_class=transformers.AutoModelForCausalLM)
    assert type(model) is transformers.LlamaForCausalLM
    part = SMALL | {"num_attention_heads": 4, "max_position_embeddings": 16}
    vision = part | {"image_size": 8, "patch_size": 4}
    config = transformers.CLIPConfig(text_config=part, vision_config=vision, projection_dim=8)
    transformers.CLIPModel(config).save_pretrained(tmp_path / "clip")
    kind = transformers.CLIPTextModel
    text = ws.load(tmp_path / "clip", model_class=kind, strict=False)
    assert_equal_models(text, kind.from_pretrained(tmp_path / "clip"))


def test_an_adapter_alone_and_beside_the_model(tmp_path):
    peft = pytest.importorskip("peft")
    base, alone = tmp_path / "base", tmp_path / "adapter"
    model_class = llama(base, 1)
    adapter = peft.LoraConfig(target_modules=["q_proj"], init_lora_weights=False)
    adapted = peft.get_peft_model(model_class.from_pretrained(base), adapter)
    for folder in (alone, base):
        adapted.save_pretrained(folder)
        reference = model_class.from_pretrained(folder)
        assert any("lora" in name for name, _ in reference.named_parameters())
        assert_equal_models(ws.load(folder), reference)


def test_other_threads_load_as_ever(tmp_path, monkeypatch):
    model_class = llama(tmp_path, 1)
    from transformers import modeling_utils

    before, found = modeling_utils.safe_open, []
    from_config = model_class.__init__

    def loads_elsewhere(self, *args, **kwargs):
        if threading.current_thread() is threading.main_thread():
            other = threading.Thread(target=lambda: found.append(model_class.from_pretrained(tmp_path)))
            other.start()
            other.join()
        from_config(self, *args, **kwargs)

    monkeypatch.setattr(model_class, "__init__", loads_elsewhere)
    ws.load(tmp_path)
    assert type(found[0].lm_head.weight) is torch.nn.Parameter and found[0].lm_head.weight.is_leaf
    assert value(found[0]) == {1}
    (tmp_path / "model.safetensors").write_bytes(b"\x08" + bytes(15))
    with pytest.raises(ws.errors.CheckpointError):
        ws.load(tmp_path)
    assert modeling_utils.safe_open is before


@pytest.mark.parametrize("name", ["Llama", "Whisper"])
def test_a_missing_weight_is_initialised_with_the_same_numbers(tmp_path, name):
    from test_huggingface import saved

    model_class = saved(tmp_path, name)
    state = {k: v for k, v in ws.load(tmp_path).state_dict().items() if not k.endswith("1.fc1.weight")}
    state = {k: v.clone() for k, v in state.items() if not k.endswith("1.mlp.up_proj.weight")}
    state.pop("proj_out.weight", None)
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    torch.manual_seed(3)
    reference = model_class.from_pretrained(tmp_path)
    torch.manual_seed(3)
    assert_equal_models(ws.load(tmp_path, strict=False), reference)
    assert name in MODELS
