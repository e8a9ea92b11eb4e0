"""Neural Neighbor Style Transfer by optimisation (Kolkin et al. 2022, 2203.13215)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from osasis.perception.vgg import RELU1_2, RELU2_2, RELU3_3, VggTrunk

COARSEST = 32  # pixels of the shorter side
_AT_ONCE = 1024  # places that are looked up at once
_RATE = 4e-3  # the paper's 2e-3 for pixels in [0, 1]
# layers of `VggTrunk.features` after each convolution of the first four blocks
LAYERS = (1, RELU1_2, 6, RELU2_2, 11, 13, RELU3_3, 18, 20, 22)

# features of a picture and the number of the update -> what to compare with what, (C, places) each
Goal = Callable[[list[Tensor], int], tuple[list[Tensor], list[Tensor]]]


@dataclass(frozen=True)
class NnstConfig:
    """How NNST is run.

    Attributes:
        steps: Adam updates at each size, from 32 pixels doubling to the photo's.
        content: share of the photo, against what is drawn so far, in what features are looked up
            for.
        split_steps: updates of the last pass, in which every layer has neighbours of its own.
        split_every: that pass looks neighbours up anew every so many updates; the paper's is 1.
        rotations: quarter turns of the style that are looked up in, 1 to 4.
    """

    steps: int = 200
    content: float = 0.75
    split_steps: int = 200
    split_every: int = 1
    rotations: int = 4


class Nnst:
    """Redraws photos so that each place has the features of the style that are nearest to its own.

    Features are all activations of VGG16's first four blocks, at a quarter of the side. Each of the
    photo's is replaced by the style's nearest one by cosine, both with their mean over the picture
    taken off; then the pixels, as a Laplacian pyramid, are optimised towards them, coarse to fine.
    A last pass does the same layer by layer, from the picture drawn so far. The paper's correction
    of colours after it is left out.
    """

    def __init__(self, trunk: VggTrunk, style: Tensor, config: NnstConfig) -> None:
        self._trunk, self._config = trunk, config
        self._style = style

    def __call__(self, photo: Tensor) -> Tensor:
        """Redraw one photo, (1, 3, H, W) in [-1, 1], sides of at least 32 pixels."""
        c, drawn = self._config, photo
        for side in sides(min(photo.shape[2:])):
            small, layers = _resized(photo, side), self._style_layers(side)
            drawn = small if drawn is photo else _enlarged(drawn, small)
            with torch.no_grad():
                sought = self._features(c.content * small + (1 - c.content) * drawn)
                target = nearest(torch.cat(sought), torch.cat(layers))
            drawn = self._optimise(drawn, c.steps, _towards(target))
        found: list[Tensor] = []

        def layer_by_layer(seen: list[Tensor], step: int) -> tuple[list[Tensor], list[Tensor]]:
            if step % c.split_every == 0:
                found[:] = [nearest(a, b) for a, b in zip(seen, layers, strict=True)]
            return seen, found

        return self._optimise(drawn, c.split_steps, layer_by_layer).clamp(-1, 1)

    def _optimise(self, drawn: Tensor, steps: int, goal: Goal) -> Tensor:
        """Move a picture so that its features point where `goal` says."""
        pyramid = [level.requires_grad_(True) for level in laplacian(drawn)]
        optimiser = torch.optim.Adam(pyramid, _RATE)
        for step in range(steps):
            optimiser.zero_grad()
            seen, wanted = goal(self._features(collapse(pyramid)), step)
            loss = sum(
                (1 - F.cosine_similarity(a, b, dim=0)).mean()
                for a, b in zip(seen, wanted, strict=True)
            )
            torch.as_tensor(loss).backward()
            optimiser.step()
        return collapse(pyramid).detach()

    @torch.no_grad()
    def _style_layers(self, side: int) -> list[Tensor]:
        small = _resized(self._style, side)
        turned = [torch.rot90(small, turns, (2, 3)) for turns in range(self._config.rotations)]
        each = [self._features(picture) for picture in turned]
        return [torch.cat(layer, dim=1) for layer in zip(*each, strict=True)]

    def _features(self, x: Tensor) -> list[Tensor]:
        """Activations of each layer, (C, places), at a quarter of the side of (1, 3, H, W)."""
        size = [max(1, n // 4) for n in x.shape[2:]]
        return [
            F.interpolate(a, size, mode="bilinear", align_corners=False)[0].flatten(1)
            for a in self._trunk.layers(x, LAYERS)
        ]


def _towards(target: Tensor) -> Goal:
    return lambda seen, _: ([torch.cat(seen)], [target])


def sides(side: int) -> list[int]:
    """Sizes from coarse to fine, each half of the next; the coarsest has 32 to 63 pixels."""
    found = [side]
    while found[-1] // 2 >= COARSEST:
        found.append(found[-1] // 2)
    return found[::-1]


@torch.no_grad()
def nearest(features: Tensor, style: Tensor) -> Tensor:
    """For each of (C, n) features the one of (C, m) that is nearest by cosine: (C, n).

    Both are compared without their means; what is given back has the style's.
    """
    ours = F.normalize(features - features.mean(1, keepdim=True), dim=0)
    theirs = F.normalize(style - style.mean(1, keepdim=True), dim=0)
    found = torch.cat([(part.T @ theirs).argmax(1) for part in ours.split(_AT_ONCE, dim=1)])
    return style[:, found]


def laplacian(x: Tensor) -> list[Tensor]:
    """A picture (1, 3, H, W) as differences between its sizes, fine to coarse, and the smallest."""
    levels = []
    while min(x.shape[2:]) >= COARSEST:
        small = _resized(x, min(x.shape[2:]) // 2)
        levels.append((x - _enlarged(small, x)).detach())
        x = small
    return [*levels, x.detach().clone()]


def collapse(pyramid: list[Tensor]) -> Tensor:
    """The picture of a pyramid."""
    x = pyramid[-1]
    for level in pyramid[-2::-1]:
        x = level + _enlarged(x, level)
    return x


def _resized(x: Tensor, side: int) -> Tensor:
    """(1, 3, H, W) with a shorter side of `side`, antialiased."""
    shorter = min(x.shape[2:])
    size = [round(n * side / shorter) for n in x.shape[2:]]
    if tuple(size) == tuple(x.shape[2:]):
        return x
    return F.interpolate(x, size, mode="bilinear", align_corners=False, antialias=True)


def _enlarged(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, like.shape[2:], mode="bilinear", align_corners=False)
