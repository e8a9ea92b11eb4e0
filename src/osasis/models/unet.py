"""The U-Net of DiffAE and of the (P2) DDPM: one class, two configurations."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from osasis.models.conditioning import Conditioning
from osasis.models.layers import (
    AttentionBlock,
    Borders,
    ResBlock,
    conv3x3,
    group_norm,
    timestep_embedding,
    zero_init,
)


@dataclass(frozen=True)
class UNetConfig:
    """Shape of a U-Net.

    Attributes:
        image_size: height and width of the (square) image in pixels.
        channels: width of the first level.
        channel_mult: width of each level as a multiple of `channels`, highest resolution first.
        num_res_blocks: residual blocks per level on the way down (one more on the way up).
        attention_resolutions: feature-map sizes, counted after the patch stem, with attention.
        time_dim: width of the timestep embedding.
        z_dim: width of z_sem; None for an unconditional network.
        out_channels: 3, or 6 for a network that also predicts its variance.
        head_channels: channels per attention head; None for a single head.
        dropout: dropout inside residual blocks, active in training mode only.
        patch_size: pixel-unshuffle factor of the stem; 1 is the released network.
        draft_size: side of a small picture, the draft, that a linear layer draws from the middle
            block's z_sem: the stem sees it, enlarged, beside x_t. So the U-Net need not learn to
            paint from a vector, and in mixed conditioning the draft is the content's. 0 is the
            released network, without.
        in_channels: of x_t: 3, or an autoencoder's latent channels.
        draft_channels: of the draft.
        borders: what convolutions read outside of the picture, see `conv3x3`; zeros are the
            released networks'.
    """

    image_size: int
    channels: int
    channel_mult: tuple[int, ...]
    num_res_blocks: int
    attention_resolutions: tuple[int, ...]
    time_dim: int
    z_dim: int | None = None
    out_channels: int = 3
    head_channels: int | None = None
    dropout: float = 0.0
    patch_size: int = 1
    draft_size: int = 0
    in_channels: int = 3
    draft_channels: int = 3
    borders: Borders = "zeros"

    def __post_init__(self) -> None:
        if self.draft_size and self.z_dim is None:
            raise ValueError("a draft is drawn from z_sem: a network without z_dim has none")
        if self.channels % 2:  # half of the embedding of t are sines
            raise ValueError(f"channels must be even, got {self.channels}")
        smallest = self.patch_size * 2 ** (self.num_levels - 1)
        if self.image_size % smallest:
            raise ValueError(
                f"image_size must be a multiple of {smallest} for {self.num_levels} levels and "
                f"patches of {self.patch_size}, got {self.image_size}"
            )
        heads = self.head_channels
        if heads is not None and (
            heads < 1 or any(self.channels * m % heads for m in self.channel_mult)
        ):
            raise ValueError(f"head_channels must divide the channels of each level, got {heads}")

    @property
    def num_levels(self) -> int:
        return len(self.channel_mult)


class Stage(nn.ModuleList):
    """Blocks applied in order; residual blocks also get the embeddings."""

    def forward(self, x: Tensor, time_emb: Tensor, z: Tensor | None) -> Tensor:
        for layer in self:
            x = layer(x, time_emb, z) if isinstance(layer, ResBlock) else layer(x)
        return x


class UNet(nn.Module):
    """Noise predictor `eps_hat = unet(x_t, t, conditioning)` (DDPM; DiffAE section 3)."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        pixels = config.patch_size**2
        self.time_embed = nn.Sequential(
            nn.Linear(config.channels, config.time_dim),
            nn.SiLU(),
            nn.Linear(config.time_dim, config.time_dim),
        )
        width = config.channels * config.channel_mult[0]
        seen = config.in_channels + (config.draft_channels if config.draft_size else 0)
        seen *= pixels
        self.input_blocks = nn.ModuleList([Stage([conv3x3(seen, width, config.borders)])])
        skips = self._build_down(width)
        self.output_blocks = nn.ModuleList()
        self._build_up(skips)
        self.norm_final = group_norm(width)
        self.conv_final = zero_init(conv3x3(width, config.out_channels * pixels, config.borders))
        self.draft = None
        if config.draft_size and config.z_dim:
            self.draft = nn.Linear(config.z_dim, config.draft_channels * config.draft_size**2)

    def _res(self, in_channels: int, out_channels: int, direction: str | None = None) -> ResBlock:
        c = self.config
        return ResBlock(
            in_channels,
            out_channels,
            time_dim=c.time_dim,
            z_dim=c.z_dim,
            dropout=c.dropout,
            direction=direction,
            borders=c.borders,
        )

    def _attends(self, level: int) -> bool:
        c = self.config
        return c.image_size // c.patch_size // 2**level in c.attention_resolutions

    def _build_down(self, width: int) -> list[int]:
        """Append the down path and the middle block; return the widths of the skips."""
        c = self.config
        skips, self.input_levels = [width], [0]
        for level, mult in enumerate(c.channel_mult):
            for _ in range(c.num_res_blocks):
                stage = Stage([self._res(width, c.channels * mult)])
                width = c.channels * mult
                if self._attends(level):
                    stage.append(AttentionBlock(width, c.head_channels))
                self.input_blocks.append(stage)
                skips.append(width)
                self.input_levels.append(level)
            if level < c.num_levels - 1:
                # the downsampling block belongs to the level it leads to, as in the release
                self.input_blocks.append(Stage([self._res(width, width, "down")]))
                skips.append(width)
                self.input_levels.append(level + 1)
        self.middle_block = Stage(
            [
                self._res(width, width),
                AttentionBlock(width, c.head_channels),
                self._res(width, width),
            ]
        )
        return skips

    def _build_up(self, skips: list[int]) -> None:
        c = self.config
        width, self.output_levels = skips[-1], []
        for level in reversed(range(c.num_levels)):
            for i in range(c.num_res_blocks + 1):
                out = c.channels * c.channel_mult[level]
                stage = Stage([self._res(width + skips.pop(), out)])
                width = out
                if self._attends(level):
                    stage.append(AttentionBlock(width, c.head_channels))
                if level > 0 and i == c.num_res_blocks:
                    stage.append(self._res(width, width, "up"))
                self.output_blocks.append(stage)
                self.output_levels.append(level)

    def parameters_of_levels(self, levels: Iterable[int] | None) -> dict[str, nn.Parameter]:
        """Parameters of the blocks on these levels, by name; level 0 includes stem and head.

        Args:
            levels: None is the whole network, middle block and timestep embedding included.
        """
        if levels is None:
            return dict(self.named_parameters())
        wanted = set(levels)
        stages = [*zip(self.input_blocks, self.input_levels, strict=True)]
        stages += zip(self.output_blocks, self.output_levels, strict=True)
        modules: list[nn.Module] = [stage for stage, level in stages if level in wanted]
        if 0 in wanted:
            modules += [self.norm_final, self.conv_final]
        chosen = {id(p) for module in modules for p in module.parameters()}
        return {name: p for name, p in self.named_parameters() if id(p) in chosen}

    def forward(self, x_t: Tensor, t: Tensor, conditioning: Conditioning | None = None) -> Tensor:
        """Predict the noise in `x_t`.

        Args:
            x_t: (B, 3, H, W) float, noisy images.
            t: (B,) timesteps on the training schedule.
            conditioning: codes per level; None for an unconditional network.

        Returns:
            (B, out_channels, H, W), in the dtype of `x_t`.
        """
        levels: tuple[Tensor | None, ...] = (None,) * self.config.num_levels
        middle = None
        if conditioning is not None:
            levels, middle = conditioning.levels, conditioning.middle
        time_emb = self.time_embed(timestep_embedding(t, self.config.channels).to(x_t.dtype))
        x = F.pixel_unshuffle(x_t, self.config.patch_size)
        draft = self._draw_draft(middle, x_t)
        if draft is not None:
            x = torch.cat([x, draft], dim=1)
        skips = []
        for stage, level in zip(self.input_blocks, self.input_levels, strict=True):
            # the stem is a plain convolution and ignores the embeddings
            x = stage(x, time_emb, levels[level])
            skips.append(x)
        x = self.middle_block(x, time_emb, middle)
        for stage, level in zip(self.output_blocks, self.output_levels, strict=True):
            x = stage(torch.cat([x, skips.pop()], dim=1), time_emb, levels[level])
        x = self.conv_final(F.silu(self.norm_final(x)))
        return F.pixel_shuffle(x, self.config.patch_size)

    def _draw_draft(self, z: Tensor | None, x_t: Tensor) -> Tensor | None:
        """The draft of codes (B, z_dim) in patches, as large as `x_t`; None without one."""
        if self.draft is None or z is None:
            return None
        side = self.config.draft_size
        small = self.draft(z).to(x_t.dtype).unflatten(1, (self.config.draft_channels, side, side))
        large = F.interpolate(small, x_t.shape[2:], mode="bicubic", align_corners=False)
        return F.pixel_unshuffle(large, self.config.patch_size)
