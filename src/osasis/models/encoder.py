"""The semantic encoder `z_sem = Enc(x0)` (DiffAE Eq. 6)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from osasis.models.layers import AttentionBlock, ResBlock, group_norm


@dataclass(frozen=True)
class EncoderConfig:
    """Shape of the semantic encoder.

    Attributes:
        image_size: height and width of the image in pixels.
        channels: width of the first level.
        channel_mult: width of each level as a multiple of `channels`.
        num_res_blocks: residual blocks (of one convolution each) per level.
        attention_resolutions: feature-map sizes, counted after the patch stem, with attention.
        z_dim: width of z_sem.
        patch_size: pixel-unshuffle factor of the stem; 1 is the released network.
        pool: average the last feature map over its places, as the released network does. Without,
            the last map from features to z_sem weighs every place for itself, so that z_sem learns
            sooner where things are (our own bases).
    """

    image_size: int
    channels: int
    channel_mult: tuple[int, ...]
    num_res_blocks: int
    attention_resolutions: tuple[int, ...]
    z_dim: int
    patch_size: int = 1
    pool: bool = True


class SemanticEncoder(nn.Module):
    """Down path of a U-Net without time, then one linear map to z_sem."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        width = config.channels * config.channel_mult[0]
        self.input_blocks = nn.ModuleList(
            [nn.Sequential(nn.Conv2d(3 * config.patch_size**2, width, 3, padding=1))]
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
        self.conv_final = nn.Conv2d(width, config.z_dim, 1 if config.pool else size)

    def forward(self, x0: Tensor) -> Tensor:
        """Encode images.

        Args:
            x0: (B, 3, H, W) float in [-1, 1].

        Returns:
            z_sem, (B, z_dim).
        """
        x = F.pixel_unshuffle(x0, self.config.patch_size)
        for stage in self.input_blocks:
            x = stage(x)
        x = F.silu(self.norm_final(self.middle_block(x)))
        if self.config.pool:
            x = F.adaptive_avg_pool2d(x, 1)
        return self.conv_final(x).flatten(1)
