"""Which square of a picture is learned or put on a sheet: its face, its middle, a given one."""

from __future__ import annotations

import numpy as np
from PIL import Image

from osasis.errors import UserError
from osasis.imaging.align import align, central_square, cut
from osasis.imaging.faces import Face, FaceDetector

CROPS = "face, square or X,Y,W,H"
_SMALL = 0.3  # of the middle square's side, below which a face's square is taken instead
_LARGEST = 1024  # pixels of a face's square
# without being asked for, a face is taken if it is sure, and no small figure in a landscape
_SURE, _FIGURE, _FEW = 0.85, 0.18, 96


def checked_crop(text: str) -> str:
    """The name of a crop, or four whole numbers.

    Raises:
        UserError: it is neither.
    """
    numbers = text.split(",")
    box = len(numbers) == 4 and all(n.strip().isascii() and n.strip().isdigit() for n in numbers)
    if text not in ("face", "square") and not (box and int(numbers[2]) and int(numbers[3])):
        raise UserError(f"{text!r:.60} is no crop: {CROPS}", hint="--style-crop 200,40,300,300")
    return text


def cropped(image: Image.Image, crop: str | None, *, faces: bool) -> tuple[Image.Image, str]:
    """The part of a picture that is used, and what is to be said of it.

    Args:
        image: RGB, upright.
        crop: "face", "square", or "X,Y,W,H" in pixels; None takes the face where the base draws
            faces and the middle square shows none, or a small one.
        faces: whether the base draws aligned faces.

    Raises:
        UserError: no face where one is asked for, or a box outside of the picture.
    """
    if crop == "square" or (crop is None and not faces):
        return image, ""
    if crop not in (None, "face"):
        return _boxed(image, crop), ""
    found = FaceDetector()(image)
    if not found:
        if crop is None:
            return image, ""
        raise UserError("no face was found in it", hint="--style-crop square, or X,Y,W,H")
    own = 1 / align(found[0], 1).scale  # side of its square in the picture
    if crop is None and not _is_hidden(found[0], own, image):
        return image, ""
    side = min(_LARGEST, round(own))
    place = align(found[0], side)
    pixels = cut(np.asarray(image), place, (side, side))
    said = f"the face in it is used, {side} pixels wide (--style-crop square takes the middle)"
    return Image.fromarray(pixels), said


def _is_hidden(face: Face, side: float, image: Image.Image) -> bool:
    """Whether the middle square shows a picture's face not at all, or small."""
    short = min(image.size)
    if face.score < _SURE or side < max(_FEW, _FIGURE * short):
        return False
    middle = align(face, 1).inverse(np.array([0.5, 0.5]))
    place = central_square(*image.size, 1)(middle)
    return bool(((place < 0.15) | (place > 0.85)).any()) or side < _SMALL * short


def _boxed(image: Image.Image, crop: str) -> Image.Image:
    left, top, width, height = (int(number) for number in checked_crop(crop).split(","))
    if left + width > image.width or top + height > image.height:
        raise UserError(f"{crop} reaches out of the picture of {image.width} x {image.height}")
    return image.crop((left, top, left + width, top + height))
