import pytest
import torch
import weightstream as ws
from safetensors.torch import save_file
from torch import nn


def test_residency_counts_what_is_in_memory(tmp_path):
    module = nn.Sequential(*(nn.Linear(1024, 1024, bias=False) for _ in range(16)))
    save_file(module.state_dict(), tmp_path / "m.safetensors")
    ws.stream(module, tmp_path / "m.safetensors", memory="16MiB")
    assert sum(block.resident for block in ws.residency(module).values()) == 0
    module(torch.ones(1, 1024))
    found = ws.residency(module)
    blocks = {name: block for name, block in found.items() if name}
    assert list(blocks) == [str(number) for number in range(16)]
    assert all(block.total == 4 << 20 for block in blocks.values())
    assert 0 < sum(block.resident for block in found.values()) <= 16 << 20
    ws.close(module)
    assert sum(block.resident for block in ws.residency(module).values()) == 0


def test_residency_of_what_is_not_streamed():
    with pytest.raises(TypeError, match="not streamed"):
        ws.residency(nn.Linear(2, 2))
