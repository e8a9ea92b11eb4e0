"""The structure-preserving network (Eqs. 12, 13): 1x1 convolutions, RGB to RGB."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from osasis.config.presets import SPNSettings
from osasis.diffusion.sample import timesteps
from osasis.diffusion.schedule import Step
from osasis.models.layers import group_norm, timestep_embedding, zero_init


@dataclass(frozen=True)
class SPNConfig:
    """Shape of an SPN: widths `channels`, `2 * channels`, `channels` between RGB and RGB.

    Attributes:
        channels: width of the outer layers; 128 in the release.
        time_dim: width of the timestep embedding; None for an SPN that ignores time.
        zero_init: start with an output of exactly 0, so that learning begins at the base
            (engineering choice); the release starts from random weights.
    """

    channels: int = 128
    time_dim: int | None = 512
    zero_init: bool = False


class SPNBlock(nn.Module):
    """1x1 convolution, scale and shift by the timestep, 1x1 convolution."""

    def __init__(self, in_channels: int, out_channels: int, time_dim: int) -> None:
        super().__init__()
        self.norm_in = group_norm(in_channels)
        self.conv_in = nn.Conv2d(in_channels, out_channels, 1)
        self.norm_out = group_norm(out_channels)
        self.conv_out = nn.Conv2d(out_channels, out_channels, 1)
        self.time_proj = nn.Linear(time_dim, 2 * out_channels)

    def forward(self, x: Tensor, time_emb: Tensor) -> Tensor:
        scale, shift = self.time_proj(F.silu(time_emb))[:, :, None, None].chunk(2, dim=1)
        x = self.norm_out(self.conv_in(F.silu(self.norm_in(x))))
        return self.conv_out(F.silu(x * (1 + scale) + shift))


class SPN(nn.Module):
    """`spn(I_A, t)`: what to add to x_t so that the photo's structure survives."""

    def __init__(self, config: SPNConfig) -> None:
        super().__init__()
        self.config = config
        width, time_dim = config.channels, config.time_dim
        self.conv_first = nn.Conv2d(3, width, 1)
        self.conv_last = nn.Conv2d(width, 3, 1)
        if config.zero_init:
            zero_init(self.conv_last)
        if time_dim is None:
            self.plain = nn.Sequential(
                group_norm(width), nn.SiLU(), nn.Conv2d(width, 2 * width, 1),
                group_norm(2 * width), nn.SiLU(), nn.Conv2d(2 * width, width, 1),
                group_norm(width), nn.SiLU(),
            )  # fmt: skip
        else:
            self.time_embed = nn.Sequential(
                nn.Linear(width, time_dim), nn.SiLU(), nn.Linear(time_dim, time_dim)
            )
            self.blocks = nn.ModuleList(
                [SPNBlock(width, 2 * width, time_dim), SPNBlock(2 * width, width, time_dim)]
            )

    def forward(self, x0: Tensor, t: Tensor) -> Tensor:
        """Structure term for images (B, 3, H, W) in [-1, 1] at timesteps (B,); same shape."""
        x = self.conv_first(x0)
        if self.config.time_dim is None:
            return self.conv_last(self.plain(x))
        time_emb = self.time_embed(timestep_embedding(t, self.config.channels).to(x.dtype))
        for block in self.blocks:
            x = block(x, time_emb)
        return self.conv_last(x)


def new_spn(settings: SPNSettings) -> SPN:
    """The SPN that a preset describes, its weights drawn from torch's generator."""
    time_dim = SPNConfig.time_dim if settings.timed else None
    return SPN(SPNConfig(settings.channels, time_dim, settings.zero_init))


def spn_term(spn: SPN, x0: Tensor, step: Step, *, index_time: bool) -> Tensor:
    """`SPN(I_A, t)` (Eq. 12), t being the timestep or, as in the release, the grid's index."""
    return spn(x0, timesteps(x0, step.index if index_time else step.t))
