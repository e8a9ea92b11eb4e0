"""Putting redrawn squares back into the photo they were cut out of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from osasis.config.controls import Blending
from osasis.imaging.align import Similarity, cut
from osasis.imaging.colors import LUMA

_ROUNDNESS = 4  # exponent of the superellipse: 2 is a circle, large numbers the square
_NEARER = 6.0  # how sharply neighbours share what lies between them
_ITSELF = Similarity(1 + 0j, 0j)
_NEAR = (9, 9)  # pixels of a square around each, whose light is compared
_DARK = np.float32(4)  # of 255, added to lights that are compared
_COLOR_SIGMA = 0.08  # of the side: coarser differences than this count as colour


@dataclass(frozen=True)
class Patch:
    """One square: where it lies, how it was, how it is now.

    Attributes:
        place: maps the photo to the square (0, 0) to (S, S).
        before, after: (S, S, 3) uint8.
    """

    place: Similarity
    before: np.ndarray
    after: np.ndarray


def put_back(
    photo: np.ndarray, patches: Sequence[Patch], config: Blending, *, cover: bool = False
) -> np.ndarray:
    """Blend redrawn squares into their photo at the photo's resolution.

    A square is blended with a soft rounded mask; where squares overlap, the one whose middle is
    nearer counts more. With `match_color` its coarse colours go over into the photo's between
    middle and edge, while strokes and contours stay up to the mask: Burt and Adelson (1983) with
    two bands. With `detail` 1, a square that was not changed gives back the photo exactly.

    Args:
        photo: (H, W, 3) uint8; not changed.
        patches: the squares.
        cover: the squares cover the photo together, and no photo is to remain between or around.

    Returns:
        (H, W, 3) uint8.
    """
    out = photo.copy()
    places = [patch.place for patch in patches]
    for index, patch in enumerate(patches):
        size = patch.after.shape[0]
        box = _bounds(patch.place, size, photo.shape)
        if box is None:
            continue
        left, top, right, bottom = box
        area = (slice(top, bottom), slice(left, right))
        back = Similarity(1 + 0j, complex(-left, -top)) @ patch.place.inverse
        shape = (right - left, bottom - top)
        mask = _mask(_around(places, index, size), size, config.feather, cover=cover)
        # a leaning square does not fill its bounds; squares that cover are upright and do
        border = cv2.BORDER_REFLECT_101 if cover else cv2.BORDER_CONSTANT
        weight = cut(mask, back, shape, border=border).clip(0, 1)[..., None]
        after = patch.after.astype(np.float32)
        if config.match_color and not cover:
            after = _match(after, patch.before.astype(np.float32))
        own = photo[area].astype(np.float32)
        drawn = cut(after, back, shape)
        if config.detail:
            fine = own - cut(patch.before.astype(np.float32), back, shape)
            drawn += cut(_detail(patch.before, after, config.detail), back, shape) * fine
        # added, not laid over: what neighbours give to one pixel sums up to the whole
        blended = out[area].astype(np.float32) + weight * (drawn.clip(0, 255) - own)
        out[area] = np.rint(blended.clip(0, 255)).astype(np.uint8)
    return out


def enlarge(photo: np.ndarray, before: np.ndarray, after: np.ndarray, detail: float) -> np.ndarray:
    """Bring a whole redrawn picture to its photo's size and add the photo's high frequencies.

    Args:
        photo: (H, W, 3) uint8.
        before, after: (h, w, 3) uint8, the photo made smaller, and what became of it.
        detail: in [0, 1], as in `Blending`.

    Returns:
        (H, W, 3) uint8.
    """
    size = (photo.shape[1], photo.shape[0])

    def large(pixels: np.ndarray) -> np.ndarray:
        return cv2.resize(pixels.astype(np.float32), size, interpolation=cv2.INTER_CUBIC)

    drawn = large(after)
    if detail:
        drawn += large(_detail(before, after, detail)) * (photo.astype(np.float32) - large(before))
    return np.rint(drawn.clip(0, 255)).astype(np.uint8)


def _detail(before: np.ndarray, after: np.ndarray, most: float) -> np.ndarray:
    """How much of the photo's fine detail is added at each place, (h, w, 3) in (0, `most`].

    No more than is left of its light: contours of what sinks into a dark ground would scratch it.
    """
    weights = np.array(LUMA, np.float32)
    photo, drawn = (cv2.blur(x @ weights, _NEAR).clip(0) + _DARK for x in (before, after))
    return np.minimum(drawn / photo, most)[..., None].repeat(3, axis=2)


def _bounds(
    place: Similarity, size: int, shape: tuple[int, ...]
) -> tuple[int, int, int, int] | None:
    """left, top, right, bottom of a square's part of the photo in pixels; None if it has none."""
    corners = place.inverse(np.array([(0, 0), (size, 0), (size, size), (0, size)], float))
    left, top = np.floor(corners.min(axis=0)).astype(int).clip(0).tolist()
    right, bottom = np.ceil(corners.max(axis=0)).astype(int).tolist()
    right, bottom = min(right, shape[1]), min(bottom, shape[0])
    return (left, top, right, bottom) if left < right and top < bottom else None


def _radius(points: np.ndarray, size: int) -> np.ndarray:
    """0 in the middle of the square, 1 on its rounded edge; points (..., 2)."""
    u = np.abs(points * (2 / size) - 1)
    return (u**_ROUNDNESS).sum(axis=-1) ** (1 / _ROUNDNESS)


def _smooth(x: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, smooth between."""
    x = x.clip(0, 1)
    return x * x * (3 - 2 * x)


@lru_cache(maxsize=4)
def _grid(size: int) -> np.ndarray:
    """Middles of a square's pixels, (size, size, 2) as x, y."""
    rows, columns = np.indices((size, size)) + 0.5
    return np.stack([columns, rows], axis=-1)


def _around(places: Sequence[Similarity], index: int, size: int) -> tuple[Similarity, ...]:
    """Maps from a square's pixels to those of others it may touch, alike for alike places."""
    own, maps, middle = places[index].inverse, list[Similarity](), complex(size, size) / 2
    for other, place in enumerate(places):
        way = place @ own
        reach = (1 + way.scale) * abs(middle)
        if other != index and abs(way.a * middle + way.b - middle) < reach:
            maps.append(Similarity(_rounded(way.a, 6), _rounded(way.b, 4)))
    return tuple(maps)


def _rounded(z: complex, digits: int) -> complex:
    return complex(round(z.real, digits), round(z.imag, digits))


@lru_cache(maxsize=16)  # a grid has nine kinds of squares
def _mask(around: tuple[Similarity, ...], size: int, feather: float, *, cover: bool) -> np.ndarray:
    """Weight of one square on its own pixels, (size, size), those around taken into account."""
    grid = _grid(size)
    total, free = np.zeros((size, size)), np.ones((size, size))
    for place in (*around, _ITSELF):
        inside = place(grid)
        radius = _radius(inside, size)
        mask = _smooth((1 - radius) / feather)
        near = mask * np.exp(-_NEARER * radius**2)
        if cover:  # squares that cover reach into their corners, where the rounded mask is 0
            near += 1e-6 * ((inside > 0) & (inside < size)).all(axis=-1)
        total, free = total + near, free * (1 - mask)
    share = near / np.maximum(total, 1e-30)
    return (share if cover else share * (1 - free)).astype(np.float32)


def _match(after: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Let coarse colours turn into those of `before` from the middle to the edge."""
    size = after.shape[0]
    coarse = cv2.GaussianBlur(before - after, (0, 0), _COLOR_SIGMA * size)
    towards = _smooth((_radius(_grid(size), size) - 0.3) / 0.6)
    return after + towards[..., None].astype(np.float32) * coarse
