"""Open grounds: a wall behind somebody is one wall, up to the hair."""

from __future__ import annotations

from torch import Tensor

from osasis.learn.regions import at_size, grown, share_of
from osasis.models.regions import REGIONS
from osasis.stylize.smooth import box, to_size

_GROUND = (REGIONS.index("ground"),)
_FAR = 5  # places of maps, four pixels each, that open ground is away from all else
_FADING = 3  # places to each side, over which tones go over into the open ground's
_AROUND = 6  # places to each side, averaged over twice
_INEXACT = 1  # places that regions may be wrong by
_ALIKE = 0.15  # deviation of colours, of [-1, 1], that are the same ground
_ENOUGH = 0.02  # share of open ground around a place from which it is known
_LOCAL = 4  # pixels to each side: coarser differences are halos, finer ones strokes


def without_halos(before: Tensor, after: Tensor, maps: Tensor, amount: float = 1) -> Tensor:
    """Results, (B, 3, H, W) in [-1, 1], whose grounds keep their tone beside people and things.

    Latents beside dark hair are half hair, and dressed as such: a white wall that is drawn orange
    stays pale there. Pixels that look in the photo like the open ground around them, ground away
    from all else, get its tone in the result; strokes, which are finer, stay. (Engineering choice.)

    Args:
        before: the photos, (B, 3, H, W).
        after: the results.
        maps: shares of the photos' regions, (B, R, h, w).
        amount: 0 to 1.
    """
    ground = share_of(maps, _GROUND)
    far = 1 - grown(1 - ground, _FAR)
    around = _wide(far)

    def of_open_ground(pictures: Tensor) -> Tensor:
        mean = _wide(at_size(pictures, far) * far) / around.clamp_min(1e-4)
        return to_size(mean, pictures)

    known = grown(ground, _INEXACT) * (around / _ENOUGH).clamp(max=1)
    difference = (before - of_open_ground(before)).square().mean(1, keepdim=True)
    alike = (-difference / (2 * _ALIKE**2)).exp() * to_size(known, before)
    beside = to_size(box(1 - far, _FADING), before)
    local = box(after * alike, _LOCAL) / box(alike, _LOCAL).clamp_min(1e-4)
    weight = amount * box(alike * beside, 1)
    return (after + weight * (of_open_ground(after) - local)).clamp(-1, 1)


def _wide(x: Tensor) -> Tensor:
    return box(box(x, _AROUND), _AROUND)
