"""Mixtures of experts: checkpoints with a tensor for every expert, and reading only what was routed to."""

import pytest
import torch
import weightstream as ws
from safetensors.torch import load_file, save_file
from support.architectures import SPECIAL, TEXT
from support.equality import assert_equal

transformers = pytest.importorskip("transformers")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_a_mixtral_checkpoint_as_it_lies_on_the_hub(tmp_path, dtype):
    config = transformers.MixtralConfig(**TEXT | SPECIAL | {"num_local_experts": 4, "intermediate_size": 512})
    config.dtype = dtype
    model = transformers.MixtralForCausalLM(config).to(dtype)
    model.save_pretrained(tmp_path)
    tensors = {
        name.replace(".mlp.", ".block_sparse_moe."): tensor
        for name, tensor in load_file(tmp_path / "model.safetensors").items()
    }
    for part in ("w1", "w2", "w3"):
        assert f"model.layers.3.block_sparse_moe.experts.3.{part}.weight" in tensors
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    reference = transformers.MixtralForCausalLM.from_pretrained(tmp_path, dtype="auto")
    streamed = ws.load(tmp_path, memory="4MiB")
    ids = torch.randint(3, 2048, (2, 9))
    with torch.inference_mode():
        expected = reference(ids, output_router_logits=True)
        for _ in range(3):
            assert_equal(streamed(ids, output_router_logits=True), expected)
    assert_equal(dict(streamed.state_dict()), dict(reference.state_dict()))


@pytest.mark.current  # transformers 4 has a module for each expert
def test_only_what_was_routed_to_is_read(tmp_path):
    """Token by token, at a quarter of the model: bytes read, against those needed that were not in memory."""
    config = transformers.Qwen3MoeConfig(
        **SPECIAL, vocab_size=512, hidden_size=384, num_hidden_layers=2, max_position_embeddings=64,
        num_attention_heads=8, num_key_value_heads=4, head_dim=32,
        num_experts=32, num_experts_per_tok=2, moe_intermediate_size=192,
    )  # fmt: skip
    written = transformers.Qwen3MoeForCausalLM(config)
    with torch.no_grad():
        for parameter in written.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    written.save_pretrained(tmp_path)
    model = ws.load(tmp_path, memory=sum(parameter.nbytes for parameter in written.parameters()) // 4)
    stream, chunk_bytes = model._weightstream.stream, ws.stats(model).chunk_bytes
    first_chunk = min(stream.addresses()) // chunk_bytes

    def chunks(tensor):
        start, end = tensor.data_ptr(), tensor.data_ptr() + tensor.nbytes
        return set(range(start // chunk_bytes - first_chunk, (end - 1) // chunk_bytes - first_chunk + 1))

    dense = set()
    for name, parameter in model.named_parameters():
        if "experts" not in name and "embed_tokens" not in name:
            dense |= chunks(parameter)

    def needed(token, router_logits):
        used = dense | chunks(model.model.embed_tokens.weight[int(token)])
        for layer, logits in zip(model.model.layers, router_logits, strict=True):
            for expert in logits.topk(2).indices.flatten().tolist():
                used |= chunks(layer.mlp.experts.gate_up_proj[expert])
                used |= chunks(layer.mlp.experts.down_proj[expert])
        return used

    resident, read, missing, stray = set(), 0, 0, 0
    stream.events(True)
    for number in range(60):
        before, bytes_before = set(resident), ws.stats(model).bytes_read
        token = torch.randint(3, 512, (1, 1))
        with torch.inference_mode():
            routed = model(token, output_router_logits=True).router_logits
        use = needed(token, routed)
        for kind, _, _, subject, _ in stream.events(True):
            if kind == "read":
                resident.add(subject)
                stray += number >= 10 and subject not in use
            elif kind == "withdraw":
                resident.discard(subject)
        if number >= 10:
            missing += len(use - before) * chunk_bytes
            read += ws.stats(model).bytes_read - bytes_before
    assert len(dense) * chunk_bytes < ws.stats(model).budget
    assert missing > 0 and read <= 1.10 * missing, f"{read / missing:.2f} times what was routed to and absent"
    assert stray * chunk_bytes <= 0.02 * read
