"""Which photos are hard: their scores, and a resumable ranking of a folder."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from osasis.diffusion.noise import SeededNoise
from osasis.errors import OsasisError
from osasis.files import write_text
from osasis.imaging.load import load_image
from osasis.imaging.sheet import contact_sheet
from osasis.imaging.tensors import fit_square, to_images, to_tensor
from osasis.perception.lpips import Lpips
from osasis.pretrain.probes import area_under_curve

if TYPE_CHECKING:
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
    """Reconstructions of photos, full or stochastic (DiffAE, 2111.15640, section 5).

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


SAVE_SECONDS = 20.0
SHEET_PHOTOS = 8  # of each end


@dataclass(frozen=True)
class Ranked:
    """A photo with its score; `hard` says that it was expected to be of low density."""

    photo: Path
    score: DensityScore
    hard: bool = False


class Ranking:
    """Scores photos one by one and keeps the scores on disk, so that it can be stopped.

    Args:
        ranker: what scores them.
        partial: file of the scores so far; removed by `finish`.
    """

    def __init__(self, ranker: DensityRanker, partial: Path) -> None:
        self._ranker, self._partial = ranker, partial
        self._known: dict[str, dict[str, float]] = self._read()
        self.bad: list[tuple[Path, OsasisError]] = []

    def score(self, photos: Sequence[Path], hard: Sequence[Path] = ()) -> Iterator[Ranked | None]:
        """Score photos, and those expected to be hard; None for one that cannot be read."""
        saved = monotonic()
        try:
            for path, is_hard in [(p, False) for p in photos] + [(p, True) for p in hard]:
                try:
                    picture = self._picture(path)
                except OsasisError as error:
                    self.bad.append((path, error))
                    yield None
                    continue
                key = hashlib.sha256(picture.tobytes()).hexdigest()
                if key not in self._known:
                    self._known[key] = asdict(self._ranker(picture))
                yield Ranked(path, DensityScore(**self._known[key]), is_hard)
                if monotonic() - saved > SAVE_SECONDS:
                    self._write()
                    saved = monotonic()
        finally:
            self._write()

    def sheet(self, ranked: Sequence[Ranked]) -> Image.Image:
        """Both ends of a ranking, hardest first: photo, full and stochastic reconstruction."""
        ends = ends_of(ranked, SHEET_PHOTOS)
        columns = []
        for entry in ends:
            picture = self._picture(entry.photo)
            full, stochastic = self._ranker.shown(picture)
            columns.append([picture, to_images(full)[0], to_images(stochastic)[0]])
        return contact_sheet(
            [list(row) for row in zip(*columns, strict=True)],
            column_titles=[f"{e.score.stochastic:.3f}" for e in ends],
            row_titles=["photo", "full", "stochastic"],
            cell=128,
        )

    def finish(self) -> None:
        """The ranking has been written: remove the partial file."""
        self._partial.unlink(missing_ok=True)

    def _picture(self, path: Path) -> Image.Image:
        return fit_square(load_image(path), self._ranker.base.image_size)

    def _read(self) -> dict[str, dict[str, float]]:
        try:
            content = json.loads(self._partial.read_text(encoding="utf-8"))
            known: dict[str, dict[str, float]] = content["scores"]
            return known if content["identity"] == self._ranker.identity() else {}
        except (OSError, ValueError, KeyError, TypeError):
            return {}  # nothing there, or of another base or setting: begin anew

    def _write(self) -> None:
        content = {"identity": self._ranker.identity(), "scores": self._known}
        write_text(self._partial, json.dumps(content))


def ends_of(ranked: Sequence[Ranked], count: int) -> list[Ranked]:
    """The `count` hardest and the `count` easiest of a sorted ranking, or all if they are fewer."""
    if len(ranked) <= 2 * count:
        return list(ranked)
    return [*ranked[:count], *ranked[-count:]]


def write_ranking(path: Path, ranked: Sequence[Ranked], ranks: Sequence[int]) -> None:
    """Write the ranking as CSV, at once or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["rank", "photo", "stochastic_lpips", "spread", "full_lpips", "expected_hard"])
    for rank, entry in zip(ranks, ranked, strict=True):
        s = entry.score
        numbers = [f"{x:.6f}" for x in (s.stochastic, s.spread, s.full)]
        writer.writerow([rank, entry.photo, *numbers, int(entry.hard)])
    write_text(path, text.getvalue())
