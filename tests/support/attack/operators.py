"""A program in which many operators take sizes, shapes and dimensions that a damaged file may change."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class Operators(nn.Module):
    """Of an image [2, 3, 8, 8]."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.spread = nn.ConvTranspose2d(4, 4, 2, stride=2)
        self.norm = nn.GroupNorm(2, 4)
        self.words = nn.Embedding(16, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.memory = nn.GRU(8, 8, batch_first=True)
        self.head = nn.Linear(8, 5)
        self.register_buffer("seen", torch.zeros(4))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Results of every family of operators."""
        image = F.gelu(self.norm(self.first(x)))
        pooled = F.adaptive_avg_pool2d(self.spread(image), (2, 4))
        most = F.adaptive_max_pool2d(image, 3) + F.max_pool2d(image, 2, 1)[..., :3, :3]
        mean = F.avg_pool2d(image, 2, 2, 1)
        large = F.interpolate(mean, scale_factor=2.0, mode="bilinear")
        padded = F.pad(large, (1, 2, 0, 1)).roll(1, 2).flip(3)
        rows = image.flatten(2).transpose(1, 2)[:, :, :4].repeat(1, 1, 2)
        places = torch.arange(0, 16, 2)
        words = self.words(places % 16).unsqueeze(0).expand(2, -1, -1)
        mixed = self.layer(torch.cat([rows[:, :8], words], 1))
        kept, _ = self.memory(mixed)
        best = kept.topk(3, -1).values.cumsum(1)
        chosen = kept.gather(1, torch.zeros(2, 1, 8, dtype=torch.int64))
        parts = mixed.split([4, 4, 8], 1)
        product = torch.einsum("bij,bkj->bik", parts[0], parts[1]).tril(1)
        self.seen.add_(image.mean((0, 2, 3)))
        grid = torch.linspace(-1, 1, 4).view(1, 4, 1).repeat_interleave(2, 0) * torch.eye(4)
        unfolded = kept.unfold(1, 4, 2).amax(-1)
        scores = F.scaled_dot_product_attention(kept[:, None], mixed[:, None], mixed[:, None])
        return [
            self.head(kept[:, -1]).softmax(-1), pooled.sum(), most, padded.std(), best, chosen, product, grid,
            unfolded, scores, self.seen.clone(), torch.full((3, 2), 0.5), mixed.argsort(-1)[..., 0],
        ]  # fmt: skip
