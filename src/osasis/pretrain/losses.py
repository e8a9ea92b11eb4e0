"""The losses of pretraining as modules: what several processes share and what is compiled."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from osasis.diffusion.schedule import IMAGE_SCHEDULE, LATENT_SCHEDULE, Schedule
from osasis.models.diffae import DiffAE, DiffAEConfig
from osasis.models.latent_net import LatentNet, LatentNetConfig

THUMBNAIL = 4  # the thumbnail's side is the image's divided by this


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
    """A DiffAE in training.

    Args:
        config: of the DiffAE.
        thumbnail: whether a linear layer, dropped after training, draws the image at a quarter of
            its side from z_sem. The denoising loss alone teaches the encoder slowly, because the
            U-Net sees most of the image in x_t; the thumbnail tells it directly (engineering
            choice).
    """

    terms = ("denoising", "thumbnail")

    def __init__(self, config: DiffAEConfig, *, thumbnail: bool) -> None:
        super().__init__()
        self.diffae = DiffAE(config)
        self.side = config.encoder.image_size // THUMBNAIL
        self.thumbnail = (
            nn.Linear(config.encoder.z_dim, 3 * self.side**2) if thumbnail else nn.Identity()
        )

    def forward(self, x0: Tensor, t: Tensor, eps: Tensor, keep: Tensor) -> Tensor:
        """The terms of the loss, (2,): denoising (DiffAE Eq. 9, DDPM Eq. 14), thumbnail.

        The denoising loss is on the U-Net's own target, noise or v (2202.00512). Where `keep` is
        False, z_sem is replaced by the null code (2207.12598).

        Args:
            x0: (B, 3, H, W) in [-1, 1].
            t, eps, keep: see `Draw`.
        """
        model = self.diffae
        alpha_bar = IMAGE_SCHEDULE.alpha_bar_at(t)
        x_t = alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * eps
        z_sem = model.encode(x0)
        seen = z_sem
        if model.z_null is not None:
            seen = torch.where(keep[:, None], z_sem, model.z_null[None].to(z_sem.dtype))
        out = model.unet(x_t, t, model.plain(seen))
        target = eps
        if model.config.prediction == "v":
            target = alpha_bar.sqrt() * eps - (1 - alpha_bar).sqrt() * x0
        denoising = F.mse_loss(out.float(), target)
        if isinstance(self.thumbnail, nn.Identity):
            return torch.stack([denoising, torch.zeros_like(denoising)])
        small = F.interpolate(x0, size=(self.side, self.side), mode="area").flatten(1)
        return torch.stack([denoising, F.mse_loss(self.thumbnail(z_sem).float(), small)])


class LatentLoss(nn.Module):
    """A latent DPM in training (DiffAE section 3.4)."""

    terms = ("denoising",)

    def __init__(self, config: LatentNetConfig) -> None:
        super().__init__()
        self.latent_net = LatentNet(config)

    def forward(self, z: Tensor, t: Tensor, eps: Tensor, keep: Tensor) -> Tensor:
        """The L1 denoising loss over normalised codes (B, z_dim), as (1,); `keep` is unused."""
        alpha_bar = LATENT_SCHEDULE.alpha_bar_at(t)[:, :, 0, 0]
        z_t = alpha_bar.sqrt() * z + (1 - alpha_bar).sqrt() * eps
        return F.l1_loss(self.latent_net(z_t, t).float(), eps)[None]
