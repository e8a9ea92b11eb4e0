"""One face followed through a film."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from osasis.imaging.faces import Face

Landmarks = np.ndarray  # (5, 2)


@dataclass(frozen=True)
class Shot:
    """Frames in a row in which the face is followed.

    Attributes:
        first: number of the first frame.
        landmarks: (frames, 5, 2).
    """

    first: int
    landmarks: np.ndarray


def follow(frames: Iterable[Sequence[Face]], *, longest_gap: int) -> list[Shot]:
    """Follow the largest face; a shot ends where it is lost for long, or jumps.

    Args:
        frames: the faces of each frame, the largest first.
        longest_gap: frames without the face that are bridged along a straight line.
    """
    shots: list[list[tuple[int, Landmarks]]] = []
    for number, faces in enumerate(frames):
        if not faces:
            continue
        last = shots[-1][-1] if shots else None
        near = None
        if last is not None and number - last[0] <= longest_gap + 1:
            near = min((np.array(f.landmarks) for f in faces), key=lambda p: _distance(p, last[1]))
            near = near if _distance(near, last[1]) < 1 else None
        if near is None:
            shots.append([(number, np.array(faces[0].landmarks))])
        else:
            shots[-1].append((number, near))
    return [_fill(shot) for shot in shots]


def smooth(landmarks: np.ndarray, sigma: float) -> np.ndarray:
    """Smooth (frames, ...) over time without delay: straight lines fitted with Gaussian weights.

    Motion at constant speed is kept exactly, at both ends too.

    Args:
        sigma: of the weights, in frames; 0 changes nothing.
    """
    if sigma <= 0 or len(landmarks) < 3:
        return landmarks
    times = np.arange(len(landmarks), dtype=float)
    flat = landmarks.reshape(len(landmarks), -1)
    out = np.empty_like(flat)
    for i in range(len(flat)):
        window = slice(max(0, i - int(4 * sigma) - 1), i + int(4 * sigma) + 2)
        t = times[window] - times[i]
        line = np.column_stack([np.ones_like(t), t])
        weights = np.exp(-(t**2) / (2 * sigma**2))[:, None]
        out[i] = np.linalg.lstsq(line * weights**0.5, flat[window] * weights**0.5, rcond=None)[0][0]
    return out.reshape(landmarks.shape)


def _distance(one: Landmarks, other: Landmarks) -> float:
    """Between two faces' middles, in sizes of the smaller."""
    sizes = [float(np.ptp(points, axis=0).max()) for points in (one, other)]
    return float(np.hypot(*(one.mean(axis=0) - other.mean(axis=0)))) / max(1e-9, min(sizes))


def _fill(shot: Sequence[tuple[int, Landmarks]]) -> Shot:
    numbers = [number for number, _ in shot]
    points = np.array([p for _, p in shot]).reshape(len(shot), 10)
    every = np.arange(numbers[0], numbers[-1] + 1)
    filled = np.column_stack([np.interp(every, numbers, column) for column in points.T])
    return Shot(numbers[0], filled.reshape(-1, 5, 2))
