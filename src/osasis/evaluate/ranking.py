"""Ranking a folder of photos by density: resumable, with a sheet of both ends."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic

from PIL import Image

from osasis.errors import OsasisError
from osasis.evaluate.density import DensityRanker, DensityScore
from osasis.files import atomic_path
from osasis.imaging.load import load_image
from osasis.imaging.sheet import contact_sheet
from osasis.imaging.tensors import fit_square, to_images

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
        with atomic_path(self._partial) as temporary:
            temporary.write_text(json.dumps(content), encoding="utf-8")


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
    with atomic_path(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")
