"""Light and colours of photos: taken from one picture to another, lit and darkened."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue, BT.601
_BRIGHTEST = 1.0  # of their strength, colours reach where the result is lighter
_ONE_TINT = 0.01  # of white, mean deviation of colour less light, below which it is one tint
_DARK = 0.05  # luma below which a photo has no colour to speak of


def luma(pictures: Tensor) -> Tensor:
    """Light of pictures (B, 3, H, W): (B, 1, H, W), in their range."""
    weights = torch.tensor(LUMA, device=pictures.device)[:, None, None]
    return (pictures * weights).sum(1, keepdim=True)


def with_colors_of(photo: Tensor, drawn: Tensor) -> Tensor:
    """`drawn` with the colours of `photo`, both (B, 3, H, W) in [-1, 1]; luma stays `drawn`'s.

    Differences to grey are the photo's, less where the result is darker, so that shadows do not
    glow; clamped to [-1, 1].
    """
    own, light = (photo + 1) / 2, (drawn + 1) / 2
    own_luma, new_luma = luma(own), luma(light)
    scale = (new_luma / own_luma.clamp_min(_DARK)).clamp_max(_BRIGHTEST)
    return ((new_luma + scale * (own - own_luma)) * 2 - 1).clamp(-1, 1)


def tint_of(picture: Image.Image) -> tuple[float, float, float] | None:
    """The tint of a drawing in one: its mean colour less its light, in [-1, 1]; 0 of a grey one.

    None of a picture with several colours.
    """
    pixels = np.asarray(picture.convert("RGB"), dtype=np.float32) / 255
    colour = pixels - (pixels @ np.array(LUMA, dtype=np.float32))[..., None]
    red, green, blue = (float(mean) for mean in colour.mean((0, 1)))
    if np.abs(colour - (red, green, blue)).mean() >= _ONE_TINT:
        return None
    return red, green, blue


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
