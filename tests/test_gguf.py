"""GGUF files, streamed from where they lie: what transformers makes of them, bit for bit."""

import pytest
import torch
import transformers
import weightstream as ws
from support.budget import LEAST

gguf = pytest.importorskip("gguf")
pytestmark = pytest.mark.current

HIDDEN, HEADS, LAYERS, VOCABULARY = 512, 8, 2, 1000
QUANTISED = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]


def write_llama(path, kind):
    """A random llama; its matrices are of `kind`, its norms float32."""
    import numpy

    kind = gguf.GGMLQuantizationType[kind]
    random = numpy.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(64)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(2 * HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS // 2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(VOCABULARY)
    writer.add_token_list([f"<{number}>" for number in range(VOCABULARY)])

    def add(name, *shape):
        values = random.normal(0, 0.05, shape).astype(numpy.float32)
        if len(shape) == 1:
            writer.add_tensor(name, values + 1)
        else:
            writer.add_tensor(name, gguf.quantize(values, kind), raw_dtype=kind)

    add("token_embd.weight", VOCABULARY, HIDDEN)
    add("output_norm.weight", HIDDEN)
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        add(f"{block}.attn_norm.weight", HIDDEN)
        add(f"{block}.ffn_norm.weight", HIDDEN)
        add(f"{block}.attn_q.weight", HIDDEN, HIDDEN)
        add(f"{block}.attn_k.weight", HIDDEN // 2, HIDDEN)
        add(f"{block}.attn_v.weight", HIDDEN // 2, HIDDEN)
        add(f"{block}.attn_output.weight", HIDDEN, HIDDEN)
        add(f"{block}.ffn_gate.weight", 2 * HIDDEN, HIDDEN)
        add(f"{block}.ffn_up.weight", 2 * HIDDEN, HIDDEN)
        add(f"{block}.ffn_down.weight", HIDDEN, 2 * HIDDEN)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", [*QUANTISED, "F32", "F16", "BF16"])
def test_a_model_is_what_transformers_makes_of_it(tmp_path, kind, dtype):
    write_llama(tmp_path / "model.gguf", kind)
    wanted = {} if dtype is None else {"dtype": dtype}
    expected = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path,
        gguf_file="model.gguf",
        quantization_config=transformers.GgufConfig(dequantize=True),
        **wanted,
    )
    model = ws.load(tmp_path / "model.gguf", memory=max(LEAST, 8 * 2**20), **wanted)
    assert type(model) is type(expected)
    state = expected.state_dict()
    assert list(model.state_dict()) == list(state)
    for name, value in model.state_dict().items():
        assert value.dtype == state[name].dtype
        assert torch.equal(value, state[name]), name
    tokens = torch.arange(12).view(2, 6)
    with torch.no_grad():
        assert torch.equal(model(tokens).logits, model(tokens).logits)
    ws.close(model)


def test_the_table_of_names_is_made_once(tmp_path, monkeypatch):
    path = tmp_path / "model.gguf"
    write_llama(path, "Q8_0")
    table, made = gguf.get_tensor_name_map, []

    def counted(*args):
        made.append(args)
        return table(*args)

    monkeypatch.setattr(gguf, "get_tensor_name_map", counted)
    ws.close(ws.load(path, memory="32MiB"))
    assert len(made) == 1
    assert gguf.get_tensor_name_map is counted


def test_a_truncated_file_is_refused(tmp_path):
    path = tmp_path / "model.gguf"
    write_llama(path, "Q8_0")
    path.write_bytes(path.read_bytes()[:-100_000])
    with pytest.raises(ws.errors.CheckpointError, match="truncated"):
        ws.load(path, memory="32MiB")


def test_an_unknown_type_is_named(tmp_path):
    path = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor("odd", torch.zeros(2, 2, dtype=torch.int8).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ws.errors.CheckpointError, match=r"odd.*expected F32.*type 24"):
        ws.stream(torch.nn.Linear(2, 2), path)
