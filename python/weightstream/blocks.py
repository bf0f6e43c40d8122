"""Which submodules are blocks, and the hooks that tell the stream where a pass is.

Hooks only look: they change neither inputs nor outputs nor grad mode. While a compiler traces they leave one
operator behind, which looks for failures; weights that a graph touches arrive by themselves.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from weightstream.errors import ClosedError
from weightstream.guard import begin_graph, guard_graph
from weightstream.hook import Hook
from weightstream.slices import install_slices

if TYPE_CHECKING:
    from weightstream.streamed import Streamed

# A module outside all repeated blocks (an embedding, a head) is a block of its own from this size on.
LARGE = 2**20


def find_blocks(module: nn.Module) -> dict[str, nn.Module]:
    """The blocks of `module` by name: repeated children of a list, and large modules outside of them.

    No block lies inside another one. The module itself is none, even where it has no children.
    """
    blocks: dict[str, nn.Module] = {}
    _collect(module, "", blocks, set())
    return blocks


def _collect(module: nn.Module, path: str, blocks: dict[str, nn.Module], seen: set[nn.Module]) -> None:
    alike = Counter(type(child) for child in module.children()) if _is_list(module) else Counter()
    for name, child in module.named_children():
        if child in seen:
            continue
        seen.add(child)
        full = f"{path}.{name}" if path else name
        repeated = alike[type(child)] >= 2 and not _is_list(child) and _size(child) > 0
        leaf = next(child.children(), None) is None
        if repeated or (leaf and _size(child) >= LARGE):
            blocks[full] = child
        else:
            _collect(child, full, blocks, seen)


def _is_list(module: nn.Module) -> bool:
    return isinstance(module, nn.ModuleList | nn.Sequential)


def _size(module: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in (*module.parameters(), *module.buffers()))


def install_hooks(module: nn.Module, streamed: Streamed) -> list[RemovableHandle]:
    """Report the passes of `module` (block 0) and its blocks (1, 2, ... in order) to the stream."""
    handles = []
    indices = {address: index for index, address in enumerate(streamed.stream.addresses())}
    for number, block in enumerate([module, *find_blocks(module).values()]):
        if number > 0:
            addresses = [tensor.data_ptr() for tensor in (*block.parameters(), *block.buffers())]
            used = [indices[address] for address in addresses if address in indices]
            streamed.stream.expect(number, used)
            streamed.stream.expect(streamed.backward.number(number), used[::-1])
        handles.append(block.register_forward_pre_hook(Enter(streamed, number), prepend=True))
        handles.append(block.register_forward_hook(Leave(streamed, number), always_call=True))
    return handles + install_slices(module, streamed)


class _AtBlock(Hook):
    def __init__(self, streamed: Streamed, block: int) -> None:
        super().__init__(streamed)
        self.block = block

    @property
    def told(self) -> int | None:
        """The block, if the stream is to learn from it where the pass stands.

        What is computed again inside a backward pass is none of its own.
        """
        return None if self.streamed.backward.is_under_way() else self.block


class Enter(_AtBlock):
    """Before a block's forward."""

    def __call__(self, module: nn.Module, args: Any) -> None:
        """Raise a pending ReadError of this pass, or ClosedError."""
        if torch.compiler.is_compiling():
            if self.block == 0 and not _is_exporting():
                begin_graph(self.streamed.number)
            return
        self.streamed.freezing.begin()
        self.streamed.stream.enter(self.told)
        if self.streamed.progress is not None:
            self.streamed.advance()


class Leave(_AtBlock):
    """After a block's forward, also one that raised."""

    def __call__(self, module: nn.Module, args: Any, output: Any) -> Any:
        """Raise ReadError, WriteError or ClosedError where a weight of the pass was not what is stored."""
        if torch.compiler.is_compiling():
            return None if _is_exporting() else guard_graph(self.streamed.number, output)
        if self.block == 0:
            self.streamed.finish_progress()
        try:
            outermost = self.streamed.stream.leave(self.told)
        except ClosedError:
            # A forward that raised has no output; its own error says more.
            if output is None:
                return None
            raise
        if torch.is_grad_enabled():
            self.streamed.backward.watch(self.block, output)
            if outermost and self.block > 0:
                self.streamed.backward.watch(0, output)
        return None


def _is_exporting() -> bool:
    # An exported program has no stream behind it.
    asks = getattr(torch.compiler, "is_exporting", None)  # torch 2.7
    return asks is not None and bool(asks())


class Refuse(Hook):
    """Before any forward of a module whose stream was closed."""

    def __call__(self, module: nn.Module, args: Any) -> None:
        """Raise ClosedError."""
        raise ClosedError(
            f"the weights of this {type(module).__name__} were closed: weightstream.stream(module, ...) again"
        )
