"""Neural Neighbor Style Transfer by optimisation (Kolkin et al. 2022, 2203.13215)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import gcd

import torch
import torch.nn.functional as F
from torch import Tensor

from osasis.device import mixed_precision
from osasis.perception.vgg import RELU1_2, RELU2_2, RELU3_3, VggTrunk

COARSEST = 32  # pixels of the shorter side
_AT_ONCE = 512  # places that are looked up at once
_RATE = 4e-3  # the paper's 2e-3 for pixels in [0, 1]
# layers of `VggTrunk.features` after each convolution of the first four blocks
LAYERS = (1, RELU1_2, 6, RELU2_2, 11, 13, RELU3_3, 18, 20, 22)

# layers of a picture and the number of the update -> what to compare with what, (C, places) each
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
    A last pass does the same layer by layer, coarse layers at their own size, from the picture
    drawn so far. In bfloat16 where the processor multiplies it. The paper's correction of colours
    after it is left out.
    """

    def __init__(self, trunk: VggTrunk, style: Tensor, config: NnstConfig) -> None:
        self._trunk, self._config = trunk, config
        self._style = style

    def __call__(self, photo: Tensor) -> Tensor:
        """Redraw one photo, (1, 3, H, W) in [-1, 1], sides of at least 32 pixels."""
        with mixed_precision(photo.device, on_cpu=True):
            return self._redraw(photo)

    def _redraw(self, photo: Tensor) -> Tensor:
        c, drawn = self._config, photo
        for side in sides(min(photo.shape[2:])):
            small, turned = _resized(photo, side), self._turned_styles(side)
            drawn = small if drawn is photo else _enlarged(drawn, small)
            with torch.no_grad():
                sought = _columns(self._layers(c.content * small + (1 - c.content) * drawn))
                style = torch.cat([_columns(layers) for layers in turned], dim=1)
                target = Neighbours(style).nearest(sought)
            drawn = self._optimise(drawn, c.steps, _towards(target))
        each = zip(*turned, strict=True)
        known = [Neighbours(torch.cat([x.flatten(2)[0] for x in layer], dim=1)) for layer in each]
        found: list[Tensor] = []

        def layer_by_layer(layers: list[Tensor], step: int) -> tuple[list[Tensor], list[Tensor]]:
            seen = [layer.flatten(2)[0] for layer in layers]
            if step % c.split_every == 0:
                found[:] = [style.nearest(a) for style, a in zip(known, seen, strict=True)]
            return seen, found

        return self._optimise(drawn, c.split_steps, layer_by_layer).clamp(-1, 1)

    def _optimise(self, drawn: Tensor, steps: int, goal: Goal) -> Tensor:
        """Move a picture so that its features point where `goal` says."""
        pyramid = [level.requires_grad_(True) for level in laplacian(drawn)]
        optimiser = torch.optim.Adam(pyramid, _RATE)
        for step in range(steps):
            optimiser.zero_grad()
            seen, wanted = goal(self._layers(collapse(pyramid)), step)
            loss = sum(
                (1 - F.cosine_similarity(a, b, dim=0)).mean()
                for a, b in zip(seen, wanted, strict=True)
            )
            torch.as_tensor(loss).backward()
            optimiser.step()
        return collapse(pyramid).detach()

    @torch.no_grad()
    def _turned_styles(self, side: int) -> list[list[Tensor]]:
        """Layers of the style image in each of its turns."""
        small = _resized(self._style, side)
        turns = range(self._config.rotations)
        return [self._layers(torch.rot90(small, turn, (2, 3))) for turn in turns]

    def _layers(self, x: Tensor) -> list[Tensor]:
        """Activations of each layer, (1, C, h, w), h and w at most a quarter of the picture's."""
        quarter = [max(1, n // 4) for n in x.shape[2:]]
        found = (a.float() for a in self._trunk.layers(x, LAYERS))
        return [_interpolated(a, quarter) if a.shape[2] > quarter[0] else a for a in found]


class Neighbours:
    """Features of a style, (C, m) float32, in which others are looked up."""

    def __init__(self, style: Tensor) -> None:
        self._style, self._directions = style, _directions(style)
        if torch.is_autocast_enabled(style.device.type):  # once here, else at every look
            dtype = torch.get_autocast_dtype(style.device.type)
            self._directions = self._directions.to(dtype)

    @torch.no_grad()
    def nearest(self, features: Tensor) -> Tensor:
        """For each of (C, n) features the style's nearest one by cosine: (C, n).

        Both are compared without their means; what is given back has the style's.
        """
        parts = _directions(features).T.split(_AT_ONCE)
        found = torch.cat([_argmax(part @ self._directions) for part in parts])
        return self._style[:, found]


def _argmax(rows: Tensor) -> Tensor:
    """`rows.argmax(1)`; of bfloat16 on CPUs in a sixth of its time, by groups of a row."""
    size = gcd(rows.shape[1], 256)
    groups = rows.unflatten(1, (-1, size))
    best = groups.amax(2).float().argmax(1)
    in_group = groups[torch.arange(len(rows), device=rows.device), best].float().argmax(1)
    return best * size + in_group


def _directions(features: Tensor) -> Tensor:
    """Each of (C, n) features from their mean, of length 1."""
    return F.normalize(features - features.mean(1, keepdim=True), dim=0)


def _columns(layers: list[Tensor]) -> Tensor:
    """All layers at the size of the first, one over the other: (C, places)."""
    size = layers[0].shape[2:]
    return torch.cat([_interpolated(a, size)[0].flatten(1) for a in layers])


def _towards(target: Tensor) -> Goal:
    return lambda layers, _: ([_columns(layers)], [target])


def sides(side: int) -> list[int]:
    """Sizes from coarse to fine, each half of the next; the coarsest has 32 to 63 pixels."""
    found = [side]
    while found[-1] // 2 >= COARSEST:
        found.append(found[-1] // 2)
    return found[::-1]


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
    return _interpolated(x, like.shape[2:])


def _interpolated(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, list(size), mode="bilinear", align_corners=False)
