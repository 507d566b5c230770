"""A frozen encoder that is small and real: a fixed random projection below a trained head."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class Projection(nn.Module):
    """Vectors [B, F] or images uint8 [B, 3, H, W] → [B, D]; the projection is frozen.

    Args:
        width: of what is projected, after images were resized.
        dim: D.
        seed: of the projection's weights.
        pooling: tanh or relu after it.
        size: height and width that images are resized to; None: vectors.
        augment: training images are mirrored.
    """

    def __init__(self, width, dim, seed=0, pooling="tanh", size=None, hidden=12, augment=False):
        super().__init__()
        self.pooling, self.size, self.augment = pooling, size, augment
        self.body = nn.Sequential(nn.Linear(width, hidden, bias=False), nn.Dropout(0.5))
        with torch.no_grad():
            draws = torch.randn(hidden, width, generator=torch.Generator().manual_seed(seed))
            self.body[0].weight.copy_(draws / width**0.5)
        self.body.requires_grad_(False).eval()
        self.project = nn.Linear(hidden, dim)
        self.calls = self.samples = 0

    def train(self, mode=True):
        super().train(mode)
        self.body.eval()
        return self

    def transform(self, raw, training, generator):
        if self.size is None:
            return raw
        if training and self.augment:
            raw = raw.flip(-1)
        small = F.interpolate(raw.float(), (self.size, self.size), mode="area")
        return {"pixels": small.flatten(1) / 255}

    @torch.no_grad()
    def features(self, x):
        x = x["pixels"] if isinstance(x, dict) else x
        self.calls, self.samples = self.calls + 1, self.samples + len(x)
        return getattr(torch, self.pooling)(self.body(x))

    def head(self, features):
        return self.project(features)

    def forward(self, x):
        known = isinstance(x, dict) and "features" in x
        return self.head(x["features"] if known else self.features(x))

    def cache_key(self):
        return {"pooling": self.pooling, "size": self.size}


class Trained(Projection):
    """The same, trained as a whole: nothing of it may be cached."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.requires_grad_(True)

    def cache_key(self):
        return None
