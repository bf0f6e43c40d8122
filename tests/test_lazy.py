"""What libraries do to tensors of a checkpoint has the result that it has for loaded ones."""

import copy

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from weightstream.deferred import Deferred, fingerprint
from weightstream.errors import WeightstreamError
from weightstream.lazy import Lazy
from weightstream.opened import Opened
from weightstream.stored import Stored

TENSORS = {"a": torch.randn(6, 8), "b": torch.randn(6, 8), "n": torch.arange(48).view(6, 8)}


@pytest.fixture
def opened(tmp_path):
    save_file(TENSORS, tmp_path / "t.safetensors")
    opened = Opened()
    opened.open(tmp_path / "t.safetensors")
    return opened


@pytest.fixture
def lazies(opened, tmp_path):
    return opened.lazies(tmp_path / "t.safetensors")


def weight_norm(a, b, n):
    made = torch._weight_norm(a, b.norm(dim=1, keepdim=True), 0)
    nn.init.normal_(made, std=0.1)
    return made.add_(1)


def rows_written_one_by_one(a, b, n):
    made = a * 2
    for row in range(6):
        made[row] = b[row] + row
    made[2, 1:5].mul_(3)
    made[:, ::2].zero_()
    return made


def a_view_of_a_view(a, b, n):
    made = a.clone()
    view = made.t()[2:5].unsqueeze(0)
    view[0, 1] = 7
    made[3] = view[0, :, 3].sum()
    return [made, view]


def views_see_what_is_written(a, b, n):
    made = a + b
    first, second = made.chunk(2)
    made.add_(1)
    first.copy_(second)
    return [made, first, second]


def itself_is_written(a, b, n):
    a.data[0].zero_()
    a[1:3] += 1
    return a


def an_out_argument(a, b, n):
    made = torch.empty_like(a)
    out = a * 1
    torch.mul(a, b, out=out[:6])
    torch.ldexp(out, n % 3, out=out)
    return [torch.add(a, b, out=made), out]


def a_loaded_destination(a, b, n):
    made = torch.zeros(12, 4)
    made[:6] = a[:, :4]
    made[6:, ::2].copy_(b[:, 4:6])
    return made


def an_indexed_table(a, b, n):
    table = torch.linspace(0, 1, 48)
    made = table[n]
    made[:, 1::2] = table[n[:, 1::2] // 2]
    return made


def several_at_once(a, b, n):
    made = [a + 0, b + 0]
    torch._foreach_mul_(made, 2)
    torch._foreach_add_(made, [a, b])
    return made


def what_depends_on_values(a, b, n):
    chosen = a[a > 0]
    scale = a.abs().max().item()
    return [chosen, b * scale, torch.nonzero(n > 40)]


def random_numbers(a, b, n):
    made = torch.empty_like(a).uniform_(-1, 1)
    nn.init.kaiming_uniform_(made)
    (b * 1).normal_()
    return [made, torch.rand_like(a), nn.functional.dropout(a * 1, 0.5), (a * 1)[2:].uniform_()]


def another_layout(a, b, n):
    made = a.t() + 0
    made[1:] *= 2
    return [made, made.contiguous(), made.view(8, 6)[:, 1], n.t().contiguous().view(6, 8)]


def splits_and_stacks(a, b, n):
    parts = torch.cat([a, b], dim=1).split(4, dim=1)
    made = torch.stack([part.float() for part in parts], dim=1)
    made[:, 0] = 0
    return [made, made.flatten(), *parts, a.unbind(0)[2], a.repeat(2, 1), a.expand(2, 6, 8).clone()]


def a_function_reads_much(a, b, n):
    for _ in range(40):
        a = (a + a) * 0.5  # two uses each: 2^40 reads without a memo
    return a


DEEDS = [
    weight_norm, rows_written_one_by_one, a_view_of_a_view, views_see_what_is_written, itself_is_written,
    an_out_argument, a_loaded_destination, an_indexed_table, several_at_once, what_depends_on_values,
    random_numbers, another_layout, splits_and_stacks, a_function_reads_much,
]  # fmt: skip


def results(deed, tensors):
    torch.manual_seed(1)
    with torch.no_grad():
        made = deed(**tensors)
    return made if isinstance(made, list | tuple) else [made]


@pytest.mark.parametrize("deed", DEEDS, ids=lambda deed: deed.__name__)
def test_lazy_tensors_behave_as_loaded_ones(lazies, deed):
    expected = results(deed, {name: tensor.clone() for name, tensor in TENSORS.items()})
    after = torch.rand(3)
    got = results(deed, lazies)
    assert torch.equal(after, torch.rand(3)), "as many random numbers were drawn"
    assert len(got) == len(expected)
    for ours, theirs in zip(got, expected, strict=True):
        assert ours.shape == theirs.shape and ours.dtype == theirs.dtype and ours.stride() == theirs.stride()
        assert torch.equal(ours.read() if isinstance(ours, Lazy) else ours, theirs)


def test_a_write_is_seen_by_the_parameter_made_of_it(lazies):
    parameter = nn.Parameter(lazies["a"])
    assert isinstance(parameter, nn.Parameter) and parameter.requires_grad
    with torch.no_grad():
        lazies["a"][0] = 5
        parameter.data[1] = 6
    expected = TENSORS["a"].clone()
    expected[0], expected[1] = 5, 6
    assert torch.equal(parameter.read(), expected) and torch.equal(lazies["a"].read(), expected)


def test_writes_do_not_reach_copies(lazies):
    made, deep, whole = lazies["a"].clone(), copy.deepcopy(lazies["a"]), lazies["a"].contiguous()
    with torch.no_grad():
        made.zero_()
        deep.add_(1)
    assert torch.equal(lazies["a"].read(), TENSORS["a"]) and whole is lazies["a"]
    assert torch.equal(deep.read(), TENSORS["a"] + 1)


def test_nothing_is_read_before_it_is_asked_for(lazies, monkeypatch):
    monkeypatch.setattr(Stored, "read", lambda *_: pytest.fail("read"))
    for deed in (rows_written_one_by_one, views_see_what_is_written, itself_is_written, another_layout):
        results(deed, lazies)


def test_thousands_of_writes_are_computed_without_copies_of_each(lazies, monkeypatch):
    made = lazies["a"] * 1
    with torch.no_grad():
        for step in range(3000):
            made[step % 6] += 1
    copies = []
    clone = torch.Tensor.clone
    monkeypatch.setattr(
        torch.Tensor, "clone", lambda t, *args, **how: copies.append(1) or clone(t, *args, **how)
    )
    assert torch.equal(made.read(), results(rows_added, {"a": TENSORS["a"]})[0])
    assert len(copies) < 3100  # the row that each reads, not the whole beside it


def rows_added(a):
    made = a * 1
    for step in range(3000):
        made[step % 6] += 1
    return made


def test_shapes_are_not_changed_in_place(lazies):
    with pytest.raises(TypeError, match="change the shape"):
        lazies["a"].t_()


def test_the_same_computation_has_the_same_fingerprint(opened, lazies, tmp_path):
    def made(tensors, factor):
        computed = tensors["a"] * torch.tensor([float(factor)])
        computed[0] = 1
        return computed.source

    one, same = made(lazies, 2), made(opened.lazies(tmp_path / "t.safetensors"), 2)
    assert isinstance(one, Deferred) and one is not same
    assert fingerprint(one) == fingerprint(same) != fingerprint(made(lazies, 3))
    assert fingerprint(one) != fingerprint(made(lazies | {"a": lazies["b"]}, 2))


def test_files_lie_behind_each_other(tmp_path):
    opened = Opened()
    for number in range(3):
        save_file({str(number): torch.full((2, 300), float(number))}, tmp_path / f"{number}.safetensors")
        opened.open(tmp_path / f"{number}.safetensors")
    tensors = {}
    for number in range(3):
        tensors |= opened.lazies(tmp_path / f"{number}.safetensors")
    joined = torch.cat([tensors["2"], tensors["0"], tensors["1"]])
    assert isinstance(joined.source, Stored)
    assert joined.read()[:, 0].tolist() == [2, 2, 0, 0, 1, 1]


def test_once_the_model_is_loaded_a_lazy_tensor_is_not_computed_with(opened, lazies):
    opened.over = True
    with pytest.raises(WeightstreamError, match="from_pretrained"):
        lazies["a"] + 1
