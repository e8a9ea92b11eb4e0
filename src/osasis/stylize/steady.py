"""What keeps a film from flickering: a smooth path of the face, results carried along motion."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from osasis.errors import UserError
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


_TOLERANCE = 16.0  # levels by which a moved pixel may differ and still be the same thing


def motion(now: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Where each pixel of `now` was `before`, both (H, W, 3) uint8: (H, W, 2) in pixels.

    Source: Farneback 2003.
    """
    here, there = (cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY) for rgb in (now, before))
    start = np.zeros((*here.shape, 2), np.float32)
    return cv2.calcOpticalFlowFarneback(here, there, start, 0.5, 4, 15, 3, 5, 1.1, 0)


def carry(pixels: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Move (H, W) or (H, W, C) along `flow`, so that it fits the present frame."""
    rows, columns = np.indices(flow.shape[:2], dtype=np.float32)
    return cv2.remap(
        pixels,
        columns + flow[..., 0],
        rows + flow[..., 1],
        cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )


class Steady:
    """Averages results over time along the motion: a recursive average, less where it misleads.

    Frame t shows `w * carried + (1 - w) * result`, `carried` being what frame t - 1 showed, moved
    along the optical flow between the two squares before they were redrawn. `w` is `strength`
    where the squares agree after the motion, and falls to 0 where they do not: what was hidden, a
    blink, a cut. (Engineering choice. Averaging x_t0 in the same way made the flicker stronger,
    averaging z_sem did not change it.)

    Args:
        strength: share of the past in [0, 1); 0 leaves every frame to itself.
    """

    def __init__(self, strength: float) -> None:
        if not 0 <= strength < 1:
            raise UserError(f"steadiness must lie in [0, 1), got {strength}")
        self._strength = strength
        self._past: tuple[np.ndarray, np.ndarray] | None = None  # before, after

    def reset(self) -> None:
        """Forget the past: another shot begins."""
        self._past = None

    def __call__(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """The next frame's square, made steady.

        Args:
            before, after: (S, S, 3) uint8, before and after it was redrawn.

        Returns:
            (S, S, 3) uint8.
        """
        result = after.astype(np.float32)
        if self._past is not None and self._strength:
            before_past, shown = self._past
            flow = motion(before, before_past)
            miss = before.astype(np.float32) - carry(before_past.astype(np.float32), flow)
            # noise does not count, displacement does
            miss = np.abs(cv2.GaussianBlur(miss, (0, 0), 2.0)).max(axis=2)
            share = self._strength * np.exp(-((miss / _TOLERANCE) ** 2))
            result += share[..., None] * (carry(shown, flow) - result)
        self._past = before, result
        return np.rint(result.clip(0, 255)).astype(np.uint8)
