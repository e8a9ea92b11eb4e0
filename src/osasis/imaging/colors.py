"""Colours of one picture on the light of another."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue, BT.601
_BRIGHTEST = 1.0  # of their strength, colours reach where the result is lighter
_GREY = 0.01  # of white, between the channels of a picture, below which it has no colours
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


def is_grey(picture: Image.Image) -> bool:
    """Whether a picture has no colours to speak of."""
    pixels = np.asarray(picture.convert("RGB"), dtype=np.float32) / 255
    return float(np.ptp(pixels, axis=2).mean()) < _GREY
