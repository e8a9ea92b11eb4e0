"""Semantic encoders `z_sem = Enc(x0)` (DiffAE Eq. 6): the paper's, and one in closed form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from osasis.models.layers import AttentionBlock, ResBlock, conv3x3, group_norm


@dataclass(frozen=True)
class EncoderConfig:
    """Shape of the semantic encoder.

    Attributes:
        image_size: height and width of x0, in pixels or latents.
        channels: width of the first level.
        channel_mult: width of each level as a multiple of `channels`.
        num_res_blocks: residual blocks (of one convolution each) per level.
        attention_resolutions: feature-map sizes, counted after the patch stem, with attention.
        z_dim: width of z_sem.
        patch_size: pixel-unshuffle factor of the stem; 1 is the released network.
        in_channels: of x0: 3, or an autoencoder's latent channels.
    """

    image_size: int
    channels: int
    channel_mult: tuple[int, ...]
    num_res_blocks: int
    attention_resolutions: tuple[int, ...]
    z_dim: int
    patch_size: int = 1
    in_channels: int = 3


@dataclass(frozen=True)
class ThumbnailEncoderConfig:
    """Shape of the encoder in closed form.

    Attributes:
        image_size: height and width of x0, in pixels or latents.
        thumbnail_size: height and width of the thumbnail that z_sem describes.
        z_dim: width of z_sem, the number of principal components.
        channels: of the thumbnail: the first ones of x0, which in latents hold most of the energy.
    """

    image_size: int
    thumbnail_size: int
    z_dim: int
    channels: int = 3


def encoder_config_class(
    table: Mapping[str, object],
) -> type[EncoderConfig] | type[ThumbnailEncoderConfig]:
    """Which of the two encoders a table of settings describes."""
    return ThumbnailEncoderConfig if "thumbnail_size" in table else EncoderConfig


class SemanticEncoder(nn.Module):
    """Down path of a U-Net without time, then one linear map to z_sem."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        width = config.channels * config.channel_mult[0]
        self.input_blocks = nn.ModuleList(
            [nn.Sequential(conv3x3(config.in_channels * config.patch_size**2, width))]
        )
        size = config.image_size // config.patch_size
        for level, mult in enumerate(config.channel_mult):
            for _ in range(config.num_res_blocks):
                stage = nn.Sequential(ResBlock(width, config.channels * mult))
                width = config.channels * mult
                if size in config.attention_resolutions:
                    stage.append(AttentionBlock(width))
                self.input_blocks.append(stage)
            if level < len(config.channel_mult) - 1:
                self.input_blocks.append(nn.Sequential(ResBlock(width, width, direction="down")))
                size //= 2
        self.middle_block = nn.Sequential(
            ResBlock(width, width), AttentionBlock(width), ResBlock(width, width)
        )
        self.norm_final = group_norm(width)
        self.conv_final = nn.Conv2d(width, config.z_dim, 1)

    def forward(self, x0: Tensor) -> Tensor:
        """Encode images.

        Args:
            x0: (B, 3, H, W) float in [-1, 1], or normalised latents (B, in_channels, H, W).

        Returns:
            z_sem, (B, z_dim).
        """
        x = F.pixel_unshuffle(x0, self.config.patch_size)
        for stage in self.input_blocks:
            x = stage(x)
        x = F.silu(self.norm_final(self.middle_block(x)))
        return self.conv_final(F.adaptive_avg_pool2d(x, 1)).flatten(1)


class ThumbnailEncoder(nn.Module):
    """z_sem as the whitened principal components of a thumbnail (engineering choice).

    A convolutional encoder learns slowly from the denoising loss, because the U-Net sees most of
    the image in x_t. These codes need no training: `fit` finds them in closed form, and the loss
    leaves them alone. They describe pose, light, colour and expression linearly ("eigenfaces",
    Turk and Pentland 1991).
    """

    def __init__(self, config: ThumbnailEncoderConfig) -> None:
        super().__init__()
        pixels = config.channels * config.thumbnail_size**2
        if config.z_dim > pixels:
            raise ValueError(f"a thumbnail of {pixels} numbers has no {config.z_dim} components")
        self.config = config
        self.project = nn.Linear(pixels, config.z_dim).requires_grad_(False)

    def thumbnails(self, x0: Tensor) -> Tensor:
        """x0 (B, C, H, W) as thumbnails (B, channels * thumbnail_size**2), averages over areas."""
        side = self.config.thumbnail_size
        first = x0[:, : self.config.channels]
        return F.interpolate(first, size=(side, side), mode="area").flatten(1)

    def forward(self, x0: Tensor) -> Tensor:
        """As `SemanticEncoder.forward`; over photos like those of `fit`, mean 0 and variance 1."""
        return self.project(self.thumbnails(x0))

    @torch.no_grad()
    def fit(self, mean: Tensor, covariance: Tensor) -> nn.Linear:
        """Take the components from statistics of thumbnails.

        Args:
            mean: (P,) of thumbnails.
            covariance: (P, P).

        Returns:
            The way back, z_sem to the nearest thumbnail, as a linear layer.
        """
        values, vectors = torch.linalg.eigh(covariance.double().cpu())
        kept = slice(len(values) - self.config.z_dim, None)
        # few images have fewer components than z_dim: the rest must not blow up
        std = values[kept].clamp_min(1e-6 * float(values[-1])).sqrt().flip(0)
        basis = vectors[:, kept].flip(1)
        weight = (basis / std).T
        self.project.weight.copy_(weight)
        self.project.bias.copy_(-(weight @ mean.double().cpu()))
        back = nn.Linear(self.config.z_dim, len(mean))
        back.weight.copy_(basis * std)
        back.bias.copy_(mean)
        return back
