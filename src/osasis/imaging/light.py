"""Photos in little light: drawn as if they were lit, and darkened again."""

from __future__ import annotations

import numpy as np

from osasis.imaging.colors import LUMA

_LIT = 0.4  # of white, that the lighter quarter of a photo's middle has at least in good light
_MOST = 8.0  # gain
_KNEE = 0.8  # of white; what becomes lighter is compressed, so that nothing is clipped


def exposure(square: np.ndarray) -> float:
    """The gain that brings a square to good light: 1 where it is lit, at most `_MOST`.

    Styles draw the light of their painting: a face in the dark would glow. (Engineering choice.)

    Args:
        square: (H, W, 3) uint8.
    """
    height, width = square.shape[:2]
    middle = square[height // 4 : -(height // 4) or None, width // 4 : -(width // 4) or None]
    found = float(np.percentile(middle @ LUMA, 75)) / 255
    return min(_MOST, max(1.0, _LIT / max(found, 1e-3)))


def lit(pixels: np.ndarray, gain: float) -> np.ndarray:
    """uint8 pixels times a gain of 1 or more, what becomes very light compressed below white."""
    return _through(pixels, gain, back=False)


def darkened(pixels: np.ndarray, gain: float) -> np.ndarray:
    """The way back from `lit`."""
    return _through(pixels, gain, back=True)


def _through(pixels: np.ndarray, gain: float, *, back: bool) -> np.ndarray:
    if gain == 1:
        return pixels
    before, after = np.array([0, _KNEE / gain, 1]), np.array([0, _KNEE, 1])
    known, wanted = (after, before) if back else (before, after)
    table = np.interp(np.arange(256) / 255, known, wanted)
    return np.rint(255 * table).astype(np.uint8)[pixels]
