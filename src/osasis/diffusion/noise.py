"""Noise that depends on a picture's own seed and not on its batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class SeededNoise:
    """One generator per sample (after edm2's StackedRandomGenerator).

    The generators live on the CPU, so that a seed means the same on every device.

    Args:
        seeds: one seed per sample.
        shape: shape of one sample.
        device: where the noise is wanted.
    """

    def __init__(self, seeds: Sequence[int], shape: Sequence[int], device: torch.device) -> None:
        self._generators = [torch.Generator().manual_seed(int(s)) for s in seeds]
        self._shape = tuple(shape)
        self._device = device

    def __call__(self) -> Tensor:
        """Fresh standard normal noise, (len(seeds), *shape) float32."""
        drawn = [torch.randn(self._shape, generator=g) for g in self._generators]
        return torch.stack(drawn).to(self._device)
