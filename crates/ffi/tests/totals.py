"""Writes totals.pt2, which the tests run: `python crates/ffi/tests/totals.py`."""

from pathlib import Path

import torch


class Totals(torch.nn.Module):
    """Numbers that are exact: its weights are integers and halves, and it adds up what it has given."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList([torch.nn.Linear(3, 2)])
        self.layers[0].weight.data = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
        self.layers[0].bias.data = torch.tensor([0.5, -0.5])
        self.register_buffer("total", torch.zeros(2))

    def forward(self, x, scale, note=None):
        y = self.layers[0](x) * scale
        self.total.add_(y.sum(0))
        return {"y": y, "total": self.total.clone(), "rows": x.shape[0]}


program = torch.export.export(
    Totals().requires_grad_(False),
    (torch.zeros(2, 3), 3, None),
    dynamic_shapes={
        "x": {0: torch.export.Dim("batch", min=1, max=8)},
        "scale": torch.export.Dim.DYNAMIC,
        "note": None,
    },
)
for node in program.graph.nodes:
    # Where the module was written down, on the machine that did it.
    node.meta.pop("stack_trace", None)
torch.export.save(program, Path(__file__).with_suffix(".pt2"))
