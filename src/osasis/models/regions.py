"""Which part of a face each place of a latent shows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from osasis.models.autoencoder import Pair, pairs
from osasis.models.layers import conv3x3

REGIONS = (
    "ground", "skin", "neck", "brow", "eye", "mouth", "nose", "cloth", "hair", "hat", "glasses",
    "teeth",
)  # fmt: skip
_STRIDE = 4  # of the coarsest level, in latents


@dataclass(frozen=True)
class RegionConfig:
    """Shape of a region network.

    Attributes:
        channels: of the latents it reads.
        widths: channels of its levels, finest first.
    """

    channels: int = 32
    widths: tuple[int, ...] = (48, 72, 96)

    def __post_init__(self) -> None:
        if len(self.widths) != 3:
            raise ValueError(f"widths must name 3 levels, got {self.widths}")


class RegionNet(nn.Module):
    """A small U-Net of residual pairs from normalised latents to logits of regions.

    Its buffer `usual`, (R, C), holds the mean latents of each region over the photos that it was
    trained on: what a region's colours are compared with to see what is special about a person.
    """

    def __init__(self, config: RegionConfig) -> None:
        super().__init__()
        self.config = config
        w = config.widths
        self.inp = conv3x3(config.channels, w[0], "replicate")
        self.l0 = pairs(w[0], 2)
        self.d0 = conv3x3(w[0], w[1], "replicate", stride=2)
        self.l1 = pairs(w[1], 2)
        self.d1 = conv3x3(w[1], w[2], "replicate", stride=2)
        self.l2 = pairs(w[2], 2)
        self.u1 = nn.Conv2d(w[2], 4 * w[1], 1)
        self.m1 = Pair(w[1])
        self.u0 = nn.Conv2d(w[1], 4 * w[0], 1)
        self.m0 = Pair(w[0])
        self.out = conv3x3(w[0], 4 * len(REGIONS), "replicate")
        self.usual: Tensor
        self.register_buffer("usual", torch.zeros(len(REGIONS), config.channels))

    def forward(self, x0: Tensor) -> Tensor:
        """Logits (B, R, 2h, 2w) of normalised latents (B, C, h, w), h and w at least 1."""
        height, width = x0.shape[2:]
        # the borders repeat up to the next multiple of the coarsest level
        x = F.pad(x0, (0, -width % _STRIDE, 0, -height % _STRIDE), mode="replicate")
        fine = self.l0(self.inp(x))
        middle = self.l1(self.d0(fine))
        coarse = self.l2(self.d1(middle))
        middle = self.m1(middle + F.pixel_shuffle(self.u1(coarse), 2))
        fine = self.m0(fine + F.pixel_shuffle(self.u0(middle), 2))
        logits = F.pixel_shuffle(self.out(F.silu(fine)), 2)
        return logits[:, :, : 2 * height, : 2 * width]
