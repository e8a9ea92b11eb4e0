"""Pictures to tensors and back."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from osasis.errors import OsasisError


def fit_square(image: Image.Image, size: int) -> Image.Image:
    """Cut out the central square and resize it (Lanczos) to `size` x `size`, RGB 8 bit.

    Source: engineering choice; the released program squashes instead.

    Raises:
        ValueError: `size` is not positive.
    """
    if size < 1:
        raise ValueError(f"size must be positive, got {size}")
    rgb = image.convert("RGB")
    if rgb.size == (size, size):
        return rgb.copy()
    side = min(rgb.size)
    left, top = (rgb.width - side) // 2, (rgb.height - side) // 2
    box = (left, top, left + side, top + side)
    # Cropped first: resizing with a box would let pixels from outside it into the edges.
    return rgb.crop(box).resize((size, size), Image.Resampling.LANCZOS)


def to_tensor(image: Image.Image) -> Tensor:
    """Turn a picture into a (1, 3, H, W) float32 tensor in [-1, 1], on the CPU.

    Source: engineering choice; 0 maps to -1 and 255 to 1.
    """
    pixels = np.array(image.convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float().div(127.5).sub(1).contiguous()


def to_images(x: Tensor) -> list[Image.Image]:
    """Turn (B, 3, H, W) in [-1, 1], any float dtype and device, into B RGB pictures of 8 bits.

    Values outside are clamped, the rest rounded to the nearest level, so that
    `to_images(to_tensor(image))` gives the same pixels back. Source: engineering choice.

    Raises:
        ValueError: `x` is not (B, 3, H, W).
        OsasisError: `x` holds values that are not numbers.
    """
    if x.ndim != 4 or x.shape[1] != 3:
        raise ValueError(f"expected a tensor (B, 3, H, W), got {tuple(x.shape)}")
    values = x.detach().float().cpu()
    if bool(values.isnan().any()):
        raise OsasisError(
            "the picture holds values that are not numbers (NaN)",
            hint="compute in float32, or use a lower learning rate",
        )
    levels = values.clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
    return [Image.fromarray(p) for p in levels.permute(0, 2, 3, 1).contiguous().numpy()]
