"""Building blocks shared by the U-Nets and the semantic encoder."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Borders = Literal["zeros", "replicate"]
GROUPS = 32  # group count of every GroupNorm in the released networks


def group_norm(channels: int) -> nn.GroupNorm:
    """GroupNorm with 32 groups, or the largest number of groups that divides `channels`."""
    return nn.GroupNorm(math.gcd(GROUPS, channels), channels)


def timestep_embedding(t: Tensor, dim: int, max_period: float = 10000.0) -> Tensor:
    """Sinusoidal embedding of timesteps (DDPM, 2006.11239, appendix B; cosines first).

    Args:
        t: (B,) timesteps on the training schedule, any integer or float dtype.
        dim: embedding width, even.

    Returns:
        (B, dim) float32.
    """
    half = dim // 2
    freqs = torch.exp(
        -math.log(max_period) * torch.arange(half, dtype=torch.float32, device=t.device) / half
    )
    angles = t.float()[:, None] * freqs[None]
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def conv3x3(
    in_channels: int, out_channels: int, borders: Borders = "zeros", stride: int = 1
) -> nn.Conv2d:
    """A convolution of 3 x 3 that keeps height and width, divided by `stride`.

    Args:
        borders: what it reads outside: zeros, or what lies at the border again. A network that
            reads zeros there knows where a picture ends, and draws it otherwise.
    """
    return nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, padding_mode=borders)


def zero_init(layer: nn.Conv2d) -> nn.Conv2d:
    """Set a convolution's parameters to zero, so that its block starts as the identity."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def resize_half_or_double(x: Tensor, direction: str | None) -> Tensor:
    """Average-pool by 2 ("down"), repeat by 2 ("up"), or leave as is (None)."""
    if direction == "down":
        return F.avg_pool2d(x, 2)
    if direction == "up":
        return F.interpolate(x, scale_factor=2, mode="nearest")
    return x


class ResBlock(nn.Module):
    """Residual block with scale-shift by the timestep and scale by z_sem (DiffAE Eq. 7).

    The normalised features are modulated as `(1 + s_z) * ((1 + s_t) * norm(h) + b_t)`.
    Without `time_dim` the block has a single convolution (the encoder's block).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        time_dim: int | None = None,
        z_dim: int | None = None,
        dropout: float = 0.0,
        direction: str | None = None,
        borders: Borders = "zeros",
    ) -> None:
        super().__init__()
        self.direction = direction
        self.norm_in = group_norm(in_channels)
        self.conv_in = conv3x3(in_channels, out_channels, borders)
        self.skip = (
            nn.Conv2d(in_channels, out_channels, 1)
            if in_channels != out_channels
            else nn.Identity()
        )
        self.time_proj = nn.Linear(time_dim, 2 * out_channels) if time_dim else None
        self.z_proj = nn.Linear(z_dim, out_channels) if z_dim else None
        if self.time_proj is not None:
            self.norm_out = group_norm(out_channels)
            self.dropout = nn.Dropout(dropout)
            self.conv_out = zero_init(conv3x3(out_channels, out_channels, borders))

    def forward(self, x: Tensor, time_emb: Tensor | None = None, z: Tensor | None = None) -> Tensor:
        hidden = F.silu(self.norm_in(x))
        hidden = self.conv_in(resize_half_or_double(hidden, self.direction))
        skip = self.skip(resize_half_or_double(x, self.direction))
        if self.time_proj is None:
            return skip + hidden
        if time_emb is None:
            raise ValueError("this ResBlock is conditioned on the timestep: pass time_emb")
        scale, shift = self.time_proj(F.silu(time_emb))[:, :, None, None].chunk(2, dim=1)
        hidden = self.norm_out(hidden) * (1 + scale) + shift
        if self.z_proj is not None:
            if z is None:
                raise ValueError("this ResBlock is conditioned on z_sem: pass z")
            hidden = hidden * (1 + self.z_proj(F.silu(z))[:, :, None, None])
        return skip + self.conv_out(self.dropout(F.silu(hidden)))


class AttentionBlock(nn.Module):
    """Self-attention over pixels; qkv channels are ordered head by head (guided-diffusion)."""

    def __init__(self, channels: int, head_channels: int | None = None) -> None:
        super().__init__()
        self.heads = 1 if head_channels is None else channels // head_channels
        self.norm = group_norm(channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(self.proj_out.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        flat = x.reshape(batch, channels, height * width)
        qkv = self.qkv(self.norm(flat))
        qkv = qkv.reshape(batch, self.heads, 3 * channels // self.heads, height * width)
        q, k, v = qkv.transpose(2, 3).contiguous().chunk(3, dim=-1)
        out = F.scaled_dot_product_attention(q, k, v)
        out = out.transpose(2, 3).reshape(batch, channels, height * width)
        return (flat + self.proj_out(out)).reshape(x.shape)
