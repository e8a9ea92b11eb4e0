"""The losses of pretraining as modules: what several processes share and what is compiled."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from osasis.diffusion.ddpm import q_sample, velocity
from osasis.diffusion.schedule import IMAGE_SCHEDULE, LATENT_SCHEDULE, Schedule
from osasis.models.diffae import DiffAE, DiffAEConfig
from osasis.models.latent_net import LatentNet, LatentNetConfig


@dataclass(frozen=True)
class Draw:
    """What is random in one update of a batch.

    Attributes:
        t: (B,) int64 timesteps, uniform.
        eps: noise of the shape of the batch, standard normal.
        keep: (B,) bool, False where z_sem is replaced by the null code.
    """

    t: Tensor
    eps: Tensor
    keep: Tensor


def draw(
    shape: torch.Size, schedule: Schedule, null_probability: float, noise: torch.Generator
) -> Draw:
    """Draw one update's timesteps, noise and drops, all from `noise`."""
    device = noise.device
    t = torch.randint(0, schedule.num_steps, (shape[0],), generator=noise, device=device)
    eps = torch.randn(shape, generator=noise, device=device)
    keep = torch.rand(shape[0], generator=noise, device=device) >= null_probability
    return Draw(t, eps, keep)


class DiffAELoss(nn.Module):
    """A DiffAE in training."""

    def __init__(self, config: DiffAEConfig) -> None:
        super().__init__()
        self.diffae = DiffAE(config)

    def forward(self, x0: Tensor, t: Tensor, eps: Tensor, keep: Tensor) -> Tensor:
        """The denoising loss (DiffAE Eq. 9, DDPM Eq. 14), a scalar.

        It is on the U-Net's own target, noise or v (2202.00512). Where `keep` is
        False, z_sem is replaced by the null code (2207.12598).

        Args:
            x0: (B, 3, H, W) in [-1, 1].
            t, eps, keep: see `Draw`.
        """
        model = self.diffae
        alpha_bar = IMAGE_SCHEDULE.alpha_bar_at(t)
        x_t = q_sample(x0, eps, alpha_bar)
        z_sem = model.encode(x0)
        seen = z_sem
        if model.z_null is not None:
            seen = torch.where(keep[:, None], z_sem, model.z_null[None].to(z_sem.dtype))
        out = model.unet(x_t, t, model.plain(seen))
        target = eps
        if model.config.prediction == "v":
            target = velocity(x0, eps, alpha_bar)
        return F.mse_loss(out.float(), target)


class LatentLoss(nn.Module):
    """A latent DPM in training (DiffAE section 3.4)."""

    def __init__(self, config: LatentNetConfig) -> None:
        super().__init__()
        self.latent_net = LatentNet(config)

    def forward(self, z: Tensor, t: Tensor, eps: Tensor, keep: Tensor) -> Tensor:
        """The L1 denoising loss over normalised codes (B, z_dim); `keep` is unused."""
        alpha_bar = LATENT_SCHEDULE.alpha_bar_at(t)[:, :, 0, 0]
        return F.l1_loss(self.latent_net(q_sample(z, eps, alpha_bar), t).float(), eps)
