"""Large maps in parts: tiles where what looks no further than so far is the same, else windows."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

OVERLAP = 0.25  # of a window, shared with the next one at least


Work = Callable[[slice, slice], Tensor]
"""(B, C, scale * rows, scale * columns) of some rows and columns of places."""


def in_tiles(work: Work, height: int, width: int, side: int, margin: int, scale: int = 1) -> Tensor:
    """`work` on tiles with a margin, put together without it.

    Args:
        height, width: of the whole, in places.
        side: of a tile; what is no larger is done at once.
        margin: places that `work` looks to each side.
        scale: places of the result along a side of one place.
    """
    if max(height, width) <= side:
        return work(slice(0, height), slice(0, width))
    rows = []
    for top in range(0, height, side):
        row = []
        for left in range(0, width, side):
            down, core_y = _with_margin(top, height, side, margin)
            across, core_x = _with_margin(left, width, side, margin)
            row.append(work(down, across)[:, :, scaled(core_y, scale), scaled(core_x, scale)])
        rows.append(torch.cat(row, dim=3))
    return torch.cat(rows, dim=2)


def scaled(places: slice, scale: int) -> slice:
    """The same part of what has `scale` places for one."""
    return slice(scale * places.start, scale * places.stop)


def _with_margin(start: int, length: int, side: int, margin: int) -> tuple[slice, slice]:
    """A tile with its margin, and where in that the tile lies."""
    stop = min(start + side, length)
    first = max(0, start - margin)
    return slice(first, min(length, stop + margin)), slice(start - first, stop - first)


def blended(work: Work, height: int, width: int, side: int, scale: int = 1) -> Tensor:
    """`work` on windows of places (rows, columns), added up by weights of sin^2.

    Memory is that of a window beside the whole result. Where windows agree the result is that of
    the whole; else one runs into the next, without a step.

    Args:
        height, width, scale: as in `in_tiles`.
        side: of a window; what is no larger is done at once.
    """
    rows, columns = _windows(height, side), _windows(width, side)
    if len(rows) == len(columns) == 1:
        return work(rows[0], columns[0])
    total = weights = torch.empty(0)
    for down in rows:
        for across in columns:
            part = work(down, across)
            y, x = scaled(down, scale), scaled(across, scale)
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
