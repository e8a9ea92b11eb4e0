"""Structure as what resembles what: self-similarity of features (Splice, 2201.00424)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def self_similarity(features: Tensor) -> Tensor:
    """Cosines of all pairs of positions, (B, n, n), of features (B, n, d) (Splice, Eq. 4)."""
    unit = F.normalize(features.float(), dim=2, eps=1e-8)
    return unit @ unit.transpose(1, 2)


def structure_distance(x: Tensor, y: Tensor) -> Tensor:
    """Mean squared difference of the self-similarities of two (B, n, d) features: (B,)."""
    return (self_similarity(x) - self_similarity(y)).square().mean(dim=(1, 2))


def cosine_distance(x: Tensor, y: Tensor) -> Tensor:
    """`1 - cos(x, y)` over the last axis; the others broadcast."""
    return 1 - F.cosine_similarity(x, y, dim=-1)
