"""Compression of a style file's tensors: the fewest bits that keep a bound on their error.

Learned changes are nearly of full rank (99% of a change's energy takes two thirds of its singular
values), so that rounding them costs less than leaving out directions; docs/PERFORMANCE.md has the
numbers. (Engineering choice.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

MAX_ERROR = 0.05  # of a tensor's norm
BITS = range(2, 9)  # tried in this order
EXACT = 1e-6  # relative error that float32 arithmetic leaves
SMALL = 1024  # tensors with fewer numbers, and vectors, stay float16
SCALE = ".scale"  # behind a packed tensor's name

Table = dict[str, dict[str, Any]]
"""Of every packed tensor its "bits" and "shape"."""


def compress(tensors: Mapping[str, Tensor], max_error: float) -> tuple[dict[str, Tensor], Table]:
    """What is to be stored in place of `tensors`, and how to read it.

    Every row (the first axis) of a packed tensor is rounded to `2^bits - 1` equal steps between
    plus and minus its largest number. Values are stored bit plane by bit plane.

    Args:
        max_error: bound of `|stored - tensor| / |tensor|` for each tensor, where 8 bits can keep
            it; tensors for which they cannot stay float16. 0 packs nothing.

    Returns:
        Tensors: packed ones as (N,) uint8 with their scales, (rows,) float32, beside them, and the
        others as float16. The table of the packed ones.
    """
    stored: dict[str, Tensor] = {}
    table: Table = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().float().cpu()
        found = _round(tensor, max_error) if tensor.ndim > 1 and tensor.numel() >= SMALL else None
        if found is None:
            stored[name] = tensor.half().contiguous()
            continue
        bits, values, scale = found
        stored[name], stored[name + SCALE] = _pack(values, bits), scale
        table[name] = {"bits": bits, "shape": list(tensor.shape)}
    return stored, table


def decompress(stored: Mapping[str, Tensor], table: Table) -> dict[str, Tensor]:
    """Inverse of `compress`: float32 tensors under their names.

    Raises:
        ValueError: the table does not describe these tensors.
    """
    scales = {name + SCALE for name in table}
    tensors = {k: v.float() for k, v in stored.items() if k not in table and k not in scales}
    for name, entry in table.items():
        if name not in stored or name + SCALE not in stored:
            raise ValueError(f"{name} is not there")
        bits, shape = int(entry["bits"]), [int(n) for n in entry["shape"]]
        packed, scale = stored[name], stored[name + SCALE]
        rows, count = (shape or [0])[0], math.prod(shape)
        fits = bits in BITS and min(shape, default=0) > 0 and tuple(scale.shape) == (rows,)
        if not fits or packed.dtype != torch.uint8 or packed.shape != (bits * _bytes(count),):
            raise ValueError(f"{name} does not fit its shape {shape} at {bits} bits")
        values = _unpack(packed, bits, count).reshape(rows, -1)
        tensors[name] = (values * scale.float()[:, None]).reshape(shape)
    return tensors


def _round(tensor: Tensor, max_error: float) -> tuple[int, Tensor, Tensor] | None:
    """Bits, integers of 0 .. 2^bits - 2 (rows, N) and scales (rows,); None if 8 are too few.

    A tensor that is exact at some number of bits, such as one that was read from a file, keeps it.
    """
    rows = tensor.flatten(1)
    largest = rows.abs().amax(1)
    norm = rows.norm()
    found: tuple[int, Tensor, Tensor] | None = None
    for bits in BITS if max_error > 0 else ():
        steps = 2 ** (bits - 1) - 1
        scale = largest / steps
        divisor = torch.where(scale > 0, scale, torch.ones_like(scale))[:, None]
        integers = (rows / divisor).round().clamp(-steps, steps)
        error = (integers * scale[:, None] - rows).norm()
        if error <= EXACT * norm or (found is None and error <= max_error * norm):
            found = bits, integers + steps, scale
        if error <= EXACT * norm:
            break
    return found


def _bytes(count: int) -> int:
    return -(-count // 8)


def _pack(values: Tensor, bits: int) -> Tensor:
    flat = values.flatten().to(torch.uint8).numpy()
    planes = [np.packbits((flat >> bit) & 1) for bit in range(bits)]
    return torch.from_numpy(np.concatenate(planes))


def _unpack(packed: Tensor, bits: int, count: int) -> Tensor:
    planes = np.unpackbits(packed.numpy().reshape(bits, -1), axis=1, count=count)
    values = np.zeros(count, np.uint8)
    for bit, plane in enumerate(planes):
        values |= plane << bit
    steps = 2 ** (bits - 1) - 1
    return torch.from_numpy(values).float() - steps
