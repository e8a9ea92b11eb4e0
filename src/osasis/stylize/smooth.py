"""Patterns that nobody painted: blocks of compressed photos, and the lattice of a decoder.

Engineering choices, not in the paper.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from osasis.imaging.colors import luma

RADIUS = 8  # pixels: a window spans two blocks of a JPEG
NOISE = 3 / 127.5  # deviation within a window, of pictures in [-1, 1], of which half stays
EDGE = 0.1  # deviation of light within a window that is an edge
_NEAR = 2  # cells on either side that are compared
_CHANCE = 0.15  # share of light's fine detail that repeats by chance; all goes at twice as much


def smooth_flat_places(pictures: Tensor) -> Tensor:
    """Pictures with flat places averaged and all else as it was.

    A style raises the contrast of flat grounds, and with it blocks of 8 to 16 pixels that nobody
    sees in a dark photo. The guided filter of He, Sun and Tang (ECCV 2010, Eqs. 4 to 8), each
    picture its own guide.

    Args:
        pictures: (B, C, H, W) in [-1, 1], sides over `RADIUS`.

    Returns:
        The same shape and range; a deviation of `NOISE` within 17 x 17 pixels is halved, one of ten
        times as much keeps 99%.
    """
    mean = box(pictures)
    variance = (box(pictures.square()) - mean.square()).clamp_min(0).mean(1, keepdim=True)
    kept = variance / (variance + NOISE**2)
    return box(kept) * pictures + box(mean * (1 - kept))


def follow_edges(field: Tensor, guide: Tensor) -> Tensor:
    """A coarse field whose edges lie where the guide's do.

    The guided filter of He, Sun and Tang (ECCV 2010, Eqs. 4 to 8).

    Args:
        field: (B, C, H, W).
        guide: (B, 1, H, W), of pictures in [-1, 1].
    """
    mean, level = box(guide), box(field)
    variance = (box(guide.square()) - mean.square()).clamp_min(0)
    slope = (box(guide * field) - mean * level) / (variance + EDGE**2)
    return box(slope) * guide + box(level - slope * mean)


def with_tones_of(coarse: Tensor, fine: Tensor, guide: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) in [-1, 1] with the tones of smaller ones, and edges of their own.

    Args:
        coarse: (B, 3, h, w) in [-1, 1].
        fine: what keeps its detail.
        guide: (B, 3, H, W), whose edges tones end at.
    """
    size = (coarse.shape[2], coarse.shape[3])
    difference = coarse - F.interpolate(fine, size, mode="bicubic", antialias=True)
    difference = F.interpolate(difference, fine.shape[2:], mode="bicubic")
    return (fine + follow_edges(difference, luma(guide))).clamp(-1, 1)


def without_lattice(pictures: Tensor, period: int) -> Tensor:
    """Decoded pictures without what repeats from one latent to the next.

    Where a photo is flat and the painting is not, eps_B has nothing to hold strokes to and draws
    each latent alike. What repeats is the median over 5 x 5 cells of each place in a cell: strokes
    and edges, which lie elsewhere in every cell, are not in it.

    Args:
        pictures: (B, C, H, W) in [-1, 1], sides multiples of `period`.
        period: pixels along a side of one latent, even.

    Returns:
        The same shape and range; only light changes.
    """
    light = luma(pictures)
    edge = light.new_tensor([0.5] + [1.0] * (period - 1) + [0.5]) / period
    around = F.pad(light, (period // 2,) * 4, mode="reflect")
    fine = light - F.conv2d(around, (edge[:, None] * edge)[None, None])
    cells = F.pad(F.pixel_unshuffle(fine, period), (_NEAR,) * 4, mode="replicate")
    side = 2 * _NEAR + 1
    near = cells.unfold(2, side, 1).unfold(3, side, 1).flatten(4)
    repeated = near.median(-1).values
    energy = repeated.square().sum(1, keepdim=True)
    spread = (near - repeated[..., None]).square().mean(-1).sum(1, keepdim=True)
    share = energy / (energy + spread + 1e-8)
    repeated = repeated * ((share - _CHANCE) / _CHANCE).clamp(0, 1)
    return (pictures - F.pixel_shuffle(repeated, period)).clamp(-1, 1)


def box(x: Tensor, radius: int = RADIUS) -> Tensor:
    """Means over squares of `radius` pixels to each side, a row and a column at a time."""
    padded = F.pad(x, (radius,) * 4, mode="reflect")
    rows = F.avg_pool2d(padded, (1, 2 * radius + 1), stride=1)
    return F.avg_pool2d(rows, (2 * radius + 1, 1), stride=1)


def to_size(maps: Tensor, pictures: Tensor) -> Tensor:
    """Maps (B, R, h, w) as large as pictures (B, C, H, W), without steps between places."""
    return F.interpolate(maps, pictures.shape[2:], mode="bilinear", align_corners=False)
