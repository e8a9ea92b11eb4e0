"""What a run leaves for people: lines of JSON, curves of TensorBoard, sheets of pictures."""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from osasis.base import Base
from osasis.diffusion.noise import SeededNoise
from osasis.diffusion.sample import ddim
from osasis.diffusion.schedule import TimestepGrid
from osasis.files import write_text
from osasis.imaging.sheet import contact_sheet
from osasis.imaging.tensors import to_images
from osasis.models.conditioning import Conditioning
from osasis.pretrain.processes import Processes
from osasis.pretrain.train import TrainRecord

LOG = "log.jsonl"
CURVES = "tensorboard"
CURVES_OF = ("loss", "learning_rate", "images_per_second")
SECONDS = 10.0  # between two lines


class RunLog:
    """Writes the means of records to `log.jsonl` and, where it is installed, to TensorBoard.

    Lines behind the point a run continues from are taken back, so that the log never runs in two
    branches.

    Args:
        folder: of the run.
        stage: whose records come.
        images: where the run continues.
        seconds: between two lines.
    """

    def __init__(self, folder: Path, stage: str, images: int, *, seconds: float = SECONDS) -> None:
        self._path = folder / LOG
        self._seconds = seconds
        self._sum = 0.0
        self._count = 0
        self._last: TrainRecord | None = None
        self._written = time.monotonic()
        self._take_back(stage, images)
        self._curves: Any = None
        if importlib.util.find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._curves = SummaryWriter(
                str(folder / CURVES / stage), purge_step=images if images else None
            )

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *error: object) -> None:
        self._write()
        if self._curves is not None:
            self._curves.close()

    def add(self, record: TrainRecord) -> None:
        """Take one record in."""
        self._sum += record.loss or 0.0
        self._count += 1
        self._last = record
        if time.monotonic() - self._written >= self._seconds:
            self._write()

    def _write(self) -> None:
        if self._last is None or not self._count:
            return
        record = replace(self._last, loss=self._sum / self._count)
        line = {**asdict(record), "updates": self._count}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if self._curves is not None:
            for name in CURVES_OF:
                self._curves.add_scalar(name, getattr(record, name), record.images)
        self._sum, self._count, self._written = 0.0, 0, time.monotonic()

    def _take_back(self, stage: str, images: int) -> None:
        if not self._path.exists():
            return
        kept = [line for line in read_log(self._path) if _before(line, stage, images)]
        write_text(self._path, "".join(json.dumps(line) + "\n" for line in kept))


def logged(
    records: Generator[TrainRecord, None, None],
    stage: str,
    images: int,
    out: Path,
    processes: Processes,
) -> Generator[TrainRecord, None, None]:
    """Pass a stage's records on, writing the log in `out` on the way.

    Args:
        images: where the run continues.
    """
    if not processes.is_main:
        yield from records
        return
    try:
        with RunLog(out, stage, images) as log:
            for record in records:
                log.add(record)
                yield record
    finally:
        records.close()


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a run's log; one that a kill cut short is left out."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            continue
    return lines


def _before(line: Mapping[str, Any], stage: str, images: int) -> bool:
    return bool(line["stage"] != stage or line["images"] <= images)


SAMPLE_STEPS = 25


@torch.no_grad()
def draw_from_noise(base: Base, conditioning: Conditioning, seeds: Sequence[int]) -> Tensor:
    """Pictures (B, 3, H, W) in [-1, 1] of noise, one per seed, by DDIM (DiffAE Eq. 8)."""
    noise = SeededNoise(seeds, base.x0_shape, base.device)()
    steps = TimestepGrid.ddim(SAMPLE_STEPS).decoding()
    x0 = ddim(lambda x, t: base.diffae.eps(x, t, conditioning), noise, steps, clip=base.in_pixels)
    return base.to_picture(x0).clamp(-1, 1)


@torch.no_grad()
def training_sheet(base: Base, photos: Tensor, seed: int = 0) -> Image.Image:
    """A row each of photos, reconstructions, stochastic reconstructions and samples.

    A reconstruction goes to t0 500 and back; a stochastic one starts from noise with the photo's
    z_sem; a sample, where the DiffAE has a null code, starts from noise with that.

    Args:
        photos: (B, 3, H, W) in [-1, 1].
        seed: of the noise.
    """
    z_sem = base.encode(photos)
    seeds = [seed + i for i in range(len(photos))]
    rows = {
        "photo": photos,
        "t0 500 and back": base.decode(base.invert(photos, z_sem), z_sem),
        "z_sem and noise": draw_from_noise(base, base.diffae.plain(z_sem), seeds),
    }
    if base.diffae.z_null is not None:
        rows["sample"] = draw_from_noise(base, base.diffae.null(len(photos)), seeds)
    pictures = [to_images(row.clamp(-1, 1)) for row in rows.values()]
    return contact_sheet(pictures, row_titles=list(rows), cell=max(64, photos.shape[-1]))
