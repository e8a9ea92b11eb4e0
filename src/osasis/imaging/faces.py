"""Finding faces: YuNet through OpenCV."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from osasis.hub.registry import assets

MODEL = "face_detection_yunet_2023mar.onnx"
# YuNet sees faces of about 10 to 300 pixels, so that big and small ones need different sizes
_LONG_SIDES = (320, 1280)
# around the picture, in pixels: faces that fill it are missed without
_MARGIN = 80
_SAME_FACE = 0.4  # boxes of one scale and another that overlap by more are one face
_MAX_FACES = 200
_SURE = 0.9  # a lying face is sometimes taken for an upright one, with less certainty than this


@dataclass(frozen=True)
class Face:
    """A face in a picture of W x H pixels.

    Coordinates are continuous: (0, 0) is the corner of the picture, (0.5, 0.5) the middle of its
    first pixel.

    Attributes:
        box: left, top, right, bottom; may reach beyond the picture.
        landmarks: (x, y) of the eye on the picture's left (of an upright face), the other eye, the
            nose, and the mouth's corner on the left and on the right.
        score: the detector's certainty, 0 to 1.
    """

    box: tuple[float, float, float, float]
    landmarks: tuple[tuple[float, float], ...]
    score: float

    @property
    def area(self) -> float:
        """Of the box, in pixels."""
        left, top, right, bottom = self.box
        return max(0.0, right - left) * max(0.0, bottom - top)


class FaceDetector:
    """Finds faces from 10 pixels wide to those that fill the picture; threads may share it.

    Args:
        min_score: least certainty of a face, 0 to 1.
        any_turn: where no face is upright for sure, look for ones lying on a side or upside down.

    Source: YuNet, doi:10.1007/s11633-023-1423-y; the two sizes and the margin are ours.
    """

    def __init__(self, min_score: float = 0.7, *, any_turn: bool = True) -> None:
        self._turns = range(4) if any_turn else range(1)
        self._lock = threading.Lock()  # the network keeps the input's size between two calls
        path = str(assets() / "detectors" / MODEL)
        with _quiet():
            self._net = cv2.FaceDetectorYN.create(path, "", (320, 320), min_score, 0.3, _MAX_FACES)

    def __call__(self, image: Image.Image | np.ndarray) -> list[Face]:
        """The faces of an RGB picture, or (H, W, 3) uint8, the largest first."""
        rgb = np.asarray(image.convert("RGB") if isinstance(image, Image.Image) else image)
        height, width = rgb.shape[:2]
        # the largest that is looked at; every other size and turn is made from it
        bgr = _reduce(rgb, _LONG_SIDES[-1])[:, :, ::-1]
        factors = np.array([width / bgr.shape[1], height / bgr.shape[0]])
        best: tuple[float, int, list[Face]] = (0.0, 0, [])
        for turns in self._turns:
            found = self._upright(np.rot90(bgr, -turns))
            score = max((face.score for face in found), default=0.0)
            if score > best[0]:
                best = score, turns, found
            if best[0] >= _SURE:
                break
        _, turns, found = best
        turned = [_turn_back(face, turns, bgr.shape[1], bgr.shape[0]) for face in found]
        return sorted((_scaled(face, factors) for face in turned), key=lambda face: -face.area)

    def _upright(self, bgr: np.ndarray) -> list[Face]:
        found: list[Face] = []
        for side in _LONG_SIDES:
            for face in self._at_size(bgr, side):
                if all(_overlap(face, other) < _SAME_FACE for other in found):
                    found.append(face)
        return found

    def _at_size(self, bgr: np.ndarray, long_side: int) -> list[Face]:
        height, width = bgr.shape[:2]
        if long_side > _LONG_SIDES[0] and max(width, height) <= _LONG_SIDES[0]:
            return []  # seen whole at the first size
        small = _reduce(bgr, long_side)
        m = min(_MARGIN, max(small.shape) // 4)
        framed = cv2.copyMakeBorder(small, m, m, m, m, cv2.BORDER_CONSTANT, value=(127,) * 3)
        with self._lock, _quiet():
            self._net.setInputSize((framed.shape[1], framed.shape[0]))
            _, rows = self._net.detect(framed)
        factors = np.array([width / small.shape[1], height / small.shape[0]])
        found = [_face(row, m) for row in ([] if rows is None else rows)]
        return [_scaled(face, factors) for face in found]


def _reduce(pixels: np.ndarray, long_side: int) -> np.ndarray:
    """Make a picture smaller until its longer side is at most `long_side`."""
    height, width = pixels.shape[:2]
    scale = long_side / max(width, height)
    if scale >= 1:
        return pixels
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)


def _from_points(points: np.ndarray, score: float) -> Face:
    """A face from two opposite corners of its box and its landmarks, (7, 2)."""
    low, high = points[:2].min(axis=0).tolist(), points[:2].max(axis=0).tolist()
    landmarks = tuple((x, y) for x, y in points[2:].tolist())
    return Face((low[0], low[1], high[0], high[1]), landmarks, score)


def _points(face: Face) -> np.ndarray:
    return np.array([face.box[:2], face.box[2:], *face.landmarks])


def _face(row: np.ndarray, margin: int) -> Face:
    """A detector's row: box x, y, w, h, five points, score.

    Its points are continuous as ours: pixel i reaches from i to i + 1.
    """
    corners = np.array([row[:2], row[:2] + row[2:4]])
    return _from_points(np.vstack([corners, row[4:14].reshape(5, 2)]) - margin, float(row[14]))


def _scaled(face: Face, factors: np.ndarray) -> Face:
    return _from_points(_points(face) * factors, face.score)


def _turn_back(face: Face, turns: int, width: int, height: int) -> Face:
    """The face in the picture that was turned clockwise by `turns` quarters to find it."""
    points = _points(face)
    for turn in range(turns, 0, -1):
        was_height = height if turn % 2 else width  # before this quarter
        points = np.column_stack([points[:, 1], was_height - points[:, 0]])
    return _from_points(points, face.score)


def _overlap(one: Face, other: Face) -> float:
    """Intersection over the smaller of two boxes."""
    width = min(one.box[2], other.box[2]) - max(one.box[0], other.box[0])
    height = min(one.box[3], other.box[3]) - max(one.box[1], other.box[1])
    return max(0.0, width) * max(0.0, height) / max(1e-9, min(one.area, other.area))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep OpenCV's remarks about its own engines off standard error."""
    logging = getattr(cv2.utils, "logging", None)
    if logging is None:  # OpenCV 4 makes none
        yield
        return
    before = logging.getLogLevel()
    logging.setLogLevel(logging.LOG_LEVEL_ERROR)
    try:
        yield
    finally:
        logging.setLogLevel(before)
