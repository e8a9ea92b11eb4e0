"""The autoencoder: pictures to normalised latents, an eighth as high and wide, and back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from osasis.models.layers import conv3x3
from osasis.models.windows import blended, in_tiles, scaled

FACTOR = 8  # pixels along a side of one latent
TILE = 64  # latents along a side that are encoded or decoded at once
_SPREAD = 0.6  # about the deviation of a pixel in [-1, 1]
_LIMIT = 4.0  # of a latent that the decoder sees, softly


@dataclass(frozen=True)
class AutoencoderConfig:
    """Shape of an autoencoder; its levels lie at 1/2, 1/4 and 1/8 of the picture.

    Attributes:
        latent_channels: channels of a latent.
        widths, blocks: channels and residual pairs of the encoder's levels, finest first.
        decoder_widths, decoder_blocks: of the decoder's levels, coarsest first.
    """

    latent_channels: int = 32
    widths: tuple[int, ...] = (48, 96, 128)
    decoder_widths: tuple[int, ...] = (128, 96, 64)
    blocks: tuple[int, ...] = (2, 2, 3)
    decoder_blocks: tuple[int, ...] = (3, 2, 2)

    def __post_init__(self) -> None:
        for name in ("widths", "decoder_widths", "blocks", "decoder_blocks"):
            if len(getattr(self, name)) != 3:
                raise ValueError(f"{name} must name 3 levels, got {getattr(self, name)}")


@dataclass(frozen=True)
class Borrowed:
    """An autoencoder of diffusers: its weights stay where they are, see `formats.borrowed`.

    Attributes:
        source: folder, or repository of the hub.
        hash: first 16 hexadecimal digits of the SHA-256 of its weights, as `state_hash`.
        latent_channels: channels of a latent.
    """

    source: str
    hash: str
    latent_channels: int


class Pair(nn.Module):
    """A residual pair of 3x3 convolutions without norm, so that a tile is what the whole is."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.a = conv3x3(channels, channels, "replicate")
        self.b = conv3x3(channels, channels, "replicate")
        nn.init.zeros_(self.b.weight)
        if self.b.bias is not None:
            nn.init.zeros_(self.b.bias)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.b(F.silu(self.a(F.silu(x))))
        return out


def pairs(channels: int, count: int) -> nn.Sequential:
    """`count` residual pairs in a row."""
    return nn.Sequential(*(Pair(channels) for _ in range(count)))


class PictureEncoder(nn.Module):
    """Pictures (B, 3, H, W) in [-1, 1] to raw latents (B, C, H/8, W/8)."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        w, n = config.widths, config.blocks
        self.inp = conv3x3(12, w[0], "replicate")
        self.l0 = pairs(w[0], n[0])
        self.d0 = nn.Conv2d(4 * w[0], w[1], 1)
        self.l1 = pairs(w[1], n[1])
        self.d1 = nn.Conv2d(4 * w[1], w[2], 1)
        self.l2 = pairs(w[2], n[2])
        self.out = conv3x3(w[2], config.latent_channels, "replicate")

    def forward(self, pictures: Tensor) -> Tensor:
        x = self.l0(self.inp(F.pixel_unshuffle(pictures / _SPREAD, 2)))
        x = self.l1(self.d0(F.pixel_unshuffle(x, 2)))
        x = self.l2(self.d1(F.pixel_unshuffle(x, 2)))
        out: Tensor = self.out(F.silu(x))
        return out


class PictureDecoder(nn.Module):
    """Raw latents (B, C, h, w) to pictures (B, 3, 8h, 8w), about [-1, 1]."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        w, n = config.decoder_widths, config.decoder_blocks
        self.inp = conv3x3(config.latent_channels, w[0], "replicate")
        self.l0 = pairs(w[0], n[0])
        self.u0 = nn.Conv2d(w[0], 4 * w[1], 1)
        self.l1 = pairs(w[1], n[1])
        self.u1 = nn.Conv2d(w[1], 4 * w[2], 1)
        self.l2 = pairs(w[2], n[2])
        self.out = conv3x3(w[2], 12, "replicate")

    def forward(self, latents: Tensor) -> Tensor:
        x = self.l0(self.inp(_LIMIT * torch.tanh(latents / _LIMIT)))
        x = self.l1(F.pixel_shuffle(self.u0(x), 2))
        x = self.l2(F.pixel_shuffle(self.u1(x), 2))
        return _SPREAD * F.pixel_shuffle(self.out(F.silu(x)), 2)


class Autoencoder(nn.Module):
    """Both halves, and the linear map that makes latents normal: the x0 of a base in latents.

    A normalised latent has mean 0, deviation about 1, and principal channels in order of energy.
    Nothing in our own halves looks further than its reach, so that pictures of any size are encoded
    and decoded in tiles, which give what the whole would. Borrowed ones may look at the whole
    picture (group norms, attention): beyond 512 pixels they are shown windows that overlap, which
    is near to the whole and not the same.

    Attributes:
        encoder, decoder: pictures to raw latents, and back; of borrowed ones set by who loads them.
        mixing, offset: (C, C) and (C,), `x0 = mixing @ raw + offset`.
        unmixing: (C, C), the inverse of `mixing`.
    """

    mixing: Tensor
    unmixing: Tensor
    offset: Tensor

    encoder: nn.Module
    decoder: nn.Module

    def __init__(self, config: AutoencoderConfig | Borrowed) -> None:
        super().__init__()
        self.config = config
        if isinstance(config, AutoencoderConfig):
            self.encoder, self.decoder = PictureEncoder(config), PictureDecoder(config)
        square = (config.latent_channels, config.latent_channels)
        # not torch.eye, which loads a second of modules on the meta device
        self.register_buffer("mixing", torch.zeros(square).fill_diagonal_(1))
        self.register_buffer("unmixing", torch.zeros(square).fill_diagonal_(1))
        self.register_buffer("offset", torch.zeros(config.latent_channels))

    @property
    def latent_channels(self) -> int:
        """Channels of a latent."""
        return self.config.latent_channels

    def encode(self, pictures: Tensor) -> Tensor:
        """Normalised latents (B, C, H/8, W/8) of pictures (B, 3, H, W) in [-1, 1].

        Raises:
            ValueError: H or W is no multiple of 8.
        """
        if pictures.shape[2] % FACTOR or pictures.shape[3] % FACTOR:
            size = " x ".join(map(str, pictures.shape[2:]))
            raise ValueError(f"pictures must have sides of a multiple of {FACTOR}, got {size}")

        def encode(rows: slice, columns: slice) -> Tensor:
            return self.normalise(
                self.encoder(pictures[:, :, scaled(rows, FACTOR), scaled(columns, FACTOR)])
            )

        height, width = (side // FACTOR for side in pictures.shape[2:])
        if isinstance(self.config, Borrowed):
            return blended(encode, height, width, TILE)
        return in_tiles(encode, height, width, TILE, _reach(self.config.blocks[::-1]))

    def decode(self, x0: Tensor) -> Tensor:
        """Pictures (B, 3, 8h, 8w), about [-1, 1], of normalised latents (B, C, h, w)."""

        def decode(rows: slice, columns: slice) -> Tensor:
            picture: Tensor = self.decoder(self.raw(x0[:, :, rows, columns]))
            return picture

        height, width = x0.shape[2:]
        if isinstance(self.config, Borrowed):
            return blended(decode, height, width, TILE, FACTOR)
        return in_tiles(decode, height, width, TILE, _reach(self.config.decoder_blocks), FACTOR)

    def stored(self) -> dict[str, Tensor]:
        """What a file keeps of it: of a borrowed one the linear map."""
        state = self.state_dict()
        if not isinstance(self.config, Borrowed):
            return state
        return {name: state[name] for name in ("mixing", "unmixing", "offset")}

    def normalise(self, raw: Tensor) -> Tensor:
        """x0 of what the encoder gives, in float32."""
        return F.conv2d(raw.float(), self.mixing[:, :, None, None], self.offset)

    def raw(self, x0: Tensor) -> Tensor:
        """What the decoder takes: the inverse of `normalise`."""
        centred = x0.float() - self.offset[None, :, None, None]
        return F.conv2d(centred, self.unmixing[:, :, None, None])

    @torch.no_grad()
    def whiten(self, mean: Tensor, covariance: Tensor, power: float = 0.5) -> None:
        """Set the linear map from statistics of raw latents.

        Args:
            mean: (C,).
            covariance: (C, C).
            power: of each principal channel's deviation that is divided out: 0 leaves them as they
                are but for one common factor, 1 makes all alike. The mean variance becomes 1.
        """
        values, vectors = torch.linalg.eigh(covariance.double().cpu())
        deviation = values.flip(0).clamp_min(1e-12).sqrt()
        scale = deviation**-power
        scale = scale / ((deviation * scale) ** 2).mean().sqrt()
        mixing = (vectors.flip(1) * scale).T
        self.mixing.copy_(mixing)
        self.unmixing.copy_(torch.linalg.inv(mixing))
        self.offset.copy_(-(mixing @ mean.double().cpu()))


def _reach(coarse_to_fine: tuple[int, ...]) -> int:
    """Latents that a half with so many pairs a level looks to each side, rounded up."""
    eighth, quarter, half = coarse_to_fine
    pixels = FACTOR * (2 * eighth + 1) + 4 * 2 * quarter + 2 * (2 * half + 1)
    return -(-pixels // FACTOR)
