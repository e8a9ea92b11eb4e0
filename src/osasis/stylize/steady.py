"""What keeps a film from flickering: results carried along the motion of what is seen."""

from __future__ import annotations

import cv2
import numpy as np

from osasis.errors import UserError

_TOLERANCE = 16.0  # levels by which a moved pixel may differ and still be the same thing


def to_gray(rgb: np.ndarray) -> np.ndarray:
    """(H, W) uint8 of (H, W, 3) uint8."""
    return cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)


def motion(now: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Where each pixel of `now` was `before`, (H, W, 2) in pixels (Farneback 2003); gray uint8."""
    start = np.zeros((*now.shape, 2), np.float32)
    return cv2.calcOpticalFlowFarneback(now, before, start, 0.5, 4, 15, 3, 5, 1.1, 0)


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
            flow = motion(to_gray(before), to_gray(before_past))
            miss = before.astype(np.float32) - carry(before_past.astype(np.float32), flow)
            # noise does not count, displacement does
            miss = np.abs(cv2.GaussianBlur(miss, (0, 0), 2.0)).max(axis=2)
            share = self._strength * np.exp(-((miss / _TOLERANCE) ** 2))
            result += share[..., None] * (carry(shown, flow) - result)
        self._past = before, result
        return np.rint(result.clip(0, 255)).astype(np.uint8)
