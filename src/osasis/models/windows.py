"""Large maps in windows that overlap, for networks that look at all they are given."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

OVERLAP = 0.25  # of a window, shared with the next one at least


def blended(
    work: Callable[[slice, slice], Tensor], height: int, width: int, side: int, scale: int = 1
) -> Tensor:
    """`work` on windows of places (rows, columns), added up by weights of sin^2.

    Memory is that of a window beside the whole result. Where windows agree the result is that of
    the whole; else one runs into the next, without a step.

    Args:
        work: gives (B, C, scale * rows, scale * columns) of a window.
        height, width: of the whole, in places.
        side: of a window; what is no larger is done at once.
        scale: places of the result along a side of one place.
    """
    rows, columns = _windows(height, side), _windows(width, side)
    if len(rows) == len(columns) == 1:
        return work(rows[0], columns[0])
    total = weights = torch.empty(0)
    for down in rows:
        for across in columns:
            part = work(down, across)
            y, x = (slice(scale * w.start, scale * w.stop) for w in (down, across))
            if not total.numel():
                shape = (scale * height, scale * width)
                total = part.new_zeros((*part.shape[:2], *shape))
                weights = part.new_zeros(shape)
            weight = _weights(part)
            total[:, :, y, x] += part * weight
            weights[y, x] += weight
    return total / weights


def _windows(length: int, side: int) -> list[slice]:
    """Windows that cover `length` evenly."""
    if length <= side:
        return [slice(0, length)]
    count = 1 + math.ceil((length - side) / (side * (1 - OVERLAP)))
    starts = [round(i * (length - side) / (count - 1)) for i in range(count)]
    return [slice(start, start + side) for start in starts]


def _weights(part: Tensor) -> Tensor:
    """(H, W) of a window, above 0."""
    y, x = (
        torch.sin((torch.arange(n, device=part.device) + 0.5) * (math.pi / n)).square()
        for n in part.shape[2:]
    )
    return (y[:, None] * x).to(part.dtype)
