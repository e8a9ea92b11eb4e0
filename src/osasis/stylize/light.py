"""Light of regions: dark skin stays dark, and no region becomes much darker than it was."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from osasis.base import Base
from osasis.formats.style_file import Style
from osasis.imaging.colors import luma
from osasis.imaging.tensors import fit_square, to_tensor
from osasis.learn.regions import share_of
from osasis.models.regions import REGIONS

_KEPT = 0.6  # of a region's light
_MOST = 4.0  # gain
_USUAL = 0.57  # light of skin, mean of 64 faces of the training; deviation .12
_OWN = 0.5  # exponent of what dark skin keeps
_SKIN = tuple(map(REGIONS.index, ("skin", "neck", "nose", "brow", "eye", "mouth", "teeth")))


def keep_dark_skin(before: Tensor, after: Tensor, maps: Tensor, amount: float = 1) -> Tensor:
    """Results, (B, 3, H, W) in [-1, 1], whose skin is darker where the photo's is.

    Dressing by region brings skin near to the painting's. Skin of light p, below the usual u, gives
    its face the factor (p / u) ** (amount / 2). (Engineering choice.)

    Args:
        before: the photos, (B, 3, H, W).
        after: the results.
        maps: shares of the photos' regions, (B, R, h, w).
        amount: 0 to 1.
    """
    skin = region_light(before, maps)[:, REGIONS.index("skin")]
    # a photo without skin has none that could be dark
    factor = torch.where(skin > 0, skin / _USUAL, torch.ones_like(skin)).clamp(max=1)
    gain = factor.pow(_OWN * amount)[:, None, None, None]
    face = _to_size(share_of(maps, _SKIN), after)
    return ((after + 1) * (1 + face * (gain - 1)) - 1).clamp(-1, 1)


def region_light(pictures: Tensor, maps: Tensor) -> Tensor:
    """Mean light of each region, (B, R), 0 to 1; 0 of a region that is not there."""
    light = luma((pictures + 1) / 2)
    shares = _to_size(maps, pictures)
    area = shares.mean((2, 3))
    found = (light * shares).mean((2, 3)) / area.clamp_min(1e-6)
    return torch.where(area > 1e-3, found, torch.zeros_like(found))


def _to_size(maps: Tensor, pictures: Tensor) -> Tensor:
    return F.interpolate(maps, pictures.shape[2:], mode="bilinear", align_corners=False)


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
            light = share * region_light(picture, base.region_maps(base.to_x0(picture)))
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
        gain = (floor / region_light(after, maps).clamp_min(1e-3)).clamp(1, _MOST)
        if bool((gain == 1).all()):
            return after
        field = _to_size((maps * gain[:, :, None, None]).sum(1, keepdim=True), after)
        return ((after + 1) * field - 1).clamp(-1, 1)
