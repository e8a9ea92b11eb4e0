"""Training images: a folder or tar shards, decoded when asked for, in an order set by a seed."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from osasis.errors import OsasisError, UserError
from osasis.imaging.load import IMAGE_SUFFIXES, load_image
from osasis.imaging.tensors import fit_square


@dataclass(frozen=True)
class Entry:
    """Where one encoded image lies: a whole file, or `length` bytes at `offset` of a tar."""

    path: Path
    offset: int
    length: int
    name: str

    def read(self) -> bytes:
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.length)


def index_images(source: str) -> list[Entry]:
    """List the images of a folder (recursively) or of tar files matched by a glob.

    Raises:
        UserError: nothing is there.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
        entries = [Entry(p, 0, p.stat().st_size, str(p.relative_to(path))) for p in files]
    else:
        entries = []
        for shard in sorted(path.parent.glob(path.name)):
            with tarfile.open(shard) as tar:
                entries += [Entry(shard, m.offset_data, m.size, m.name) for m in tar if m.isfile()]
    if not entries:
        raise UserError(
            f"no training images at {source}",
            hint="give a folder of images, or tar files as a glob such as 'faces/train-*.tar'",
        )
    return entries


class ImageStream:
    """Endless batches of images; its position is two integers, so that a run can resume.

    Each epoch visits every image once in an order that depends on `seed` and the epoch alone.
    Images are flipped left to right with probability one half. Files that cannot be decoded are
    skipped and listed in `bad`.
    """

    def __init__(self, entries: list[Entry], image_size: int, batch_size: int, seed: int) -> None:
        if len(entries) < batch_size:
            raise UserError(
                f"{len(entries)} images are too few for batches of {batch_size}",
                hint="add images, or lower batch_size in the configuration",
            )
        self.entries = entries
        self.image_size = image_size
        self.batch_size = batch_size
        self.seed = seed
        self.position = 0  # batches drawn so far
        self.bad: set[str] = set()

    @property
    def batches_per_epoch(self) -> int:
        return len(self.entries) // self.batch_size

    def __iter__(self) -> Iterator[Tensor]:
        """Yield (B, 3, H, W) float32 batches in [-1, 1]."""
        while True:
            epoch, batch = divmod(self.position, self.batches_per_epoch)
            rng = np.random.default_rng((self.seed, epoch))
            order = rng.permutation(len(self.entries))
            flips = rng.random(len(self.entries)) < 0.5
            for i in range(batch, self.batches_per_epoch):
                chosen = order[i * self.batch_size : (i + 1) * self.batch_size]
                self.position += 1
                yield self._batch(chosen, flips[chosen])

    def _batch(self, chosen: np.ndarray, flips: np.ndarray) -> Tensor:
        images = []
        for index, flip in zip(chosen, flips, strict=True):
            image = self._decode(self.entries[index])
            while image is None:  # a bad file: its neighbour, so that a resumed run agrees
                index = (index + 1) % len(self.entries)
                image = self._decode(self.entries[index])
            images.append(image[:, ::-1] if flip else image)
        stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
        return stacked.float().div_(127.5).sub_(1)

    def _decode(self, entry: Entry) -> np.ndarray | None:
        image = try_decode(entry, self.image_size)
        if image is None:
            self.bad.add(entry.name)
            if len(self.bad) > len(self.entries) // 2:
                raise UserError(
                    f"{len(self.bad)} of {len(self.entries)} training images cannot be read, "
                    f"{entry.name} among them"
                )
        return image


def try_decode(entry: Entry, image_size: int) -> np.ndarray | None:
    """`decode_square` of an entry, or None if it is not a readable image."""
    try:
        return decode_square(entry.read(), image_size)
    except (OsasisError, UnidentifiedImageError, OSError, ValueError):
        return None


def decode_square(data: bytes, image_size: int) -> np.ndarray:
    """Decode as `load_image` does, crop to the central square and resize: (H, W, 3) uint8."""
    with Image.open(io.BytesIO(data)) as opened:
        return np.asarray(fit_square(load_image(opened), image_size))
