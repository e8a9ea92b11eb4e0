"""The latent DPM's network: an MLP with skips over normalised z_sem (DiffAE section 3.4)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from osasis.models.layers import timestep_embedding

TIME_CHANNELS = 64  # width of the sinusoidal embedding in the released latent network


@dataclass(frozen=True)
class LatentNetConfig:
    """Shape of the latent network: `num_layers` linear maps of width `hidden` over `z_dim` inputs.

    Every layer but the first and the last sees the input again beside the hidden state.
    """

    z_dim: int
    hidden: int
    num_layers: int


class LatentLayer(nn.Module):
    """Linear map, scale by the timestep, LayerNorm, SiLU."""

    def __init__(self, in_dim: int, out_dim: int, time_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_dim, out_dim)
        self.time_proj = nn.Linear(time_dim, out_dim)
        self.norm = nn.LayerNorm(out_dim)

    def forward(self, x: Tensor, time_emb: Tensor) -> Tensor:
        x = self.linear(x) * (1 + self.time_proj(F.silu(time_emb)))
        return F.silu(self.norm(x))


class LatentNet(nn.Module):
    """Noise predictor over z_sem: `eps_hat = latent_net(z_t, t)`."""

    def __init__(self, config: LatentNetConfig) -> None:
        super().__init__()
        self.config = config
        z, hidden = config.z_dim, config.hidden
        self.time_embed = nn.Sequential(nn.Linear(TIME_CHANNELS, z), nn.SiLU(), nn.Linear(z, z))
        self.layers = nn.ModuleList([LatentLayer(z, hidden, z)])
        for _ in range(config.num_layers - 2):
            self.layers.append(LatentLayer(hidden + z, hidden, z))
        self.out = nn.Linear(hidden + z, z)

    def forward(self, z_t: Tensor, t: Tensor) -> Tensor:
        """Predict the noise in `z_t`, (B, z_dim), at timesteps `t`, (B,)."""
        time_emb = self.time_embed(timestep_embedding(t, TIME_CHANNELS).to(z_t.dtype))
        x = self.layers[0](z_t, time_emb)
        for layer in self.layers[1:]:
            x = layer(torch.cat([x, z_t], dim=1), time_emb)
        return self.out(torch.cat([x, z_t], dim=1))
