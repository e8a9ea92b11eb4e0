"""Light of regions: dark skin stays dark, and no region becomes much darker than it was."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from osasis.base import Base
from osasis.formats.style_file import Style
from osasis.imaging.colors import luma
from osasis.imaging.tensors import fit_square, to_tensor
from osasis.learn.regions import PhotoRegions, borrowed_of, dressed_by, share_of
from osasis.models.regions import REGIONS
from osasis.stylize.smooth import box, follow_edges, to_size

_KEPT = 0.6  # of a region's light
_MOST = 4.0  # gain of a pixel
_ROUNDS = 4  # a small region shares its places with others, which take part of its power
_DARKEST = 0.02  # light whose power is taken of what is darker
_COLOURED = 0.16  # light, 0 to 2, below which colour is mostly noise and is lifted less
_USUAL = 0.57  # light of skin, mean of 64 faces of the training; deviation .12
_OWN = 0.5  # exponent of what dark skin keeps
_STEEPEST = 1.0  # added to the power of 1, beyond which drawings turn hard
_SKIN = tuple(map(REGIONS.index, ("skin", "neck", "nose", "brow", "eye", "mouth", "teeth")))
_WHITES = tuple(map(REGIONS.index, ("eye", "teeth")))
_RELIEF = 0.3  # of what sets a thing in the photo off from its surroundings, in a black ground
_DIM = 0.25  # light, 0 to 1, of a ground that is not dark at all
_NEAR = 10  # pixels to each side, averaged over twice: the surroundings


def keep_dark_skin(
    before: Tensor, after: Tensor, regions: PhotoRegions, amount: float = 1, paper: float = 0
) -> Tensor:
    """Results, (B, 3, H, W) in [-1, 1], whose skin is darker where the photo's is.

    Dressing by region brings skin near to the painting's. Of skin with light p, below the usual u,
    the result's light l goes towards l (p / u) ** (amount / 2), by a power of each pixel's light;
    what is lighter than the mean by no less than the mean, lest it be pale blotches, but for white
    of eyes, teeth and paper. (Engineering choice.)

    Args:
        before: the photos, (B, 3, H, W).
        after: the results.
        regions: of the photos.
        amount: 0 to 1.
        paper: how far the result is a drawing on paper, 0 to 1.
    """
    skin = REGIONS.index("skin")
    photo, drawn = (region_light(x, regions.measured)[:, skin] for x in (before, after))
    # a photo without skin has none that could be dark
    ratio = torch.where(photo > 0, photo / _USUAL, torch.ones_like(photo)).clamp(max=1)
    stops = _OWN * amount * ratio.log()[:, None, None, None]
    power = (stops / drawn.clamp(0.01, 0.9).log()[:, None, None, None]).clamp(max=_STEEPEST)
    light = luma((after + 1) / 2).clamp_min(1e-3)
    white = to_size(share_of(regions.maps, _WHITES), after).add(paper).clamp(max=1)
    gain = light.pow(power)
    gain = torch.lerp((gain * stops.exp()).sqrt().minimum(stops.exp()), gain, white)
    face = to_size(share_of(regions.maps, _SKIN), after)
    return (after + 1) * (1 + face * (gain - 1)) - 1


def region_light(pictures: Tensor, maps: Tensor) -> Tensor:
    """Mean light of each region, (B, R), 0 to 1; 0 of a region that is not there."""
    light = luma((pictures + 1) / 2)
    means = []
    for region in maps.split(1, 1):  # one at a time: large pictures would take 100 MB for all
        share = to_size(region, pictures)
        area = share.mean((1, 2, 3))
        found = (light * share).mean((1, 2, 3)) / area.clamp_min(1e-6)
        means.append(torch.where(area > 1e-3, found, torch.zeros_like(found)))
    return torch.stack(means, 1)


def keep_relief(before: Tensor, after: Tensor, maps: Tensor, amount: float = 1) -> Tensor:
    """Results, (B, 3, H, W) in [-1, 1], in whose dark grounds things stand out.

    Dressing by region brings all that is ground near to the painting's ground: in a black one
    microphones, rackets and locks of hair sink. What is lighter than its surroundings in the photo
    is lighter by `_RELIEF` times as much in a black result; faces are left. (Engineering choice.)

    Args:
        before: the photos, (B, 3, H, W).
        after: the results.
        maps: shares of the photos' regions, (B, R, h, w).
        amount: 0 to 1.
    """
    photo, light = luma(before + 1) / 2, luma(after + 1) / 2
    ground = _around(light)
    wanted, found = (photo - _around(photo)).clamp_min(0), light - ground
    dark = (1 - ground / _DIM).clamp_min(0) * (1 - to_size(share_of(maps, _SKIN), after))
    missing = box((_RELIEF * wanted - found).clamp_min(0) * (wanted > 0) * dark, 1)
    return _times(after, (1 + amount * missing / light.clamp_min(_DARKEST)).clamp(max=_MOST))


def _around(light: Tensor) -> Tensor:
    return box(box(light, _NEAR), _NEAR)


class LightFloor:
    """Lightens regions of results that lost too much light (engineering choice).

    Args:
        base: with a network of regions.
        styles: with their shares, which add up to 1; none where the base itself decodes.
    """

    @torch.no_grad()
    def __init__(self, base: Base, styles: list[tuple[Style, float]]) -> None:
        self._allowed: Tensor | None = None
        for style, share in styles:
            picture = to_tensor(fit_square(style.thumbnail, base.image_size)).to(base.device)
            maps = base.region_maps(base.to_x0(picture))
            # a painting is not dark in what it lacks, such as a hat
            lacks = borrowed_of(dressed_by(maps), base.device)
            light = share * (region_light(picture, maps) * (1 - lacks) + lacks)
            self._allowed = light if self._allowed is None else self._allowed + light

    def __call__(self, before: Tensor, after: Tensor, maps: Tensor) -> Tensor:
        """Results, (B, 3, H, W) in [-1, 1], with the light that their regions must keep.

        Args:
            before: the photos, (B, 3, H, W).
            after: the results.
            maps: shares of the photos' regions, (B, R, h, w).
        """
        floor = _KEPT * region_light(before, maps)
        if self._allowed is not None:
            floor = torch.minimum(floor, self._allowed)
        drawn, power = after, torch.zeros_like(floor)
        stops = -region_light(drawn, maps).clamp(_DARKEST, 0.9).log()
        for _ in range(_ROUNDS):
            missing = floor.clamp_min(1e-6).log() - region_light(after, maps).clamp_min(1e-6).log()
            if bool((missing <= 0).all()):
                break
            power = (power + missing.clamp_min(0) / stops).minimum(math.log(_MOST) / stops)
            after = _lifted(drawn, before, (maps * power[:, :, None, None]).sum(1, keepdim=True))
        return after


def _lifted(pictures: Tensor, photos: Tensor, power: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) whose light l becomes l ** (1 - power), so that lights do not glow.

    Args:
        photos: (B, 3, H, W), whose edges `power` is held to.
        power: (B, 1, h, w).
    """
    field = follow_edges(to_size(power, pictures), luma(photos)).clamp_min(0)
    light = luma(pictures) + 1
    return _times(pictures, (light / 2).clamp_min(_DARKEST).pow(-field).clamp(max=_MOST))


def _times(pictures: Tensor, gain: Tensor) -> Tensor:
    """Pictures whose light is `gain` times as much, (B, 1, H, W), and colour nearly as much."""
    light = luma(pictures) + 1
    colour = 1 + (gain - 1) * light / (light + _COLOURED)
    return (light * gain + (pictures + 1 - light) * colour - 1).clamp(-1, 1)
