"""Finding faces: YuNet through OpenCV."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from osasis.config.catalogue import assets

MODEL = "face_detection_yunet_2023mar.onnx"
# YuNet sees faces of about 10 to 300 pixels, so that big and small ones need different sizes
_LONG_SIDES = (320, 1280)
# what is larger is searched as it is too, in tiles; a face of up to the overlap lies whole in one
_TILE, _OVERLAP = 1280, 160
_TURNED_SIDE = 640  # at which faces are looked for that lie
# around the picture, in pixels: faces that fill it are missed without
_MARGIN = 80
_SAME_FACE = 0.4  # boxes of one scale and another that overlap by more are one face
_MAX_BOXES = 20_000  # of one search, before boxes of the same face are merged: no limit in effect
_LEAST = 0.7  # certainty of what is taken for a face at all
_LIKELY = 0.8  # certainty of what is said to be a doubtful face; below it are many a cushion
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
        any_turn: also find faces that lie on a side or upside down.

    Source: YuNet, doi:10.1007/s11633-023-1423-y; sizes, tiles, turns and the margin are ours.
    """

    def __init__(self, *, any_turn: bool = True) -> None:
        self._turns = range(1, 4) if any_turn else range(0)
        self._lock = threading.Lock()  # the network keeps the input's size between two calls
        # as bytes: on Windows OpenCV finds no file below a folder with other letters than ASCII's
        model = np.frombuffer((assets() / "detectors" / MODEL).read_bytes(), np.uint8)
        with _quiet():
            self._net = cv2.FaceDetectorYN.create(
                "onnx", model, np.empty(0, np.uint8), (320, 320), _LEAST, 0.3, _MAX_BOXES
            )

    def __call__(self, image: Image.Image | np.ndarray) -> list[Face]:
        """The faces of an RGB picture, or (H, W, 3) uint8, the largest first.

        Each is there once, in the direction in which it is surest.
        """
        return self.search(image)[0]

    def search(self, image: Image.Image | np.ndarray) -> tuple[list[Face], list[Face]]:
        """The faces, and those that are too doubtful to be redrawn; see calling."""
        rgb = np.asarray(image.convert("RGB") if isinstance(image, Image.Image) else image)
        height, width = rgb.shape[:2]
        bgr = _reduce(rgb, _LONG_SIDES[-1])[:, :, ::-1]
        factors = np.array([width / bgr.shape[1], height / bgr.shape[0]])
        upright = [_scaled(face, factors) for face in self._upright(bgr)]
        directions = [_merged(upright, self._in_tiles(rgb))]
        lower = _reduce(bgr, _TURNED_SIDE)
        low = np.array([width / lower.shape[1], height / lower.shape[0]])
        for turns in self._turns:
            found = self._detect(np.ascontiguousarray(np.rot90(lower, -turns)))
            back = [_turn_back(face, turns, lower.shape[1], lower.shape[0]) for face in found]
            directions.append([_scaled(face, low) for face in back])
        return judged(directions)

    def _upright(self, bgr: np.ndarray) -> list[Face]:
        """Faces of a picture of at most the largest size."""
        found: list[Face] = []
        for side in _LONG_SIDES:
            if side > _LONG_SIDES[0] and max(bgr.shape) <= _LONG_SIDES[0]:
                break  # seen whole at the first size
            small = _reduce(bgr, side)
            factors = np.array([bgr.shape[1] / small.shape[1], bgr.shape[0] / small.shape[0]])
            found = _merged(found, [_scaled(face, factors) for face in self._detect(small)])
        return found

    def _in_tiles(self, rgb: np.ndarray) -> list[Face]:
        """Faces up to `_OVERLAP` of a picture that is larger than the largest size."""
        height, width = rgb.shape[:2]
        if max(height, width) <= _LONG_SIDES[-1]:
            return []
        found: list[Face] = []
        for top in _starts(height):
            for left in _starts(width):
                tile = np.ascontiguousarray(rgb[top : top + _TILE, left : left + _TILE, ::-1])
                for face in self._detect(tile, margin=0):
                    points = _points(face)
                    if np.ptp(points[:2], axis=0).max() <= _OVERLAP:
                        found.append(_from_points(points + (left, top), face.score))
        return _surest(found)

    def _detect(self, bgr: np.ndarray, margin: int = _MARGIN) -> list[Face]:
        m = min(margin, max(bgr.shape) // 4)
        framed = cv2.copyMakeBorder(bgr, m, m, m, m, cv2.BORDER_CONSTANT, value=(127,) * 3)
        with self._lock, _quiet():
            self._net.setInputSize((framed.shape[1], framed.shape[0]))
            _, rows = self._net.detect(framed)
        return [_face(row, m) for row in ([] if rows is None else rows)]


def _starts(length: int) -> list[int]:
    """Where tiles begin that cover `length` evenly and overlap by at least `_OVERLAP`."""
    count = max(1, -(-(length - _OVERLAP) // (_TILE - _OVERLAP)))
    last = max(0, length - _TILE)
    return [round(last * i / max(1, count - 1)) for i in range(count)]


def _merged(found: list[Face], more: list[Face]) -> list[Face]:
    """`found`, and those of `more` that are not among them."""
    return found + [f for f in more if all(_overlap(f, other) < _SAME_FACE for other in found)]


def _surest(faces: list[Face]) -> list[Face]:
    """Of boxes that are one face, the surest."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: -face.score):
        kept = _merged(kept, [face])
    return kept


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


def judged(directions: list[list[Face]]) -> tuple[list[Face], list[Face]]:
    """Of the faces of each direction, upright first: those to believe, and doubtful ones."""
    believed = sorted(_believed(directions), key=lambda face: -face.area)
    others = [face for faces in directions for face in faces if face.score >= _LIKELY]
    return believed, _merged(believed, _surest(others))[len(believed) :]


def _believed(directions: list[list[Face]]) -> list[Face]:
    """The faces of the surest direction, and of others those that are sure.

    Upright is the surest where it has any sure face: doubtful ones are then small, not turned.
    """
    surest = max(directions, key=lambda faces: max((f.score for f in faces), default=0.0))
    if any(face.score >= _SURE for face in directions[0]):
        surest = directions[0]
    others = [f for faces in directions if faces is not surest for f in faces if f.score >= _SURE]
    return _surest([*surest, *others])


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
