"""Compression of a style file's tensors: integers of one step, as large as a bound on their error.

Learned changes are nearly of full rank (99% of a change's energy takes two thirds of its singular
values), so that rounding them costs less than leaving out directions. Their numbers are about
normally distributed, so that a Huffman code takes a bit less of each than one width for all;
docs/PERFORMANCE.md has the numbers. (Engineering choice.)
"""

from __future__ import annotations

import math
import zlib
from bisect import bisect_right
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MAX_ERROR = 0.05  # of a tensor's norm
SMALL = 1024  # tensors with fewer numbers, and vectors, stay float16
LARGEST = 32_000  # integers have one or two signed bytes
NUMBERS_PER_BYTE = 8  # at most: a Huffman code has at least one bit
RANGE = (1e-20, 1e30)  # of what is rounded, so that no step is 0 or infinite


Table = dict[str, dict[str, Any]]
"""Of every packed tensor its "shape", "step" and the "bytes" of an integer."""


def compress(tensors: Mapping[str, Tensor], max_error: float) -> tuple[dict[str, Tensor], Table]:
    """What is to be stored in place of `tensors`, and how to read it.

    Every packed tensor is rounded to integers times one step. Tensors that are such multiples
    already, as those read from a file are, keep their values.

    Args:
        max_error: bound of `|stored - tensor| / |tensor|` for each tensor, where two bytes can
            keep it; tensors for which they cannot stay float16. 0 packs nothing.

    Returns:
        Tensors: packed ones as (N,) uint8, zlib streams of their integers' low bytes and, where
        these do not suffice, high bytes after them; the others as float16. The table of the
        packed ones.
    """
    stored: dict[str, Tensor] = {}
    table: Table = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().float().cpu()
        packable = max_error > 0 and tensor.ndim > 1 and tensor.numel() >= SMALL
        step = _step(tensor.numpy(), max_error) if packable else None
        if step is None:
            stored[name] = tensor.half().contiguous()
            continue
        planes = _planes(np.rint(tensor.numpy() / np.float32(step)))
        stored[name] = torch.from_numpy(_deflate(planes))
        table[name] = {"step": step, "shape": list(tensor.shape), "bytes": len(planes)}
    return stored, table


def decompress(stored: Mapping[str, Tensor], table: Table) -> dict[str, Tensor]:
    """Inverse of `compress`: float32 tensors under their names.

    A stranger's file takes memory for at most `NUMBERS_PER_BYTE` numbers for every byte it has.

    Raises:
        ValueError, OverflowError: the table does not describe these tensors.
    """
    tensors = {k: v.float() for k, v in stored.items() if k not in table}
    missing = table.keys() - stored.keys()
    if missing:
        raise ValueError(f"{min(missing)} is not there")
    for name, entry in table.items():
        packed, shape = stored[name], [int(n) for n in entry["shape"]]
        if packed.dtype != torch.uint8 or packed.ndim != 1 or not 2 <= len(shape) <= 8:
            raise ValueError(f"{name} is not packed, or has no shape")
        if min(shape) < 1 or math.prod(shape) > NUMBERS_PER_BYTE * packed.numel():
            raise ValueError(f"{name} has too few bytes for its shape {shape}")
        numbers = _inflate(packed, math.prod(shape), int(entry["bytes"]))
        tensors[name] = (numbers * _checked(float(entry["step"]))).reshape(shape)
    return tensors


def _step(values: NDArray[np.float32], max_error: float) -> float | None:
    """The step to round to; None if integers are too small for the bound."""
    largest = float(np.abs(values).max())
    if largest == 0:
        return 1.0
    if not RANGE[0] < largest < RANGE[1]:
        return None
    step = _shared_step(values, largest) or _largest_step(values, largest, max_error)
    return step if largest <= LARGEST * step else None


def _shared_step(values: NDArray[np.float32], largest: float) -> float | None:
    """The step of which all values are multiples, if integers reach the largest."""
    unit = 2.0 ** (math.frexp(largest)[1] - 24)  # float32's last place at the largest value
    places = values.astype(np.float64) / unit
    if (places != np.rint(places)).any():
        return None
    step = float(np.gcd.reduce(places.astype(np.int64), axis=None)) * unit
    return step if largest <= LARGEST * step else None


def _largest_step(values: NDArray[np.float32], largest: float, max_error: float) -> float:
    """The largest step that keeps the bound, in bfloat16.

    Its 8 significant bits make integer times step exact in float32, so that `_shared_step` finds it
    again. The order of bfloat16 numbers is that of their bits, in which the step is searched.
    """

    def bits(number: float) -> int:
        return int(np.float32(number).view(np.uint32)) >> 16

    def step_of(bits: int) -> np.float32:
        return np.uint32(bits << 16).view(np.float32)

    def error(bits: int) -> float:
        step = step_of(bits)
        return norm(np.rint(values / step) * step - values)

    def norm(array: NDArray[np.float32]) -> float:
        # not BLAS, whose sums depend on the number of threads
        return math.sqrt(float(np.square(array, dtype=np.float64).sum()))

    bound = max_error * norm(values)
    # half a step in every number is surely within the bound; twice the largest rounds all to 0
    steps = range(bits(2 * bound / math.sqrt(values.size)), bits(2 * largest) + 1)
    return float(step_of(steps[0] + bisect_right(steps, bound, key=error) - 1))


def _planes(integers: NDArray[np.float32]) -> NDArray[np.int8]:
    """Signed low and high bytes, (2, N) int8; (1, N) where the high ones are all 0."""
    numbers = integers.astype(np.int32).ravel()
    low = numbers.astype(np.int8)
    high = ((numbers - low) >> 8).astype(np.int8)
    return np.stack([low, high] if high.any() else [low])


def _deflate(planes: NDArray[np.int8]) -> NDArray[np.uint8]:
    """A zlib stream without matches: they save 2%, and a reader would have to expect bombs."""
    coder = zlib.compressobj(9, zlib.DEFLATED, 15, 9, zlib.Z_HUFFMAN_ONLY)
    stream = coder.compress(planes.tobytes()) + coder.flush()
    return np.frombuffer(stream, np.uint8).copy()


def _inflate(packed: Tensor, count: int, width: int) -> Tensor:
    """Integers of `width` bytes, (count,) float32."""
    if width not in (1, 2):
        raise ValueError(f"integers of {width} bytes")
    stream = zlib.decompressobj()
    try:
        # one more than there may be, so that the end is read and a longer stream is seen
        found = stream.decompress(packed.numpy().tobytes(), width * count + 1)
    except zlib.error as error:
        raise ValueError(f"a damaged stream: {error}") from error
    if len(found) != width * count or not stream.eof or stream.unused_data:
        raise ValueError(f"a stream that does not hold exactly {count} numbers")
    planes = np.frombuffer(found, np.int8).reshape(width, count).astype(np.float32)
    return torch.from_numpy(planes[0] if width == 1 else planes[0] + 256 * planes[1])


def _checked(step: float) -> float:
    if not 0 < step < RANGE[1]:
        raise ValueError(f"a step of {step}")
    return step
