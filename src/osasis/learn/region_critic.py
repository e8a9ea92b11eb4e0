"""The critic of `fast`: does each region of a result look like the style's, and is it the photo?

Engineering choice, not in the paper. Per region and over the whole picture: means and deviations of
VGG features (as AdaIN, 1703.06868); of the photo: features without palette and contrast, and their
self-similarity (Splice, 2201.00424).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from osasis.config.presets import RegionWeights
from osasis.device import mixed_precision
from osasis.learn.regions import (
    EPSILON,
    FACE,
    TEETH,
    Statistics,
    at_size,
    mixture,
    region_statistics,
    share_of,
)
from osasis.learn.update import Batch
from osasis.perception.similarity import structure_distance
from osasis.perception.vgg import RELU1_2, RELU2_2, RELU3_3, RELU4_1, VggTrunk

LAYERS = (RELU1_2, RELU2_2, RELU3_3, RELU4_1)
CROP = 128  # pixels a side at full size
BORDER = 8  # pixels at a crop's edge that are decoded without their neighbours
BORROWED = 0.3  # how much a region is judged by another that dresses it
SMALLEST_SHARE = 0.0015  # of the picture, below which a region is not judged
FLAT = 1e-3  # deviation of a channel below which it is not raised to 1


@dataclass(frozen=True)
class PhotoFeatures(Batch):
    """What is kept of photos to hold results to.

    Attributes:
        relu3_3, relu4_1: (B, C, H, W) activations at half the picture's size, float16.
        face: (B, 1, h, w) in [0, 1], where a face is: differences count twice there.
    """

    relu3_3: Tensor
    relu4_1: Tensor
    face: Tensor


@dataclass(frozen=True)
class StyleFeatures:
    """Statistics of a style's regions, one (R, C) per layer; row r is what dresses region r.

    Attributes:
        half, full: of the picture at half its size and at its own.
        trust: (R,) how much region r is judged by them.
    """

    half: tuple[Statistics, ...]
    full: tuple[Statistics, ...]
    trust: Tensor


class RegionCritic:
    """Judges latents by the pictures they decode to.

    Args:
        trunk: VGG16.
        to_picture: latents (B, C, h, w) to pictures (B, 3, s h, s w) in [-1, 1].
        factor: s, pixels along a side of one latent.
        weights: of the losses.
        mixed: whether networks multiply in bfloat16, see `LearnConfig.mixed_precision`.
    """

    def __init__(
        self,
        trunk: VggTrunk,
        to_picture: Callable[[Tensor], Tensor],
        factor: int,
        weights: RegionWeights,
        *,
        mixed: bool,
    ) -> None:
        self._trunk, self._to_picture, self._factor = trunk, to_picture, factor
        self._weights, self._mixed = weights, mixed

    @torch.no_grad()
    def photo(self, picture: Tensor, maps: Tensor) -> PhotoFeatures:
        """What to keep of photos (B, 3, H, W) in [-1, 1] with maps (B, R, h, w) of all regions."""
        _, _, relu3_3, relu4_1 = self._features(F.avg_pool2d(picture, 2))
        return PhotoFeatures(relu3_3.half(), relu4_1.half(), share_of(maps, FACE))

    @torch.no_grad()
    def style(self, picture: Tensor, maps: Tensor, sources: tuple[int, ...]) -> StyleFeatures:
        """Statistics of the style image (1, 3, H, W) with maps (1, R, h, w).

        Args:
            sources: for each region of a photo the style's region that dresses it.
        """

        def statistics(x: Tensor) -> tuple[Statistics, ...]:
            found = (region_statistics(f, at_size(maps, f), pooled=True) for f in self._features(x))
            return tuple(s.rows(sources) for s in found)

        trust = [1.0 if r == source else BORROWED for r, source in enumerate(sources)]
        trust = [0.0 if r == TEETH else known for r, known in enumerate(trust)]
        half, full = statistics(F.avg_pool2d(picture, 2)), statistics(picture)
        return StyleFeatures(half, full, torch.tensor(trust, device=picture.device))

    def whole(
        self, x0_hat: Tensor, maps: Tensor, photo: PhotoFeatures, style: StyleFeatures
    ) -> dict[str, Tensor]:
        """Weighted losses of whole pictures at half their size.

        Args:
            x0_hat: (B, C, h, w) predicted latents.
            maps: (B, R, H, W) of the photos.
            photo: features of the photos.
        """
        w = self._weights
        layers = self._features(F.avg_pool2d(self._decoded(x0_hat), 2))
        compared = _compared(layers, maps, style.half)
        whole = sum((_whole_distance(*layer) for layer in compared), torch.zeros(()))
        kept = ((layers[2], photo.relu3_3), (layers[3], photo.relu4_1))
        content = sum((_content_distance(*pair, photo.face) for pair in kept), torch.zeros(()))
        structure = structure_distance(_places(layers[3]), _places(photo.relu4_1.float())).mean()
        return {
            "region": w.region * _region_distance(compared, maps, style.trust),
            "whole": w.whole * whole,
            "content": w.content * content,
            "structure": w.structure * structure,
        }

    def crop(
        self, x0_hat: Tensor, maps: Tensor, style: StyleFeatures, corner: tuple[int, int]
    ) -> dict[str, Tensor]:
        """Weighted loss of a crop at full size, where strokes are: region by region.

        Args:
            corner: of the crop, in cells of the latents.
        """
        scale, cells = self._factor, CROP // self._factor
        top, left = corner
        picture = self._decoded(x0_hat[..., top : top + cells, left : left + cells])
        layers = self._features(picture[..., BORDER:-BORDER, BORDER:-BORDER])
        top, left = (scale * c + BORDER for c in corner)
        side = CROP - 2 * BORDER
        full = F.interpolate(maps, scale * x0_hat.shape[-1], mode="nearest")
        seen = full[..., top : top + side, left : left + side]
        loss = _region_distance(_compared(layers, seen, style.full), seen, style.trust)
        return {"region": self._weights.region * loss}

    def corner(self, x0_hat: Tensor, noise: torch.Generator) -> tuple[int, int]:
        """A random corner for `crop`, in cells of the latents."""
        cells = CROP // self._factor
        limits = (x0_hat.shape[2] - cells + 1, x0_hat.shape[3] - cells + 1)
        return tuple(int(torch.randint(n, (), generator=noise)) for n in limits)  # type: ignore[return-value]

    def _decoded(self, x0_hat: Tensor) -> Tensor:
        with mixed_precision(x0_hat.device, wanted=self._mixed, on_cpu=True):
            return self._to_picture(x0_hat).float()

    def _features(self, picture: Tensor) -> list[Tensor]:
        with mixed_precision(picture.device, wanted=self._mixed, on_cpu=True):
            layers = self._trunk.layers(picture, LAYERS)
        return [layer.float() for layer in layers]


Compared = list[tuple[Tensor, Tensor, Statistics]]
"""Layer by layer: features, maps of their size, and the style's statistics."""


def _compared(layers: list[Tensor], maps: Tensor, style: tuple[Statistics, ...]) -> Compared:
    return [(f, at_size(maps, f), s) for f, s in zip(layers, style, strict=True)]


def _region_distance(compared: Compared, maps: Tensor, trust: Tensor) -> Tensor:
    """Distances of regions to the style's, weighed by the square roots of their areas and `trust`.

    Each picture by itself, so that the parts of an update add up to it.
    """
    share = maps.mean((2, 3))
    weight = trust * torch.where(share > SMALLEST_SHARE, share, torch.zeros_like(share)).sqrt()
    distances = [region_statistics(f, m).distance(s) for f, m, s in compared]
    weighed = (weight * torch.stack(distances).sum(0)).sum(1)
    return (weighed / weight.sum(1).clamp_min(EPSILON)).mean()


def _whole_distance(features: Tensor, maps: Tensor, style: Statistics) -> Tensor:
    """Distance of whole pictures to the style's regions, mixed in the photos' shares."""
    found = region_statistics(features, maps.sum(1, keepdim=True))
    shares = maps.mean((2, 3))
    wanted = mixture(style, shares / shares.sum(1, keepdim=True))
    return Statistics(found.mean[:, 0], found.std[:, 0]).distance(wanted).mean()


def _content_distance(features: Tensor, photo: Tensor, face: Tensor) -> Tensor:
    """Squared difference of features without palette and contrast; faces count twice."""
    difference = (_flattened(features) - _flattened(photo.float())).square()
    return (difference * (1 + at_size(face, features))).mean()


def _flattened(features: Tensor) -> Tensor:
    """Each channel of each picture with mean 0 and deviation 1."""
    mean = features.mean((2, 3), keepdim=True)
    return (features - mean) / (features.std((2, 3), keepdim=True) + FLAT)


def _places(features: Tensor) -> Tensor:
    """(B, C, H, W) as (B, H W, C)."""
    return features.flatten(2).transpose(1, 2)
