"""What every embedder offers."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Embedder(Protocol):
    """A frozen map from pictures to vectors, differentiable with respect to the pictures.

    Attributes:
        name: what `get_embedder` takes, and what is recorded in style files.
        dim: length of one vector.
    """

    name: str
    dim: int

    def __call__(self, x: Tensor) -> Tensor:
        """Embed (B, 3, H, W) float pictures in [-1, 1] as (B, dim) float32 vectors."""
        ...
