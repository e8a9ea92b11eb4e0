"""Statistics by region, and which of a style's regions dresses which of a photo's.

Engineering choice, not in the paper: means and deviations of features (as AdaIN, 1703.06868),
region by region, so that skin is compared with skin and hair with hair.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from osasis.models.regions import REGIONS

FACE = tuple(REGIONS.index(name) for name in ("skin", "brow", "eye", "mouth", "nose"))
_PARTS = tuple(REGIONS.index(name) for name in ("brow", "eye", "mouth", "nose", "teeth"))
_HEAD = tuple(map(REGIONS.index, ("skin", "neck", "brow", "eye", "mouth", "nose", "hair", "teeth")))
_MARKS = tuple(map(REGIONS.index, ("eye", "mouth")))
_SMALL = tuple(REGIONS.index(name) for name in ("brow", "eye", "mouth"))
_STAND_INS = {
    "ground": ("cloth", "hair"),
    "skin": ("neck", "nose", "ground"),
    "neck": ("skin", "ground"),
    "brow": ("hair", "eye", "skin"),
    "eye": ("brow", "skin"),
    "mouth": ("skin",),
    "nose": ("skin",),
    "cloth": ("hat", "hair", "ground"),
    "hair": ("hat", "cloth", "ground"),
    "hat": ("hair", "cloth", "ground"),
    "glasses": ("brow", "eye", "hair", "skin"),
    "teeth": ("skin",),
}
TEETH = REGIONS.index("teeth")
_CRISP, _HAT = (TEETH, REGIONS.index("glasses")), (REGIONS.index("hat"),)
# a style's closed lips say nothing of teeth (or of what is held before a mouth): they go with skin
_MEASURED = tuple(REGIONS.index("skin") if r == TEETH else r for r in range(len(REGIONS)))
ENOUGH, ENOUGH_SMALL = 0.003, 0.0008  # of the picture, for a region to dress others
EYES_OF_A_FACE, NOSE_OF_A_FACE = 0.001, 0.003  # of the picture, below which there is no face
MARKS_OF_A_FACE = 0.004  # of half its square, a tenth of what eyes and mouth of a face take
FULL_OF_FACE = 0.43  # of a square; faces as the base frames them take .11 to .43, the median is .27
LARGEST_FACE = 2.0  # times the size in which the base knows faces
MARKS_AT = 0.6  # of a face's square from its top, the middle of eyes and mouth
EPSILON = 1e-6


@dataclass(frozen=True)
class Statistics:
    """Mean and deviation by channel of places that are weighed.

    Attributes:
        mean: (..., C).
        std: (..., C), at least 0.001.
    """

    mean: Tensor
    std: Tensor

    def distance(self, other: Statistics) -> Tensor:
        """Squared difference to `other` over the size of `other`, (...)."""
        squared = (self.mean - other.mean).square() + (self.std - other.std).square()
        return squared.sum(-1) / (other.mean.square() + other.std.square()).sum(-1)

    def rows(self, indices: Sequence[int]) -> Statistics:
        """Those of some regions, (..., R, C), in this order."""
        return Statistics(self.mean[..., list(indices), :], self.std[..., list(indices), :])


def region_statistics(features: Tensor, maps: Tensor, *, pooled: bool = False) -> Statistics:
    """Statistics of every region.

    Args:
        features: (B, C, H, W).
        maps: (B, R, H, W) weights, at least 0.
        pooled: over all pictures of the batch together.

    Returns:
        Means and deviations (B, R, C), or (R, C) where they are pooled; a region without a place
        has mean 0.
    """
    flat = features.flatten(2).transpose(1, 2)
    weights = maps.flatten(2)
    amount, total, squares = weights.sum(2), weights @ flat, weights @ flat.square()
    if pooled:
        amount, total, squares = amount.sum(0), total.sum(0), squares.sum(0)
    amount = amount[..., None] + EPSILON
    mean = total / amount
    variance = (squares / amount - mean.square()).clamp_min(0)
    return Statistics(mean, (variance + EPSILON).sqrt())


def mixture(parts: Statistics, shares: Tensor) -> Statistics:
    """Statistics of pictures that hold regions `parts`, (R, C), in `shares`, (B, R).

    So a style with much dark ground does not darken photos with little ground.
    """
    mean = shares @ parts.mean
    square = shares @ (parts.mean.square() + parts.std.square())
    return Statistics(mean, (square - mean.square()).clamp_min(EPSILON).sqrt())


def at_size(maps: Tensor, like: Tensor) -> Tensor:
    """Maps (B, R, h, w) as large as `like`: averages of areas when smaller, else repeated."""
    height, width = like.shape[2:]
    if maps.shape[2] >= height:
        return F.adaptive_avg_pool2d(maps, (height, width))
    return F.interpolate(maps, (height, width), mode="nearest")


def share_of(maps: Tensor, regions: Sequence[int]) -> Tensor:
    """How much of each place some regions take, (B, 1, H, W); 0 on a base without regions."""
    if maps.shape[1] != len(REGIONS):
        return torch.zeros_like(maps[:, :1])
    return maps[:, list(regions)].sum(1, keepdim=True)


def grown(maps: Tensor, places: int) -> Tensor:
    """The largest of so many places to each side, (B, R, H, W)."""
    return F.max_pool2d(maps, 2 * places + 1, 1, places)


@dataclass(frozen=True)
class FaceSquare:
    """A square with a face as the base frames faces, in places of maps."""

    top: int
    left: int
    side: int

    @property
    def rows(self) -> slice:
        return slice(self.top, self.top + self.side)

    @property
    def columns(self) -> slice:
        return slice(self.left, self.left + self.side)


def face_squares(maps: Tensor, cells: int) -> list[FaceSquare | None]:
    """The square of the clearest face in each picture; None where none is seen.

    Args:
        maps: (B, R, H, W) of all regions, H and W at least `cells`.
        cells: side of the smallest square that is looked for; the largest is `LARGEST_FACE` times
            as large, or what fits into the picture.
    """
    fits = min(maps.shape[2], maps.shape[3], round(LARGEST_FACE * cells))
    middle = min(fits, 2 * round(cells * (LARGEST_FACE**0.5) / 2))
    sides = sorted({cells, middle, fits})
    face, marks = share_of(maps, FACE), share_of(maps, _MARKS)
    pairs = zip(face.split(1), marks.split(1), strict=True)
    return [_face_square(*pair, sides) for pair in pairs]


def _face_square(face: Tensor, marks: Tensor, sides: Sequence[int]) -> FaceSquare | None:
    """The smallest of squares around eyes and mouth that is not full of face, else the largest."""
    found = None
    for side in sides:
        window = side // 2 | 1  # odd; twice, so that the middle of a face is its maximum
        around = marks
        for size in ((window, 1), (1, window)) * 2:
            around = F.avg_pool2d(around, size, 1, (size[0] // 2, size[1] // 2))
        if around.max() <= MARKS_OF_A_FACE:
            return found
        height, width = marks.shape[2:]
        row, column = divmod(int(around.argmax()), width)
        top = min(max(0, row - round(MARKS_AT * side)), height - side)
        left = min(max(0, column - side // 2), width - side)
        found = FaceSquare(top, left, side)
        if face[..., found.rows, found.columns].mean() < FULL_OF_FACE:
            return found
    return found


@dataclass(frozen=True)
class PhotoRegions:
    """Where the regions of photos are.

    Attributes:
        maps: (B, R, H, W) shares.
        squares: of the clearest face in each picture; None where none is seen, and where all of a
            picture is near a face: in the base's size, and where the base is one region.
        measured: `maps` with regions of a head only within `squares`. In a person up to the waist
            the regions' network takes an orange suit for skin; within a face's square it is right.
    """

    maps: Tensor
    squares: tuple[FaceSquare | None, ...]
    measured: Tensor

    @staticmethod
    def of(maps: Tensor, cells: int) -> PhotoRegions:
        """Those of `maps`, of which `cells` are a side of the base's own pictures."""
        height, width = maps.shape[2:]
        if maps.shape[1] != len(REGIONS) or min(height, width) < cells or height == width == cells:
            return PhotoRegions(maps, (None,) * len(maps), maps)
        squares, measured = face_squares(maps, cells), maps.clone()
        for picture, square in zip(measured, squares, strict=True):
            if square is not None:
                near = torch.zeros_like(picture[0])
                near[square.rows, square.columns] = 1
                picture[list(_HEAD)] *= near
        return PhotoRegions(maps, tuple(squares), measured)


def spn_channels(latents: int, *, dress: bool, face: bool) -> int:
    """Channels of `Wardrobe.spn_input` for latents of so many channels."""
    return (2 if dress else 1) * latents + (len(REGIONS) if face else 1)


def has_face(maps: Tensor) -> bool:
    """Whether one picture's maps (1, R, H, W) show eyes and a nose."""
    if maps.shape[1] != len(REGIONS):
        return False
    share = maps.mean((0, 2, 3))
    eyes, nose = share[REGIONS.index("eye")], share[REGIONS.index("nose")]
    return bool(eyes > EYES_OF_A_FACE and nose > NOSE_OF_A_FACE)


def dressed_by(maps: Tensor) -> tuple[int, ...]:
    """For every region of a photo the region of the style, with maps (1, R, H, W), that dresses it.

    Its own; or, where the style has too little of it, the first stand-in that it has enough of, so
    that a hat may be dressed by hair; or else the style's largest region.
    """
    share = maps.mean((0, 2, 3)).tolist()
    chosen = []
    for number, name in enumerate(REGIONS):
        least = ENOUGH_SMALL if number in _SMALL else ENOUGH
        stand_ins = [REGIONS.index(other) for other in _STAND_INS[name]]
        candidates = [n for n in stand_ins if share[n] > ENOUGH]
        if share[number] > least and number != TEETH:
            candidates = [number]
        chosen.append(candidates[0] if candidates else share.index(max(share)))
    return tuple(chosen)


def borrowed_of(sources: Sequence[int], device: torch.device) -> Tensor:
    """(R,), 1 where another region dresses one that the style lacks, else 0; see `dressed_by`."""
    return torch.tensor([float(a != b) for a, b in enumerate(sources)], device=device)


@dataclass(frozen=True)
class Wardrobe:
    """A style's latents region by region: what a photo is dressed in before eps_B draws.

    Attributes:
        latents: statistics of the style's latents, (R, C): row r dresses region r of a photo.
        face: whether the style has a face; without, its picture is one region, and so are photos.
        usual: (R, C) mean latents of regions in photos, see `RegionNet`; (1, C) without a face.
        borrowed: (R,), 1 where another region dresses one that the style lacks, else 0.
    """

    latents: Statistics
    face: bool
    usual: Tensor
    borrowed: Tensor

    def maps(self, maps: Tensor) -> Tensor:
        """A photo's maps (B, R, H, W) as this style sees them: all one region without a face."""
        return maps if self.face else torch.ones_like(maps[:, :1])

    def judged(self, maps: Tensor) -> Tensor:
        """What of a photo with these maps of all regions is compared with the style.

        A style without a face says nothing of eyes, brows, noses and mouths: there the result is
        held to the photo only.
        """
        return maps if self.face else 1 - share_of(maps, _PARTS)

    def unsaid(self, maps: Tensor) -> Tensor:
        """How much of each place in results stays as dressed, (B, 1, H, W) in [0, `HELD`].

        Of a photo's face by a style without one, which would paint its lights and lines into eyes
        and mouths; by a style with one `HELD_PARTS`, since a person is known by these; of what the
        style lacks, lest hats sink into a dark ground and lenses turn to skin. Every style lacks
        teeth: closed lips say nothing of them.
        """
        # regions are not exact: a cell around them, or two
        cells = 1 if self.face else 2
        parts = _soft(grown(share_of(maps, _PARTS), cells), cells)
        if not self.face:
            return HELD * parts
        lacked = self.borrowed[:, None, None] * maps
        amount = HELD * share_of(lacked, _CRISP) + HELD_HAT * share_of(lacked, _HAT)
        return _soft(amount, 1).maximum(HELD_PARTS * parts)

    def dress(self, x0: Tensor, maps: Tensor, measured: Tensor | None = None) -> Tensor:
        """Photos with each region's latents moved to the mean and deviation of the style's.

        Closed form, no network: palette and contrast arrive here, strokes do not. A share
        `OWN_TONE` of what sets the photo's region apart from usual ones stays, so that dark skin
        is darker than fair skin in every style; of a region that the style lacks `BORROWED_TONE`,
        and half of its contrast. Borders of regions are softened over 3 x 3 cells; contrast rises
        at most `LARGEST_GAIN` times.

        Args:
            x0: (B, C, h, w) latents.
            maps: (B, R, H, W), from `maps`.
            measured: the same, where statistics are taken; None for everywhere.
        """
        weights = at_size(maps, x0)
        soft = F.avg_pool2d(F.pad(weights, (1, 1, 1, 1), mode="replicate"), 3, 1)
        places = weights if measured is None else at_size(measured, x0)
        # a region of less than half a cell has no statistics of its own
        whole = places.sum((2, 3), keepdim=True) > HALF_A_CELL
        found = region_statistics(x0, torch.where(whole, places, torch.ones_like(weights)))
        mean, std = self.latents.mean, self.latents.std
        if self.face:
            own = torch.where(whole[..., 0], found.mean - self.usual, torch.zeros_like(found.mean))
            own, found = own[:, list(_MEASURED)], found.rows(_MEASURED)
            borrowed = self.borrowed[:, None]
            mean = mean + (OWN_TONE + (BORROWED_TONE - OWN_TONE) * borrowed) * own
            std = std * (found.std / std).pow(borrowed / 2)
        gain = (std / (found.std + QUIET)).clamp_max(LARGEST_GAIN)
        if self.face:
            gain[:, TEETH] = gain[:, TEETH].clamp_min(1)  # as far from skin as they were
        offset = mean - found.mean * gain
        gains = torch.einsum("brhw,brc->bchw", soft, gain)
        return x0 * gains + torch.einsum("brhw,brc->bchw", soft, offset)

    @staticmethod
    def spn_input(x0: Tensor, dressed: Tensor | None, maps: Tensor) -> Tensor:
        """What the SPN sees of photos: latents, dressed ones, and where their regions are."""
        sized = at_size(maps, x0)
        return torch.cat([x0, sized] if dressed is None else [x0, dressed, sized], dim=1)

    def tensors(self) -> dict[str, Tensor]:
        """What a style file keeps of it: statistics; a style without face has one row."""
        return {
            "wardrobe.mean": self.latents.mean,
            "wardrobe.std": self.latents.std,
            "wardrobe.borrowed": self.borrowed,
        }

    @staticmethod
    def from_tensors(tensors: Mapping[str, Tensor], usual: Tensor) -> Wardrobe:
        """Inverse of `tensors`.

        Args:
            usual: (R, C), of the base's region network.

        Raises:
            KeyError, ValueError: they are not there, or not for latents of so many channels.
        """
        mean, std = tensors["wardrobe.mean"], tensors["wardrobe.std"]
        if mean.shape not in ((1, usual.shape[1]), usual.shape) or std.shape != mean.shape:
            raise ValueError(f"statistics of shape {tuple(mean.shape)}")
        borrowed = tensors["wardrobe.borrowed"]
        if borrowed.shape != mean.shape[:1]:
            raise ValueError(f"borrowed regions of shape {tuple(borrowed.shape)}")
        return Wardrobe(Statistics(mean, std), len(mean) > 1, usual, borrowed)


def _soft(places: Tensor, cells: int) -> Tensor:
    """Means over so many cells to each side."""
    padded = F.pad(places, (cells,) * 4, mode="replicate")
    return F.avg_pool2d(padded, 2 * cells + 1, 1)


HALF_A_CELL = 0.5
QUIET = 0.15  # deviation of latents below which contrast is not raised in full
LARGEST_GAIN = 2.0
OWN_TONE = 0.5
BORROWED_TONE = 0.9
HELD = 0.8
HELD_HAT = 0.5  # it is to have strokes
HELD_PARTS = 0.3


def wardrobe(x0: Tensor, maps: Tensor, usual: Tensor) -> tuple[Wardrobe, tuple[int, ...]]:
    """The wardrobe of a style's latents (1, C, h, w) with maps (1, R, H, W), and `dressed_by`.

    Args:
        usual: (R, C), of the base's region network.
    """
    face = has_face(maps)
    seen = maps if face else torch.ones_like(maps[:, :1])
    sources = dressed_by(maps) if face else (0,)
    weights = at_size(seen, x0)
    found = region_statistics(x0, weights, pooled=True).rows(sources)
    return Wardrobe(found, face, usual, borrowed_of(sources, x0.device)), sources
