"""What the tests of writes run in a process of its own: `python -m support.writes NAME FOLDER`.

None of it may end the process: what may be written is kept, anything else is an error by name, and undone.
"""

from __future__ import annotations

import copy
import os
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
import weightstream as ws
from safetensors.torch import save_file
from support.budget import LEAST
from torch import nn
from torch.optim.swa_utils import AveragedModel

WIDTH, ROWS = 256, 4096


class Net(nn.Module):
    """An embedding, linear layers of 256 KiB, and a head."""

    def __init__(self, **embedding: object) -> None:
        super().__init__()
        self.table = nn.Embedding(ROWS, WIDTH, **embedding)  # type: ignore[arg-type]
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(8))
        self.head = nn.Linear(WIDTH, ROWS)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.table(ids)
        for layer in self.layers:
            x = x + layer(x)
        return self.head(x)


class Statistics(nn.Module):
    """What batch normalisation does in training, of so many channels that its buffers are streamed."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm1d(2**16) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for norm in self.norms:
            x = norm(x)
        return x


IDS = torch.arange(0, ROWS, 7)


def streamed(reference: nn.Module, folder: str, memory: int = 2 * LEAST) -> nn.Module:
    file = Path(folder) / "model.safetensors"
    save_file({name: value.clone() for name, value in reference.state_dict().items()}, file)
    return ws.stream(copy.deepcopy(reference), file, memory)


def made(build: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return build().requires_grad_(False)


def refused(name: str, write: Callable[[], object]) -> None:
    """The write is an error that names the weight."""
    try:
        write()
        sum(range(10))
    except ws.WriteError as error:
        assert name in str(error), error
        return
    raise AssertionError(f"a write to {name} was never told")


def in_place(folder: str) -> None:
    """Operators, initialisers and optimisers that write to weights; the model is as stored afterwards."""
    reference = made(Net)
    model = streamed(reference, folder)
    expected = reference(IDS)
    weight = model.layers[3].weight

    def step() -> None:
        model.head.weight.requires_grad_(True)
        optimizer = torch.optim.AdamW([model.head.weight])
        model(IDS[:3]).sum().backward()
        optimizer.step()

    for name, write in [
        ("layers.3.weight", lambda: weight.add_(1)),
        ("layers.3.weight", weight.zero_),
        ("layers.3.weight", lambda: nn.init.normal_(weight)),
        ("layers.3.weight", lambda: weight.data.copy_(torch.zeros(WIDTH, WIDTH))),
        ("layers.3.weight", lambda: weight.numpy().fill(0)),
        ("layers.3.weight", lambda: weight[5:7].fill_(0)),
        ("layers.", lambda: torch._foreach_mul_([layer.weight for layer in model.layers], 2.0)),
        ("head.weight", step),
    ]:
        refused(name, write)
        with torch.no_grad():
            assert torch.equal(model(IDS), expected), name
    stored = reference.state_dict()
    assert all(torch.equal(value, stored[name]) for name, value in model.state_dict().items())


def in_a_pass(folder: str) -> None:
    """A module that writes to its weight in its forward, and a thread that writes outside of all passes."""
    reference = made(Net)
    model = streamed(reference, folder)
    expected = reference(IDS)

    def writes(module: nn.Module, args: object) -> None:
        module.weight.mul_(2)

    hook = model.layers[2].register_forward_pre_hook(writes)
    refused("layers.2.weight", lambda: model(IDS))
    hook.remove()
    assert torch.equal(model(IDS), expected)

    def elsewhere() -> None:
        thread = threading.Thread(target=lambda: model.layers[5].weight.mul_(2))
        thread.start()
        # Told here, where the main thread may be the one that it worked for, or else at the next pass.
        thread.join()
        model(IDS)

    refused("layers.5.weight", elsewhere)
    assert torch.equal(model(IDS), expected)
    compiled = torch.compile(model, backend="eager")
    assert torch.equal(compiled(IDS), expected)


def merged(folder: str) -> None:
    """What peft's merge_and_unload does to a base weight: an error by name."""
    reference = made(Net)
    model = streamed(reference, folder)

    def merge() -> None:
        model.layers[1].weight.data += torch.ones(WIDTH, WIDTH)

    refused("layers.1.weight", merge)
    # And what it does with safe_merge=True: another tensor in its place.
    model.layers[1].weight.data = reference.layers[1].weight + 1
    reference.layers[1].weight += 1
    assert torch.equal(model(IDS), reference(IDS))


def copies(folder: str) -> None:
    """A deep copy of a part can be trained, whatever becomes of the model; one of the whole shares it."""
    reference = made(Net)
    model = streamed(reference, folder)
    expected = reference(IDS)
    head, own = copy.deepcopy(model.head), copy.deepcopy(reference.head)
    layer = copy.deepcopy(model.layers[4])
    x = torch.randn(3, WIDTH)
    for trained in (head, own):
        trained.requires_grad_(True)
        optimizer = torch.optim.SGD(trained.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            trained(x).square().sum().backward()
            optimizer.step()
    assert torch.equal(head.weight, own.weight) and not torch.equal(head.weight, reference.head.weight)
    assert torch.equal(model(IDS), expected)
    # In its place, as peft's modules_to_save.
    model.head = head
    reference.head = own
    assert torch.equal(model(IDS), reference(IDS))
    twin = copy.deepcopy(model)
    assert twin.layers[0].weight.data_ptr() == model.layers[0].weight.data_ptr()
    assert twin.head.weight.data_ptr() != model.head.weight.data_ptr()
    part = copy.deepcopy(copy.deepcopy(twin).layers[0])
    part.weight.add_(1)
    ws.close(model)
    assert torch.equal(layer(x), reference.layers[4](x))
    assert torch.equal(part.weight, reference.layers[0].weight + 1)
    assert set(layer.state_dict()) == {"weight", "bias"}
    layer.half()


def averaged(folder: str) -> None:
    """An average of the whole model is written to, and shares it: an error by name."""
    reference = made(Net)
    model = streamed(reference, folder)
    average = AveragedModel(model)
    average.update_parameters(model)  # the first values are those of the model
    refused("weight", lambda: average.update_parameters(model))
    assert torch.equal(model(IDS), reference(IDS))


def renormalised(folder: str) -> None:
    """An embedding that renormalises rows in place computes as loaded, and so does its table."""
    reference = made(lambda: Net(max_norm=1.0))
    model = streamed(reference, folder, 4 * LEAST)
    for step in range(4):
        ids = IDS[step::4]
        assert torch.equal(model(ids), reference(ids))
    assert torch.equal(model.state_dict()["table.weight"], reference.table.weight)
    assert ws.stats(model).used <= ws.stats(model).budget


def statistics(folder: str) -> None:
    """Large running statistics are kept as written, in the state_dict too, and not shared by copies."""
    reference = made(Statistics)
    model = streamed(reference, folder, 3 * LEAST)
    before = copy.deepcopy(model)
    x = torch.randn(4, 2**16)
    for _ in range(3):
        assert torch.equal(model.train()(x), reference.train()(x))
    assert torch.equal(model.eval()(x), reference.eval()(x))
    saved, wanted = model.state_dict(), reference.state_dict()
    assert all(torch.equal(saved[name], wanted[name]) for name in wanted)
    assert before.norms[0].running_mean.eq(0).all()
    twin = copy.deepcopy(model)
    assert torch.equal(twin(x), reference(x))
    stats = ws.stats(model)
    assert stats.used <= stats.budget and stats.errors == 0
    ws.resize(model, stats.least)
    assert torch.equal(model(x), reference(x))


def without_room(folder: str) -> None:
    """Statistics that the budget has no room for are an error that names them and the least that works."""
    model = streamed(made(Statistics), folder, LEAST).train()
    x = torch.randn(4, 2**16)
    for _ in range(3):
        refused("the least that works is", lambda: model(x))


def child(folder: str) -> None:
    """What ends a process names the weight and shows the Python line."""
    model = streamed(made(Net), folder)
    model.layers[3].weight.sum()
    if os.fork() == 0:
        model.layers[3].weight[0, 0].item()
    assert os.waitstatus_to_exitcode(os.wait()[1]) < 0


WRITES: dict[str, Callable[[str], None]] = {
    write.__name__: write
    for write in (
        in_place, in_a_pass, merged, copies, averaged, renormalised, statistics, without_room, child
    )
}  # fmt: skip

if __name__ == "__main__":
    try:
        WRITES[sys.argv[1]](sys.argv[2])
    except BaseException:
        traceback.print_exc()
        os._exit(1)
