"""Which photos are hard: stochastic against full reconstruction (METHOD 5)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from osasis.diffusion.noise import SeededNoise
from osasis.imaging.tensors import to_tensor
from osasis.perception.lpips import Lpips
from osasis.pretrain.probes import area_under_curve

if TYPE_CHECKING:
    from PIL import Image

    from osasis.base import Base

WHOLE = 1000  # timestep of pure noise
RESAMPLES = 1000  # of the interval of an AUC


@dataclass(frozen=True)
class DensityScore:
    """How hard a photo is for a base.

    Attributes:
        stochastic: mean LPIPS of the photo to reconstructions from its code and fresh noise; the
            ranking's score, high where the code alone does not hold what is in the photo.
        spread: standard deviation over the draws.
        full: LPIPS to the reconstruction from code and inverted noise.
    """

    stochastic: float
    spread: float
    full: float


@torch.no_grad()
def reconstruct(
    base: Base, x0: Tensor, steps: int, *, seeds: Sequence[int] | None, t0: int = WHOLE
) -> Tensor:
    """Reconstructions of photos, full or stochastic (DiffAE, 2111.15640, section 5; METHOD 5).

    Args:
        x0: (B, 3, H, W) in [-1, 1], of the base's size.
        steps: DDIM steps of the whole schedule.
        seeds: one per photo for fresh noise; None inverts the photo instead.
        t0: timestep of the turn; fresh noise belongs at the end of the schedule.

    Returns:
        (B, 3, H, W), clamped to [-1, 1].
    """
    z_sem = base.encode(x0)
    if seeds is None:
        x_t = base.invert(x0, z_sem, t0, steps)
    else:
        x_t = SeededNoise(seeds, base.x0_shape, base.device)()
    return base.decode(x_t, z_sem, t0, steps).clamp(-1, 1)


class DensityRanker:
    """Scores photos. A photo's score depends on its pixels alone, not on the others.

    Args:
        base: the photo domain.
        lpips: the distance.
        draws: noise draws per photo; their seeds come from the photo's pixels and `seed`.
        steps: DDIM steps.
        seed: seed of the draws.
    """

    def __init__(
        self, base: Base, lpips: Lpips, *, draws: int = 4, steps: int = 20, seed: int = 0
    ) -> None:
        self.base, self.lpips = base, lpips
        self.draws, self.steps, self.seed = draws, steps, seed

    def identity(self) -> str:
        """What scores depend on besides the photo."""
        return f"{self.base.hash}:{self.lpips.name}:{self.draws}:{self.steps}:{self.seed}"

    def __call__(self, photo: Image.Image) -> DensityScore:
        """Score an RGB picture of the base's size."""
        x0 = to_tensor(photo).to(self.base.device)
        repeated = x0.expand(self.draws, -1, -1, -1)
        drawn = reconstruct(self.base, repeated, self.steps, seeds=self._seeds(photo))
        full = reconstruct(self.base, x0, self.steps, seeds=None)
        with torch.no_grad():
            distances = self.lpips(drawn, x0).cpu().numpy()
            whole = float(self.lpips(full, x0))
        return DensityScore(float(distances.mean()), float(distances.std()), whole)

    def shown(self, photo: Image.Image) -> tuple[Tensor, Tensor]:
        """The full and the first stochastic reconstruction, (1, 3, H, W) each."""
        x0 = to_tensor(photo).to(self.base.device)
        return (
            reconstruct(self.base, x0, self.steps, seeds=None),
            reconstruct(self.base, x0, self.steps, seeds=self._seeds(photo)[:1]),
        )

    def _seeds(self, photo: Image.Image) -> list[int]:
        first = int.from_bytes(hashlib.sha256(photo.tobytes()).digest()[:6], "big") + self.seed
        return [first + i for i in range(self.draws)]


def auc_interval(positive: Sequence[float], negative: Sequence[float]) -> tuple[float, float]:
    """95% percentile bootstrap interval of `area_under_curve`; the same for the same scores."""
    rng = np.random.default_rng(0)
    p, n = np.asarray(positive), np.asarray(negative)

    def draws() -> Iterator[float]:
        for _ in range(RESAMPLES):
            yield area_under_curve(rng.choice(p, len(p)).tolist(), rng.choice(n, len(n)).tolist())

    low, high = np.quantile(list(draws()), [0.025, 0.975])
    return float(low), float(high)
