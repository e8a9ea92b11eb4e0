"""What of a photo is redrawn, and how it gets back into it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageOps

from osasis.config.controls import Controls
from osasis.errors import OsasisError
from osasis.imaging.align import Similarity, align, central_square, cut
from osasis.imaging.blend import Patch, enlarge, put_back
from osasis.imaging.faces import Face, FaceDetector
from osasis.imaging.photo_file import Kept, Photo
from osasis.imaging.tensors import fit_square

_LANCZOS = Image.Resampling.LANCZOS
MAX_ASPECT = 3  # longer side of a whole picture, in shorter sides
MAX_TILES = 400  # of one photo
LARGEST = 1536  # pixels of a whole picture's longer side
_FINER = 1024  # the same, where faces are drawn larger than the base knows them
_PAYS = 1.4  # times: a face is drawn larger by more than this, or not at all
_FILLS = 0.3  # of the photo's shorter side, that a portrait's face takes with what is around it
_ENLARGED = 2.0  # times, at most: beyond, blocks of a small JPEG are drawn too
_TILE_STEP = 0.75  # from one tile to the next, in tiles: a quarter overlaps
# a photo that shares this much with its aligned face, and is turned by less, is one already
_IS_SQUARE, _UPRIGHT = 0.7, np.deg2rad(12)


FACES = "faces"  # the domain whose photos are aligned


@dataclass(frozen=True)
class Canvas:
    """What a base redraws.

    Attributes:
        size: pixels along a side of its own pictures.
        stride: what height and width of other pictures must be multiples of.
        faces: whether it draws aligned faces.
        in_pixels: whether it works on pixels, not on latents.
    """

    size: int
    stride: int
    faces: bool
    in_pixels: bool


@dataclass(frozen=True)
class Prepared:
    """A photo before it is redrawn.

    Attributes:
        photo: (H, W, 3) uint8.
        squares: pictures for the network, (h, w, 3) uint8.
        places: where each square lies in the photo; none where the square is the result ("crop")
            or the whole photo ("whole").
        cover: whether the squares cover the photo.
        faces: how many were found, those that are not redrawn included; None where none was
            looked for.
        doubtful: what may be faces, and is left as it is.
        kept: what of the photo's file the result takes along.
    """

    photo: np.ndarray
    squares: tuple[np.ndarray, ...]
    places: tuple[Similarity, ...] = ()
    cover: bool = False
    faces: int | None = None
    doubtful: int = 0
    kept: Kept = Kept()


@dataclass(frozen=True)
class Redrawn:
    """A photo redrawn.

    Attributes:
        picture: RGB.
        squares: as they came from the network.
        before: the same squares of the photo.
        faces, kept: as in `Prepared`.
    """

    picture: Image.Image
    squares: tuple[Image.Image, ...]
    before: tuple[Image.Image, ...] = ()
    faces: int | None = None
    kept: Kept = Kept()

    @property
    def whole(self) -> Image.Image:
        """The picture with its photo's transparency, RGBA; RGB where it has none."""
        alpha = self.kept.alpha
        if alpha is None:
            return self.picture
        if alpha.size != self.picture.size:  # the central square
            alpha = ImageOps.fit(alpha, self.picture.size)
        result = self.picture.copy()
        result.putalpha(alpha)
        return result


class Squares:
    """Cuts what is redrawn out of photos, and puts it back; threads may share it.

    Args:
        controls: what of a photo is redrawn, and how it is put back.
        canvas: of the base that redraws.
        largest: times the size in which the base knows faces, at most, that a large one is drawn
            in, where the photo has the pixels.

    Attributes:
        fit: the control, with "auto" replaced by what it means on this base.
    """

    def __init__(self, controls: Controls, canvas: Canvas, largest: float = 1.0) -> None:
        auto = controls.fit == "auto"
        self.fit = (FACES if canvas.faces else "crop") if auto else controls.fit
        self._controls, self._canvas, self._size = controls, canvas, canvas.size
        self._largest = largest
        self._portraits = auto and canvas.faces and not canvas.in_pixels
        scaled = self.fit == "whole" and canvas.faces and not canvas.in_pixels
        self._detector = FaceDetector() if self.fit == FACES or scaled else None

    def prepare(self, photo: Photo | Image.Image, faces: Sequence[Face] | None = None) -> Prepared:
        """Find what is to be redrawn.

        Args:
            photo: as it was read; of an image, RGB and upright, nothing more is kept.
            faces: those to redraw where faces are; None looks for them.

        Raises:
            OsasisError: no face was found where one is needed.
        """
        whole = photo if isinstance(photo, Photo) else Photo(photo, Kept())
        prepared = self._prepare(whole.image, faces)
        notes = whole.kept.notes
        if prepared.doubtful:
            notes += (f"{prepared.doubtful} doubtful faces were left as they are",)
        return replace(prepared, kept=replace(whole.kept, notes=notes))

    def _prepare(self, image: Image.Image, faces: Sequence[Face] | None) -> Prepared:
        photo = np.asarray(image)
        if self.fit == "crop":
            return Prepared(photo, (np.asarray(fit_square(image, self._size)),))
        cover = self.fit == "tiles"
        found, doubt = None, 0
        if cover:
            places = self._tiles(image.size)
        elif self._detector is None:
            places = ()
        else:
            every, doubt = self._faces(photo, faces)
            found, places = len(every), every[: 1 if self._controls.largest_face else None]
        filled = _FILLS * min(image.size)
        portrait = self._portraits and len(places) == 1 and self._size / places[0].scale > filled
        if self.fit == "whole" or portrait:
            return Prepared(photo, (self._shrink(image, places),), faces=found, doubtful=doubt)
        side = self._size if cover else self._side(places)
        if not cover and len(places) == 1 and _is_square(places[0], image.size, self._size):
            # its frame would otherwise stay a photo
            square = np.asarray(image.resize((side, side), _LANCZOS))
            return Prepared(photo, (square,), faces=found, doubtful=doubt)
        finer = Similarity(complex(side / self._size), 0j)
        places = tuple(finer @ place for place in places)
        squares = tuple(cut(photo, place, (side, side)) for place in places)
        return Prepared(photo, squares, places, cover, found, doubt)

    def _side(self, places: Sequence[Similarity]) -> int:
        """Pixels of the squares that faces are drawn in: what the smallest of them fills."""
        if not places:
            return self._size
        times = min(self._largest, *(1 / place.scale for place in places))
        stride = self._canvas.stride
        return round(times * self._size / stride) * stride if times > _PAYS else self._size

    def finish(self, prepared: Prepared, results: Sequence[np.ndarray]) -> Redrawn:
        """Put redrawn squares back."""
        squares = tuple(Image.fromarray(result) for result in results)
        before = tuple(Image.fromarray(square) for square in prepared.squares)
        if self.fit == "crop":
            pixels = results[0]
        elif not prepared.places:
            pixels = enlarge(prepared.photo, prepared.squares[0], results[0], self._controls.detail)
        else:
            parts = zip(prepared.places, prepared.squares, results, strict=True)
            patches = [Patch(*part) for part in parts]
            pixels = put_back(prepared.photo, patches, self._controls, cover=prepared.cover)
        return Redrawn(Image.fromarray(pixels), squares, before, prepared.faces, prepared.kept)

    def _faces(
        self, photo: np.ndarray, faces: Sequence[Face] | None
    ) -> tuple[tuple[Similarity, ...], int]:
        """Where the faces lie, and how many are too doubtful."""
        doubtful: Sequence[Face] = ()
        if faces is None:
            faces, doubtful = self._detector.search(photo) if self._detector else ([], [])
        if not faces and self.fit == FACES:
            raise OsasisError(
                "no face was found",
                hint="--no-align (fit='crop') redraws the central square whatever it shows",
            )
        return tuple(align(face, self._size) for face in faces), len(doubtful)

    def _tiles(self, photo_size: tuple[int, int]) -> tuple[Similarity, ...]:
        width, height = photo_size
        side = min(photo_size) / (1 + _TILE_STEP * (self._controls.tiles - 1))
        a = complex(self._size / side)
        rows, columns = _starts(height, side), _starts(width, side)
        if len(rows) * len(columns) > MAX_TILES:
            raise OsasisError(
                f"{width} x {height} pixels would take {len(rows) * len(columns)} tiles, "
                f"at most {MAX_TILES} are drawn",
                hint="use fewer --tiles, or cut the photo",
            )
        corners = [complex(x, y) for y in rows for x in columns]
        return tuple(Similarity(a, -a * corner) for corner in corners)

    def _shrink(self, image: Image.Image, faces: Sequence[Similarity]) -> np.ndarray:
        """The whole photo as it is redrawn, both sides multiples of the base's stride.

        In latents so that the largest face has the size in which the base knows faces, at most
        `LARGEST` pixels, and enlarged no more than a portrait needs; within `_FINER` pixels a face
        is up to `largest` times as large, where the photo has them. Without a face at its own
        size. In pixels its shorter side is the base's.
        """
        if max(image.size) > MAX_ASPECT * min(image.size):
            raise OsasisError(
                f"{image.width} x {image.height} is too long to be redrawn whole: "
                f"at most {MAX_ASPECT} to 1",
                hint="use --fit tiles",
            )
        stride = self._canvas.stride
        scale = self._size / min(image.size)
        if not self._canvas.in_pixels:
            fitting = min((face.scale for face in faces), default=1.0)
            finer = min(self._largest * fitting, 1.0, _FINER / max(image.size))
            portrait = self._size / (_FILLS * min(image.size))
            most = min(LARGEST / max(image.size), max(1.0, portrait), _ENLARGED)
            scale = max(scale, min(most, finer if finer > _PAYS * fitting else fitting))
        width, height = (max(self._size, round(s * scale / stride) * stride) for s in image.size)
        return np.asarray(image.resize((width, height), _LANCZOS))


def _starts(length: int, side: float) -> list[float]:
    """Where tiles of `side` begin that cover `length` evenly."""
    count = max(1, int(np.ceil((length - side) / (side * _TILE_STEP) - 1e-6)) + 1)
    return np.linspace(0, length - side, count).tolist() if count > 1 else [(length - side) / 2]


def _is_square(place: Similarity, photo_size: tuple[int, int], size: int) -> bool:
    """Whether the photo is about what `place` would cut out: an aligned square already."""
    width, height = photo_size
    if max(photo_size) > 1.1 * min(photo_size) or abs(np.angle(place.a)) > _UPRIGHT:
        return False
    whole = central_square(width, height, size)
    grid = np.stack(np.meshgrid(*[(np.arange(32) + 0.5) * (size / 32)] * 2), axis=-1)

    def share(one: Similarity, other: Similarity) -> float:
        """How much of one's square lies in the other's."""
        points = other(one.inverse(grid))
        return float(((points >= 0) & (points <= size)).all(axis=-1).mean())

    return min(share(place, whole), share(whole, place)) > _IS_SQUARE
