"""Adaptive instance normalisation (Huang and Belongie 2017, 1703.06868) with trained networks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from osasis.evaluate.networks import read_weights
from osasis.models.state import load_strict

_EPS = 1e-5
POOL, ENLARGE = "pool", "enlarge"
# what follows the convolution of colours: VGG19 up to relu4_1, and the way back (section 6)
ENCODER = (64, 64, POOL, 128, 128, POOL, 256, 256, 256, 256, POOL, 512)
DECODER = (256, ENLARGE, 256, 256, 256, 128, ENLARGE, 128, 64, ENLARGE, 64, 3)


@dataclass(frozen=True)
class AdainConfig:
    """How AdaIN is run.

    Attributes:
        alpha: 0 redraws the photo as it is, 1 in the full style (Eq. 14).
    """

    alpha: float = 1.0


class AdainNetworks(nn.Module):
    """The published networks: a VGG19 whose activations have mean 1, and its decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 3, 1), *_layers(3, ENCODER))
        self.decoder = nn.Sequential(*_layers(512, DECODER)[:-1])  # colours may be negative

    @classmethod
    def load(cls, path: Path, device: torch.device) -> AdainNetworks:
        """Read the file that `osasis models fetch adain` makes.

        Raises:
            UserError: there is no such file, or it holds something else.
        """
        networks = cls()
        weights = {name: tensor.float() for name, tensor in read_weights(path).items()}
        load_strict(networks, weights, "AdaIN, which `osasis models fetch adain` brings")
        return networks.to(device).eval().requires_grad_(False)


def _layers(channels: int, plan: tuple[int | str, ...]) -> list[nn.Module]:
    """Convolutions with reflected borders, each followed by a ReLU, halved or doubled between."""
    layers: list[nn.Module] = []
    for entry in plan:
        if isinstance(entry, int):
            convolution = nn.Conv2d(channels, entry, 3, padding=1, padding_mode="reflect")
            layers += [convolution, nn.ReLU()]
            channels = entry
        else:
            layers.append(nn.MaxPool2d(2) if entry == POOL else nn.Upsample(scale_factor=2))
    return layers


class Adain:
    """Redraws photos in one pass: the photo's features with the style's means and deviations."""

    def __init__(self, networks: AdainNetworks, style: Tensor, config: AdainConfig) -> None:
        self._networks, self._alpha = networks, config.alpha
        self._style = self._encode(style)

    @torch.no_grad()
    def __call__(self, photo: Tensor) -> Tensor:
        """Redraw (B, 3, H, W) photos in [-1, 1], sides a multiple of 8."""
        content = self._encode(photo)
        mixed = self._alpha * adain(content, self._style) + (1 - self._alpha) * content
        return (2 * self._networks.decoder(mixed) - 1).clamp(-1, 1)

    @torch.no_grad()
    def _encode(self, x: Tensor) -> Tensor:
        features: Tensor = self._networks.encoder((x + 1) / 2)
        return features


def adain(content: Tensor, style: Tensor) -> Tensor:
    """Features with the means and deviations of others, channel by channel (Eq. 8)."""
    variance, mean = torch.var_mean(content, (2, 3), keepdim=True)
    wanted, shift = torch.var_mean(style, (2, 3), keepdim=True)
    return (content - mean) * ((wanted + _EPS) / (variance + _EPS)).sqrt() + shift
