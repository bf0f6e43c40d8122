"""Writes program.pt2, which commands.rs runs: `python crates/cli/tests/program.py`."""

from pathlib import Path

import torch


class Layers(torch.nn.Module):
    def __init__(self):
        super().__init__()
        # Used in the opposite order of their names.
        self.layers = torch.nn.ModuleList(torch.nn.Linear(16, 16) for _ in range(3))

    def forward(self, x, y):
        for layer in reversed(self.layers):
            x = torch.relu(layer(x)) + y
        return x, x.sum(-1).to(torch.bfloat16)


torch.manual_seed(0)
batch = torch.export.Dim("batch", min=1, max=8)
program = torch.export.export(
    Layers().requires_grad_(False),
    (torch.zeros(2, 16), torch.zeros(2, 16)),
    dynamic_shapes={"x": {0: batch}, "y": {0: batch}},
)
for node in program.graph.nodes:
    # Where the module was written down, on the machine that did it.
    node.meta.pop("stack_trace", None)
torch.export.save(program, Path(__file__).with_suffix(".pt2"))
