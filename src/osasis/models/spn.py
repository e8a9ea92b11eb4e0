"""The structure-preserving network (Eqs. 12, 13): 1x1 convolutions, from I_A to x_t."""

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
    """Shape of an SPN: widths `channels`, `2 * channels`, `channels` between input and output.

    Attributes:
        channels: width of the outer layers; 128 in the release.
        time_dim: width of the timestep embedding; None for an SPN that ignores time.
        zero_init: start with an output of exactly 0, so that learning begins at the base
            (engineering choice); the release starts from random weights.
        in_channels: what it sees: RGB, or latents and what else is known of each place.
        out_channels: of x_t: RGB or latents.
    """

    channels: int = 128
    time_dim: int | None = 512
    zero_init: bool = False
    in_channels: int = 3
    out_channels: int = 3


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
        self.conv_first = nn.Conv2d(config.in_channels, width, 1)
        self.conv_last = nn.Conv2d(width, config.out_channels, 1)
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
        """Structure term (B, out_channels, H, W) for I_A (B, in_channels, H, W) at timesteps (B,).

        I_A is the photo in [-1, 1], or its latents.
        """
        x = self.conv_first(x0)
        if self.config.time_dim is None:
            return self.conv_last(self.plain(x))
        time_emb = self.time_embed(timestep_embedding(t, self.config.channels).to(x.dtype))
        for block in self.blocks:
            x = block(x, time_emb)
        return self.conv_last(x)


def new_spn(settings: SPNSettings, in_channels: int = 3, out_channels: int = 3) -> SPN:
    """The SPN that a preset describes, its weights drawn from torch's generator."""
    time_dim = SPNConfig.time_dim if settings.timed else None
    return SPN(
        SPNConfig(settings.channels, time_dim, settings.zero_init, in_channels, out_channels)
    )


def spn_term(spn: SPN, photo: Tensor, step: Step, *, index_time: bool) -> Tensor:
    """`SPN(I_A, t)` (Eq. 12), t being the timestep or, as in the release, the grid's index."""
    return spn(photo, timesteps(photo, step.index if index_time else step.t))
