"""The peers by name: their settings, and one that redraws photos in a style."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from osasis.config.tables import from_table
from osasis.errors import UserError
from osasis.evaluate.networks import network_path, version_of
from osasis.evaluate.peers.adain import Adain, AdainConfig, AdainNetworks
from osasis.evaluate.peers.gatys import Gatys, GatysConfig
from osasis.evaluate.peers.nnst import Nnst, NnstConfig
from osasis.imaging.tensors import to_images, to_tensor
from osasis.perception.judges import load_judges


def colour_transfer(photo: Image.Image, style: Image.Image) -> Image.Image:
    """The photo with the style's mean and covariance of RGB, in closed form: a floor to stand on.

    Source: the linear Monge-Kantorovich transfer of Pitie and Kokaram 2007, section 3.
    """
    x = np.asarray(photo.convert("RGB"), dtype=np.float64).reshape(-1, 3)
    y = np.asarray(style.convert("RGB"), dtype=np.float64).reshape(-1, 3)
    a, b = np.cov(x.T) + 1e-6 * np.eye(3), np.cov(y.T) + 1e-6 * np.eye(3)
    root = _root(a)
    inverse = np.linalg.inv(root)
    moved = (x - x.mean(0)) @ (inverse @ _root(root @ b @ root) @ inverse) + y.mean(0)
    pixels = np.rint(moved.clip(0, 255)).astype(np.uint8)
    return Image.fromarray(pixels.reshape(photo.height, photo.width, 3))


def _root(matrix: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(values.clip(0))) @ vectors.T


@dataclass(frozen=True)
class NoConfig:
    """Settings of a peer that has none."""


# `photo` gives the photo back as it is and `style` the style image: the two ends of every scale
PEERS: dict[str, type] = {
    "photo": NoConfig,
    "colour": NoConfig,
    "adain": AdainConfig,
    "gatys": GatysConfig,
    "nnst": NnstConfig,
    "style": NoConfig,
}
Redraw = Callable[[Image.Image], Image.Image]


class Peers:
    """Makes peers; networks are loaded once, when they are needed.

    Args:
        given: files of networks by name, see `parse_networks`.
        device: where to compute.
    """

    def __init__(self, given: Mapping[str, Path], device: torch.device) -> None:
        self._given, self._device = given, device
        self._adain: AdainNetworks | None = None

    def identity(self, name: str, options: Mapping[str, float]) -> str:
        """What a peer's outputs depend on beside photo and style.

        Raises:
            UserError: there is no such peer or setting, or its networks are not here.
        """
        config = settings(name, options)
        if name != "adain":
            return repr(config)
        return f"{config!r} {version_of(network_path('adain', self._given))}"

    def of(self, name: str, options: Mapping[str, float], style: Image.Image) -> Redraw:
        """What redraws photos, squares of the style image's size.

        Raises:
            UserError: as `identity`.
        """
        config = settings(name, options)
        if name == "photo":
            return lambda photo: photo
        if name == "style":
            return lambda photo: style
        if name == "colour":
            return lambda photo: colour_transfer(photo, style)
        redraw = self._optimiser(config, to_tensor(style).to(self._device))
        return lambda photo: to_images(redraw(to_tensor(photo).to(self._device)))[0]

    def _optimiser(self, config: object, style: Tensor) -> Callable[[Tensor], Tensor]:
        if isinstance(config, AdainConfig):
            if self._adain is None:
                path = network_path("adain", self._given)
                self._adain = AdainNetworks.load(path, self._device)
            return Adain(self._adain, style, config)
        trunk = load_judges(device=self._device).trunk
        if isinstance(config, GatysConfig):
            return Gatys(trunk, style, config)
        if isinstance(config, NnstConfig):
            return Nnst(trunk, style, config)
        raise ValueError(f"no peer has the settings {config!r}")


def settings(name: str, options: Mapping[str, float]) -> object:
    """The settings of a peer.

    Raises:
        UserError: there is no such peer or setting.
    """
    if name not in PEERS:
        raise UserError(f"there is no peer {name!r}", hint=f"peers: {', '.join(PEERS)}")
    return from_table(PEERS[name], options, where=f"the peer {name}")
