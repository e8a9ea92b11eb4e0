"""LPIPS: how different two pictures look."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from osasis.perception.vgg import VggTrunk

_EPS = 1e-10


class Lpips:
    """LPIPS v0.1 on VGG16 (Zhang et al. 2018, 1801.03924, Eq. 1), smaller is more alike.

    The published distance sums five layers. With the four-stage weights in the package the last
    one (relu5_3) is left out, and the name says so: such numbers must not be compared with
    published ones.

    Attributes:
        name: 'lpips-vgg16' with five layers, 'lpips-vgg16-4' with four.
    """

    def __init__(self, trunk: VggTrunk, heads: Sequence[Tensor]) -> None:
        if len(heads) != trunk.stages:
            raise ValueError(f"{trunk.stages} stages need as many heads, got {len(heads)}")
        self.trunk = trunk
        self.heads = [head.detach().view(1, -1, 1, 1) for head in heads]
        self.name = "lpips-vgg16" if len(heads) == 5 else f"lpips-vgg16-{len(heads)}"

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """Compare (B, 3, H, W) pictures in [-1, 1] of one size: (B,) float32, 0 for equal ones.

        Raises:
            ValueError: the sizes differ, or the batches do and neither is 1.
        """
        if x.shape[1:] != y.shape[1:] or (len(x) != len(y) and 1 not in (len(x), len(y))):
            raise ValueError(f"cannot compare {tuple(x.shape)} with {tuple(y.shape)}")
        return self.distance(self.normalise(self.trunk(x)), self.normalise(self.trunk(y)))

    def normalise(self, activations: Sequence[Tensor]) -> list[Tensor]:
        """Scale every pixel's channel vector of what `VggTrunk` returned to length one."""
        return [a / (_norm(a) + _EPS) for a in (layer.float() for layer in activations)]

    def distance(self, normalised_x: Sequence[Tensor], normalised_y: Sequence[Tensor]) -> Tensor:
        """Sum over layers of the weighted squared difference, averaged over pixels: (B,) float32.

        Either side may have batch size one, and is then compared with every picture of the other.
        """
        total: Tensor | None = None
        for x, y, head in zip(normalised_x, normalised_y, self.heads, strict=True):
            layer = ((x - y).square() * head).sum(dim=1).mean(dim=(1, 2))
            total = layer if total is None else total + layer
        if total is None:
            raise ValueError("no activations were given")
        return total


def _norm(activation: Tensor) -> Tensor:
    # vector_norm, unlike the root of a sum of squares, has gradient 0 at the zero vector.
    norm: Tensor = torch.linalg.vector_norm(activation, dim=1, keepdim=True)
    return norm
