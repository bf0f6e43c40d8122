import json
import struct

import pytest
import torch
import weightstream as ws
from safetensors.torch import save_file
from torch import nn
from weightstream import _native
from weightstream.lazy import Lazy
from weightstream.opened import Opened
from weightstream.parameters import SMALL_BUFFER
from weightstream.stored import Stored

WORDS = {
    "BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "I16": torch.int16, "U16": torch.uint16,
    "I32": torch.int32, "U32": torch.uint32, "I64": torch.int64, "U64": torch.uint64, "F16": torch.float16,
    "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64, "C64": torch.complex64,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
}  # fmt: skip

if hasattr(torch, "float8_e8m0fnu"):  # torch 2.7
    WORDS["F8_E8M0"] = torch.float8_e8m0fnu


class Holder(nn.Module):
    def __init__(self, **tensors):
        super().__init__()
        for name, tensor in tensors.items():
            self.register_parameter(name, nn.Parameter(tensor, requires_grad=False))


def write(path, word, shape, data):
    header = json.dumps({"weight": {"dtype": word, "shape": shape, "data_offsets": [0, len(data)]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)


@pytest.mark.parametrize("word", WORDS)
def test_every_dtype(tmp_path, word):
    dtype = WORDS[word]
    data = bytes(index % 2 if word == "BOOL" else index for index in range(6 * dtype.itemsize))
    write(tmp_path / "w.safetensors", word, [2, 3], data)
    module = ws.stream(Holder(weight=torch.zeros(2, 3, dtype=dtype)), tmp_path / "w.safetensors")
    assert module.weight.dtype == dtype and module.weight.shape == (2, 3)
    assert bytes(module.weight.view(torch.uint8).flatten().tolist()) == data
    assert module.weight.untyped_storage().nbytes() == len(data)


def test_dtypes_that_torch_lacks_are_refused(tmp_path):
    write(tmp_path / "w.safetensors", "F6_E2M3", [2, 4], bytes(6))
    with pytest.raises(ws.errors.CheckpointError, match="F6_E2M3"):
        ws.stream(Holder(weight=torch.zeros(2, 4)), tmp_path / "w.safetensors")


@pytest.mark.parametrize("requires_grad", [True, False])
def test_parameters_stay_parameters_and_keep_their_flag(tmp_path, requires_grad):
    module = nn.Linear(3, 3).requires_grad_(requires_grad)
    weight = module.weight
    save_file(module.state_dict(), tmp_path / "m.safetensors")
    ws.stream(module, tmp_path / "m.safetensors")
    assert module.weight is weight and type(weight) is nn.Parameter and weight.requires_grad is requires_grad


def test_tensors_without_elements_and_scalars(tmp_path):
    module = Holder(none=torch.zeros(0, 5), one=torch.tensor(2.5))
    save_file(module.state_dict(), tmp_path / "m.safetensors")
    with torch.no_grad():
        module.one.zero_()
    ws.stream(module, tmp_path / "m.safetensors")
    assert module.none.shape == (0, 5) and module.one.item() == 2.5


def test_everything_that_does_not_fit_is_named_at_once(tmp_path):
    save_file({"0.weight": torch.zeros(3, 2), "2.weight": torch.zeros(1)}, tmp_path / "m.safetensors")
    module = nn.Sequential(nn.Linear(3, 3))
    with pytest.raises(ws.errors.CheckpointError) as error:
        ws.stream(module, tmp_path / "m.safetensors")
    with pytest.raises(RuntimeError) as theirs:
        module.load_state_dict({"0.weight": torch.zeros(3, 2), "2.weight": torch.zeros(1)})
    for line in ('Missing key(s) in state_dict: "0.bias"', 'Unexpected key(s) in state_dict: "2.weight"'):
        assert line in str(error.value) and line in str(theirs.value)
    assert "size mismatch for 0.weight" in str(error.value)


def test_another_dtype_names_both_and_the_remedy(tmp_path):
    save_file({"weight": torch.zeros(2, dtype=torch.bfloat16)}, tmp_path / "m.safetensors")
    with pytest.raises(ws.errors.CheckpointError, match=r"bfloat16.*float32.*module\.to\(torch\.bfloat16\)"):
        ws.stream(Holder(weight=torch.zeros(2)), tmp_path / "m.safetensors")


def test_many_of_another_dtype_are_one_line(tmp_path):
    save_file(
        nn.Sequential(*(nn.Linear(2, 2) for _ in range(50))).bfloat16().state_dict(),
        tmp_path / "m.safetensors",
    )
    with pytest.raises(ws.errors.CheckpointError, match=r"0\.weight and 99 more") as raised:
        ws.stream(nn.Sequential(*(nn.Linear(2, 2) for _ in range(50))), tmp_path / "m.safetensors")
    assert str(raised.value).count("dtype mismatch") == 1


def test_a_module_without_memory_takes_the_dtype_of_the_checkpoint(tmp_path):
    whole = nn.Linear(3, 3).bfloat16()
    save_file(whole.state_dict(), tmp_path / "m.safetensors")
    with ws.empty():
        module = nn.Linear(3, 3)
    ws.stream(module, tmp_path / "m.safetensors")
    x = torch.ones(1, 3, dtype=torch.bfloat16)
    assert module.weight.dtype == torch.bfloat16 and torch.equal(module(x), whole(x))


def test_not_strict(tmp_path):
    save_file({"weight": torch.ones(3, 3), "other": torch.ones(1)}, tmp_path / "m.safetensors")
    module = nn.Linear(3, 3)
    bias = module.bias.clone()
    ws.stream(module, tmp_path / "m.safetensors", strict=False)
    assert torch.equal(module.weight, torch.ones(3, 3)) and torch.equal(module.bias, bias)
    assert module.bias.requires_grad
    with ws.empty():
        module = nn.Linear(3, 3)
    with pytest.raises(ws.errors.CheckpointError, match="bias"):
        ws.stream(module, tmp_path / "m.safetensors", strict=False)


def test_a_module_built_on_meta_has_no_buffers(tmp_path):
    class Buffered(nn.Linear):
        def __init__(self):
            super().__init__(2, 2)
            self.register_buffer("table", torch.ones(2), persistent=False)

    save_file(Buffered().state_dict(), tmp_path / "m.safetensors")
    with torch.device("meta"):
        module = Buffered()
    with pytest.raises(ws.errors.WeightstreamError, match=r"table.*weightstream\.empty"):
        ws.stream(module, tmp_path / "m.safetensors")


def test_prefix_and_keys(tmp_path):
    save_file(
        {"net.w": torch.ones(3, 3), "net.bias": torch.ones(3), "x": torch.ones(1)}, tmp_path / "m.safetensors"
    )
    for keys in ({"w": "weight"}, lambda name: "weight" if name == "w" else name):
        module = ws.stream(nn.Linear(3, 3), tmp_path / "m.safetensors", prefix="net.", keys=keys)
        assert torch.equal(module.weight, torch.ones(3, 3))
    with pytest.raises(ws.errors.CheckpointError, match="Missing"):
        ws.stream(nn.Linear(3, 3), tmp_path / "m.safetensors", prefix="net.", keys={"w": None})


def test_ties_are_stored_once(tmp_path):
    def build():
        module = nn.ModuleDict({"embedding": nn.Embedding(5, 3), "head": nn.Linear(3, 5, bias=False)})
        module["head"].weight = module["embedding"].weight
        return module

    values = torch.randn(5, 3)
    for name in ("embedding.weight", "head.weight"):
        save_file({name: values}, tmp_path / "m.safetensors")
        with ws.empty():
            module = build()
        ws.stream(module, tmp_path / "m.safetensors")
        assert module["head"].weight is module["embedding"].weight
        assert torch.equal(module["head"].weight, values)
        assert ws.stats(module).model_bytes == values.nbytes


def test_small_buffers_are_loaded_and_large_ones_streamed(tmp_path):
    class Buffered(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("small", torch.randn(4))
            self.register_buffer("large", torch.randn(SMALL_BUFFER // 4))

    source = Buffered()
    save_file(source.state_dict(), tmp_path / "m.safetensors")
    module = ws.stream(Buffered(), tmp_path / "m.safetensors")
    assert torch.equal(module.small, source.small) and torch.equal(module.large, source.large)
    module.small.add_(1)
    assert ws.stats(module).model_bytes == source.large.nbytes


def test_running_statistics_update(tmp_path):
    norm = nn.BatchNorm1d(3)
    state = norm.state_dict()
    del state["num_batches_tracked"]  # as checkpoints of old have it
    save_file(state, tmp_path / "m.safetensors")
    ws.stream(norm, tmp_path / "m.safetensors")
    norm.train()(torch.randn(8, 3))
    assert norm.num_batches_tracked == 1 and norm.running_mean.abs().sum() > 0


def test_tensor_subclasses_are_refused(tmp_path):
    class Quantised(nn.Parameter):
        pass

    save_file({"weight": torch.zeros(2)}, tmp_path / "m.safetensors")
    module = nn.Module()
    module.weight = Quantised(torch.zeros(2))
    with pytest.raises(ws.errors.CheckpointError, match="Quantised"):
        ws.stream(module, tmp_path / "m.safetensors")


# A random gather must equal the same operations on real tensors.


@pytest.fixture
def lazy(tmp_path):
    file = tmp_path / "data"
    file.write_bytes(torch.arange(600, dtype=torch.int16).numpy().tobytes())
    opened = Opened()
    opened._contents = _native.Contents.plain(str(file))

    def make(*shape, offset=0):
        count = int(torch.tensor(shape).prod())
        stored = Stored(torch.int16, shape, ((0, offset * 2, count * 2),))
        return Lazy(stored, opened), torch.arange(offset, offset + count, dtype=torch.int16).view(shape)

    return make


GATHERS = {
    "stack then cat": lambda a, b: torch.cat([torch.stack([a, b]), torch.stack([b, a])], dim=1),
    "cat inside": lambda a, b: torch.cat([a, b], dim=-1),
    "chunk": lambda a, b: torch.cat([c.contiguous() for c in torch.chunk(a, 2, dim=1)]),
    "split": lambda a, b: torch.split(a, [1, 3], dim=0)[1],
    "slice": lambda a, b: a[1:3, 2:5],
    "select": lambda a, b: a[2],
    "reshape": lambda a, b: a.reshape(2, -1)[1],
    "unbind": lambda a, b: torch.stack(list(torch.unbind(a, 1))),
    "squeeze": lambda a, b: a[None].squeeze(0).unsqueeze(1).transpose(0, 1),
    "ellipsis and to": lambda a, b: a[...].to(device="cpu", dtype=torch.int16).clone().detach(),
    "transpose of one row": lambda a, b: a[:1].t().contiguous(),
}
DEFERRED = {
    "transpose": lambda a, b: a.t().contiguous(),
    "cast": lambda a, b: a.to(torch.float32),
    "rotary": lambda a, b: a.view(1, 2, 2, 6).transpose(1, 2).reshape(4, 6),
    "transpose then chunk": lambda a, b: torch.chunk(a.t(), 3)[1].contiguous(),
    "step": lambda a, b: a[::2],
    "add": lambda a, b: a + b,
    "cast then stack": lambda a, b: torch.stack([a.float(), b.float()]),
}


@pytest.mark.parametrize("name", GATHERS | DEFERRED)
def test_lazy_operations_equal_real_ones(lazy, name):
    operation = (GATHERS | DEFERRED)[name]
    (a, real_a), (b, real_b) = lazy(4, 6), lazy(4, 6, offset=100)
    made, expected = operation(a, b), operation(real_a, real_b)
    assert made.shape == expected.shape and made.dtype == expected.dtype
    assert torch.equal(made.read(), expected)
    assert isinstance(made.source, Stored) == (name in GATHERS)


def test_lazy_tensors_compare_by_value(lazy):
    (a, _), (same, _), (other, real) = lazy(2, 3), lazy(2, 3), lazy(2, 3, offset=1)
    assert torch.equal(a, same) and not torch.equal(a, other) and torch.equal(other, real)


def test_experts_merge_into_one_part_for_each_matrix(lazy):
    experts = [lazy(2, 3, offset=6 * index)[0] for index in range(4)]
    assert torch.stack(experts).source.parts == ((0, 0, 48),)
    gate, up = torch.stack(experts[:2]), torch.stack(experts[2:])
    assert torch.cat([gate, up], dim=1).source.parts == ((0, 0, 12), (0, 24, 12), (0, 12, 12), (0, 36, 12))
