"""A video transformer that is told what the crane does."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Shape:
    """How large a world model is.

    Attributes:
        width: features of a token; a multiple of `heads`.
        depth: blocks.
        heads: of attention.
        size: pixels along the edge of a picture.
        patch: pixels along the edge of a token's part of it.
        view: pixels along the edge of what a token sees around its part; as even or odd as `patch`.
        context: pictures that it sees.
        horizon: pictures that it predicts at once.
        actions: controls of a frame; see `nadoo_video.site.clips.ACTIONS`.
    """

    width: int = 384
    depth: int = 5
    heads: int = 6
    size: int = 64
    patch: int = 8
    view: int = 24
    context: int = 3
    horizon: int = 4
    actions: int = 4

    @property
    def patches(self) -> int:
        """Tokens of a picture."""
        return (self.size // self.patch) ** 2

    def to_json(self) -> dict[str, Any]:
        """What goes into config.json."""
        return asdict(self)


class Block(nn.Module):
    """Attention between all tokens, then an MLP for each; both with a residual around them."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.norm1 = nn.LayerNorm(shape.width)
        self.qkv = nn.Linear(shape.width, 3 * shape.width)
        self.out = nn.Linear(shape.width, shape.width)
        self.norm2 = nn.LayerNorm(shape.width)
        self.up = nn.Linear(shape.width, 4 * shape.width)
        self.down = nn.Linear(4 * shape.width, shape.width)

    def forward(self, tokens: Tensor) -> Tensor:
        """[batch, tokens, width] → the same."""
        batch, count, width = tokens.shape
        qkv = self.qkv(self.norm1(tokens)).view(batch, count, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        attended = functional.scaled_dot_product_attention(query, key, value)
        tokens = tokens + self.out(attended.transpose(1, 2).reshape(batch, count, width))
        return tokens + self.down(functional.gelu(self.up(self.norm2(tokens))))


class WorldModel(nn.Module):
    """Predicts `horizon` pictures from `context` pictures and the controls of each predicted frame.

    A token is one place of the picture, in all predicted frames. It begins with what the context shows around there,
    and with all controls; what comes out is added to the last picture.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        margin = (shape.view - shape.patch) // 2
        self.see = nn.Conv2d(shape.context * 3, shape.width, shape.view, shape.patch, margin)
        # The controls of each frame, and their sums since the last seen picture: how far it has moved by then.
        self.act = nn.Sequential(
            nn.Linear(2 * shape.actions * shape.horizon, shape.width), nn.GELU(), nn.Linear(shape.width, shape.width)
        )
        self.place = nn.Parameter(torch.zeros(shape.patches, shape.width))
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.depth))
        self.norm = nn.LayerNorm(shape.width)
        self.show = nn.Linear(shape.width, shape.horizon * 3 * shape.patch**2)

    def forward(self, context: Tensor, actions: Tensor) -> Tensor:
        """The next pictures.

        Args:
            context: [batch, context, 3, size, size], values from 0 to 1, float32 whatever the weights are: a bfloat16
                doesn't tell apart the 256 steps of a picture.
            actions: [batch, horizon, actions], float32.

        Returns:
            [batch, horizon, 3, size, size], float32, values about 0 to 1.
        """
        shape, dtype = self.shape, self.place.dtype
        batch, side, patch = context.shape[0], shape.size // shape.patch, shape.patch
        # What moved is told apart from what is there: it is little, and matters most.
        shown = torch.cat([context[:, -1:] - 0.5, context[:, 1:] - context[:, :-1]], 1)
        seen = self.see(shown.reshape(batch, shape.context * 3, shape.size, shape.size).to(dtype))
        acted = self.act(torch.cat([actions, actions.cumsum(1)], 2).reshape(batch, -1).to(dtype))
        tokens = seen.flatten(2).transpose(1, 2) + self.place + acted[:, None]
        for block in self.blocks:
            tokens = block(tokens)
        change = self.show(self.norm(tokens)).view(batch, side, side, shape.horizon, 3, patch, patch)
        change = change.permute(0, 3, 4, 1, 5, 2, 6).reshape(batch, shape.horizon, 3, shape.size, shape.size)
        return context[:, -1:] + change
