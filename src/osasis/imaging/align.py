"""Squares cut out of photos, turned and scaled, and the exact way back."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from osasis.imaging.faces import Face

# Where the training faces of our bases have their eyes, measured with YuNet on 1,200 of them: mean
# height 0.456 (data prepared as FFHQ's lie between 0.43 and 0.48), distance 0.243.
EYE_HEIGHT = 0.45


@dataclass(frozen=True)
class Similarity:
    """Rotation, uniform scale and shift of the plane: z -> a * z + b with z = x + iy.

    Coordinates are continuous: (0, 0) is a picture's corner, (0.5, 0.5) the middle of a pixel.
    """

    a: complex
    b: complex

    @property
    def scale(self) -> float:
        """Length of one unit after the map."""
        return abs(self.a)

    @property
    def inverse(self) -> Similarity:
        """The exact way back."""
        return Similarity(1 / self.a, -self.b / self.a)

    def __matmul__(self, first: Similarity) -> Similarity:
        """The map that does `first`, then this one."""
        return Similarity(self.a * first.a, self.a * first.b + self.b)

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Map points (..., 2)."""
        z = self.a * (points[..., 0] + 1j * points[..., 1]) + self.b
        return np.stack([z.real, z.imag], axis=-1)

    def matrix(self) -> np.ndarray:
        """(2, 3) float64 for OpenCV, whose coordinates are 0 in the middle of the first pixel."""
        a, half = self.a, 0.5 + 0.5j
        b = a * half + self.b - half
        return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def align(face: Face, size: int) -> Similarity:
    """Map a photo so that the face lies upright in the square (0, 0) to (size, size), as in FFHQ.

    Direction and side of the square are FFHQ's (Karras et al. 2019, appendix A): the line of the
    eyes and the line from eyes to mouth decide both, so that faces seen from the side fit too. Its
    place along the face puts the eyes at `EYE_HEIGHT`.

    Args:
        face: with landmarks in the photo's coordinates.
        size: side of the square in pixels.
    """
    left_eye, right_eye, _, left_mouth, right_mouth = (complex(x, y) for x, y in face.landmarks)
    eyes, mouth = (left_eye + right_eye) / 2, (left_mouth + right_mouth) / 2
    across, down = right_eye - left_eye, mouth - eyes
    direction = across - 1j * down
    if not abs(direction):  # no detector says so, but a Face can be made by hand
        raise ValueError("the landmarks of the face lie in one point")
    direction /= abs(direction)
    side = 2 * max(2.0 * abs(across), 1.8 * abs(down))
    corner = eyes - direction * side * (0.5 + 1j * EYE_HEIGHT)
    a = size / (side * direction)
    return Similarity(a, -a * corner)


def central_square(width: int, height: int, size: int) -> Similarity:
    """Map the central square of a photo to the square (0, 0) to (size, size)."""
    side = min(width, height)
    a = complex(size / side)
    return Similarity(a, -a * complex((width - side) / 2, (height - side) / 2))


def cut(
    pixels: np.ndarray,
    place: Similarity,
    size: tuple[int, int],
    *,
    border: int = cv2.BORDER_REFLECT_101,
) -> np.ndarray:
    """Draw the picture that `place` maps into (0, 0) to `size`.

    Where it becomes smaller, pixels are averaged.

    Args:
        pixels: (H, W), or (H, W, C) with C up to 4, uint8 or float32.
        size: width and height of what is drawn.
        border: what lies beyond `pixels`, as OpenCV names it: mirrored, or BORDER_CONSTANT for 0.

    Returns:
        (height, width) or (height, width, C), the dtype of `pixels`.
    """
    fine = max(1, round(1 / place.scale))  # `fine` x `fine` samples are averaged
    larger = Similarity(complex(fine), 0j) @ place
    drawn = cv2.warpAffine(
        pixels,
        larger.matrix(),
        (size[0] * fine, size[1] * fine),
        flags=cv2.INTER_CUBIC,
        borderMode=border,
    )
    return cv2.resize(drawn, size, interpolation=cv2.INTER_AREA) if fine > 1 else drawn
