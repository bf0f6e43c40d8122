"""Which blocks of a model are in memory."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from weightstream.blocks import find_blocks
from weightstream.protection import is_streamed
from weightstream.streamed import streamed_of

OUTSIDE = ""  # the name under which weights outside all blocks are counted


@dataclass(frozen=True)
class Residency:
    """Bytes of a block's weights: those in memory, and all. What several blocks share counts in each."""

    resident: int
    total: int


def residency(model: nn.Module) -> dict[str, Residency]:
    """How much of each block of the streamed `model` is in memory at this moment, in the order of the blocks.

    Weights outside all blocks come first, under the name "". Raises TypeError where `model` is not streamed.
    """
    stream = streamed_of(model).stream
    blocks = find_blocks(model)
    inside = {id(tensor) for block in blocks.values() for tensor in (*block.parameters(), *block.buffers())}
    outside = [tensor for tensor in (*model.parameters(), *model.buffers()) if id(tensor) not in inside]
    found = {}
    for name, tensors in [
        (OUTSIDE, outside),
        *((name, [*block.parameters(), *block.buffers()]) for name, block in blocks.items()),
    ]:
        ranges = [(tensor.data_ptr(), tensor.nbytes) for tensor in tensors if is_streamed(tensor)]
        found[name] = Residency(sum(stream.resident(ranges)), sum(length for _, length in ranges))
    return found
