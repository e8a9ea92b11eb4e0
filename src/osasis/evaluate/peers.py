"""Stylizers that are not ours, to stand beside: on the shipped VGG16, from one style image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from osasis.errors import UserError
from osasis.imaging.tensors import to_images, to_tensor
from osasis.perception.vgg import VggTrunk

PEERS = ("gatys", "colour")


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
class GatysConfig:
    """How Gatys' method is run.

    Attributes:
        steps: L-BFGS iterations.
        style_weight: weight of the Gram matrices against the content's.
        history: L-BFGS memory.
    """

    steps: int = 100
    style_weight: float = 1e6
    history: int = 10


class Gatys:
    """Neural style transfer by optimising the picture (Gatys et al. 2016, CVPR, Eqs. 1 to 7).

    Content: squared difference of relu4_3, style: of the Gram matrices of relu1_2, relu2_2, relu3_3
    and relu4_3, each divided by its number of entries. Starts from the photo and draws nothing at
    random. Layers are those of VGG16 that the package has; the paper uses VGG19.
    """

    def __init__(self, trunk: VggTrunk, style: Tensor, config: GatysConfig) -> None:
        self._trunk, self._config = trunk, config
        with torch.no_grad():
            self._grams = [_gram(a) for a in trunk(style)]

    def __call__(self, photo: Tensor) -> Tensor:
        """Redraw one photo, (1, 3, H, W) in [-1, 1]."""
        with torch.no_grad():
            content = self._trunk(photo)[3]
        x = photo.clone().requires_grad_(True)
        c = self._config
        optimiser = torch.optim.LBFGS(
            [x],
            max_iter=c.steps,
            history_size=c.history,
            tolerance_grad=0,
            tolerance_change=0,
            line_search_fn="strong_wolfe",
        )

        def loss() -> Tensor:
            optimiser.zero_grad()
            activations = self._trunk(x)
            total = (activations[3] - content).square().mean()
            for activation, gram in zip(activations, self._grams, strict=True):
                total = total + c.style_weight * (_gram(activation) - gram).square().mean()
            total.backward()
            return total

        optimiser.step(loss)  # type: ignore[no-untyped-call]
        return x.detach().clamp(-1, 1)


def _gram(activation: Tensor) -> Tensor:
    """Gram matrix (C, C) of (1, C, H, W), divided by the number of entries."""
    flat = activation[0].flatten(1)
    return flat @ flat.T / flat.numel()


def run_peer(
    name: str,
    options: Mapping[str, float],
    photo: Image.Image,
    style: Image.Image,
    trunk: VggTrunk,
    device: torch.device,
) -> Image.Image:
    """Redraw one photo with a peer; both pictures are squares of the same size.

    Raises:
        UserError: there is no such peer or setting.
    """
    config = check_peer(name, options)
    if config is None:
        return colour_transfer(photo, style)
    gatys = Gatys(trunk, to_tensor(style).to(device), config)
    return to_images(gatys(to_tensor(photo).to(device)))[0]


def check_peer(name: str, options: Mapping[str, float]) -> GatysConfig | None:
    """The settings of a peer; None for `colour`, which has none.

    Raises:
        UserError: there is no such peer or setting.
    """
    if name not in PEERS:
        raise UserError(f"there is no peer {name!r}", hint=f"peers: {', '.join(PEERS)}")
    known = {f.name for f in fields(GatysConfig)} if name == "gatys" else set()
    unknown = sorted(set(options) - known)
    if unknown:
        raise UserError(
            f"the peer {name} has no setting {unknown[0]!r}",
            hint=f"it has {', '.join(sorted(known)) or 'none'}",
        )
    return GatysConfig(**options) if name == "gatys" else None  # type: ignore[arg-type]
