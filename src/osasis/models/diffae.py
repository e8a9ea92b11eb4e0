"""The diffusion autoencoder: semantic encoder and conditional U-Net behind one interface."""

from __future__ import annotations

import copy
from collections.abc import Container, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from osasis.diffusion.route import Route
from osasis.diffusion.sample import follow
from osasis.diffusion.schedule import IMAGE_SCHEDULE
from osasis.models.conditioning import Conditioning
from osasis.models.encoder import (
    EncoderConfig,
    SemanticEncoder,
    ThumbnailEncoder,
    ThumbnailEncoderConfig,
)
from osasis.models.unet import UNet, UNetConfig


@dataclass(frozen=True)
class DiffAEConfig:
    """A DiffAE's two networks and what its U-Net predicts.

    Attributes:
        unet: the conditional U-Net.
        encoder: the semantic encoder; image size and z_dim agree with the U-Net's.
        prediction: "eps" (the released networks) or "v" (2202.00512, our own bases): the U-Net's
            output is then `sqrt(alpha_bar) * eps - sqrt(1 - alpha_bar) * x0`.
        null_code: whether a learned code stands for "no image", which makes the same U-Net the
            unconditional DDPM of the bridge.
    """

    unet: UNetConfig
    encoder: EncoderConfig | ThumbnailEncoderConfig
    prediction: str = "eps"
    null_code: bool = False


class DiffAE(nn.Module):
    """`z_sem = encode(x0)`, `eps_hat = eps(x_t, t, conditioning)` (DiffAE Eqs. 6, 7)."""

    def __init__(self, config: DiffAEConfig) -> None:
        super().__init__()
        if config.prediction not in ("eps", "v"):
            raise ValueError(f"prediction must be 'eps' or 'v', got {config.prediction!r}")
        if config.unet.z_dim != config.encoder.z_dim:
            raise ValueError(
                f"z_dim differs: U-Net {config.unet.z_dim}, encoder {config.encoder.z_dim}"
            )
        self.config = config
        self.unet = UNet(config.unet)
        self.encoder = (
            ThumbnailEncoder(config.encoder)
            if isinstance(config.encoder, ThumbnailEncoderConfig)
            else SemanticEncoder(config.encoder)
        )
        self.z_null = nn.Parameter(torch.zeros(config.encoder.z_dim)) if config.null_code else None

    @property
    def num_levels(self) -> int:
        return self.config.unet.num_levels

    def encode(self, x0: Tensor) -> Tensor:
        """z_sem, (B, z_dim), of images (B, 3, H, W) in [-1, 1]."""
        return self.encoder(x0)

    def plain(self, z_sem: Tensor) -> Conditioning:
        """Conditioning with `z_sem` on every level."""
        return Conditioning.plain(z_sem, self.num_levels)

    def mixed(self, z_style: Tensor, z_content: Tensor, levels: Iterable[int]) -> Conditioning:
        """Conditioning with `z_style` on `levels` and `z_content` elsewhere."""
        return Conditioning.mixed(z_style, z_content, levels, self.num_levels)

    def null(self, batch: int) -> Conditioning:
        """Conditioning of the unconditional model.

        Raises:
            ValueError: this DiffAE was trained without a null code.
        """
        if self.z_null is None:
            raise ValueError("this base has no null code: it cannot act as an unconditional DDPM")
        return self.plain(self.z_null[None].expand(batch, -1))

    def eps(self, x_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """Predicted noise, (B, 3, H, W), at timesteps `t`, (B,) int64."""
        out = self.unet(x_t, t, conditioning)
        if self.config.prediction == "eps":
            return out
        alpha_bar = IMAGE_SCHEDULE.alpha_bar_at(t).to(x_t.dtype)
        return alpha_bar.sqrt() * out + (1 - alpha_bar).sqrt() * x_t


def invert(diffae: DiffAE, x0: Tensor, z_sem: Tensor, route: Route) -> Tensor:
    """Structural codes x_t0 of photos, conditioned on their own z_sem (Eq. 11).

    Args:
        x0: (B, 3, H, W) in [-1, 1].
        z_sem: (B, z_dim).
    """
    conditioning = diffae.plain(z_sem)
    return follow(lambda x, t: diffae.eps(x, t, conditioning), x0, route, route.inversion())


def copy_unet(diffae: DiffAE, changed: Container[str] | None = None) -> DiffAE:
    """A DiffAE whose U-Net is a copy and whose encoder is shared.

    Args:
        changed: parameters of the U-Net that are copied, the others being shared; None copies all.
    """
    shared: list[nn.Module | nn.Parameter] = [diffae.encoder]
    if changed is not None:
        shared += [p for name, p in diffae.unet.named_parameters() if name not in changed]
    # deepcopy takes what its memo already holds as it is
    return copy.deepcopy(diffae, {id(part): part for part in shared})
