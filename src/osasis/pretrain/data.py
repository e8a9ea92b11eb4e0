"""Training images: a folder, tar shards or a Hugging Face data set, in an order set by a seed."""

from __future__ import annotations

import tarfile
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qsl

import numpy as np
import torch
from huggingface_hub.constants import HF_HUB_CACHE
from torch import Tensor

from osasis.errors import OsasisError, UserError
from osasis.extras import need
from osasis.imaging.load import IMAGE_SUFFIXES, MAX_BYTES, decode_photo, read_regular
from osasis.imaging.tensors import fit_square
from osasis.threads import cores

HUB_PREFIX = "hf:"
AHEAD = 2  # batches decoded before they are asked for


class Entry(Protocol):
    """One encoded image: its name in messages and labels, and its bytes."""

    @property
    def name(self) -> str: ...

    def read(self) -> bytes: ...


@dataclass(frozen=True)
class FileEntry:
    """A whole file, or `length` bytes at `offset` of a tar."""

    path: Path
    offset: int
    length: int
    name: str

    def read(self) -> bytes:
        return read_regular(self.path, self.offset, self.length)


@dataclass(frozen=True)
class BadEntry:
    """Something in the data that is no image's file; it counts as one that cannot be read."""

    name: str
    reason: str

    def read(self) -> bytes:
        raise OsasisError(f"{self.name} {self.reason}")


@dataclass(frozen=True)
class HubEntry:
    """Row `index` of a Hugging Face data set whose images are not decoded.

    A row may name a file instead of holding it: one below `root` is read, no other.
    """

    rows: Any
    column: str
    index: int
    name: str
    root: Path

    def read(self) -> bytes:
        image = self.rows[self.index][self.column] or {}
        if image.get("bytes"):
            return bytes(image["bytes"])
        path = Path(image.get("path") or "").resolve()
        if not path.is_relative_to(self.root):
            raise OsasisError(f"{self.name} names a file outside of its data set")
        return read_regular(path)


def index_images(source: str) -> Sequence[Entry]:
    """List the images of a source.

    Args:
        source: a folder (searched recursively), a glob of tar files, or a Hugging Face data set
            as `hf:OWNER/NAME` or `hf:FOLDER`, with options as in
            `hf:OWNER/NAME?split=train&config=dog&column=image`.

    Raises:
        UserError: nothing is there.
    """
    if source.startswith(HUB_PREFIX):
        return _index_hub(source[len(HUB_PREFIX) :])
    path = Path(source).expanduser()
    entries: list[Entry] = []
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
        entries = [_file_entry(file, str(file.relative_to(path))) for file in files]
    else:
        for shard in sorted(path.parent.glob(path.name)):
            entries += _index_tar(shard)
    if not entries:
        raise UserError(
            f"no training images at {source}",
            hint="give a folder of images, tar files as a glob such as 'faces/train-*.tar', "
            "or a data set such as hf:OWNER/NAME",
        )
    return entries


def _file_entry(file: Path, name: str) -> Entry:
    if not file.is_file():
        return BadEntry(name, "is no regular file")
    return FileEntry(file, 0, file.stat().st_size, name)


def _index_tar(shard: Path) -> list[Entry]:
    entries: list[Entry] = []
    if not shard.is_file():
        return [BadEntry(str(shard), "is no regular file")]
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                if not 0 <= member.size <= shard.stat().st_size:
                    raise tarfile.ReadError(f"{member.name} claims {member.size} bytes")
                if member.isfile():
                    entries.append(_member_entry(shard, member))
    except (tarfile.TarError, OSError, ValueError, OverflowError) as error:
        if not entries:
            raise UserError(
                f"{shard} is not a tar file that can be read: {error}",
                hint="shards are plain tar files, not compressed",
            ) from error
        entries.append(BadEntry(f"the rest of {shard}", f"cannot be read: {error}"))
    return entries


def _member_entry(shard: Path, member: tarfile.TarInfo) -> Entry:
    if member.issparse() or member.size > MAX_BYTES:
        return BadEntry(member.name, "is too large, or sparse")
    return FileEntry(shard, member.offset_data, member.size, member.name)


def _index_hub(text: str) -> list[HubEntry]:
    name, _, query = text.partition("?")
    options = dict(parse_qsl(query))
    unknown = sorted(set(options) - {"split", "config", "column"})
    if unknown:
        raise UserError(
            f"{text} has unknown options {unknown}", hint="known: split, config, column"
        )
    datasets = need("datasets", name, "pretrain")
    try:
        rows = datasets.load_dataset(
            name, options.get("config"), split=options.get("split", "train")
        )
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise UserError(f"cannot load the data set {name}: {error}") from error
    columns = [k for k, v in rows.features.items() if isinstance(v, datasets.Image)]
    column = options.get("column") or next(iter(columns), "")
    if column not in columns:
        raise UserError(
            f"{name} has no column of images {options.get('column', '')}".rstrip(),
            hint=f"columns of images: {', '.join(columns) or 'none'}",
        )
    # no other column: reading a row decodes all of them, by any decoder and from any path
    rows = rows.select_columns([column]).cast_column(column, datasets.Image(decode=False))
    folder = Path(name).expanduser()
    root = (folder if folder.is_dir() else Path(HF_HUB_CACHE)).resolve()
    return [HubEntry(rows, column, i, f"{name}#{i}", root) for i in range(len(rows))]


class ImageStream:
    """Endless batches of images; its position is two integers, so that a run can resume.

    Each epoch visits every image once in an order that depends on `seed` and the epoch alone.
    Images are flipped left to right with probability one half. Files that cannot be decoded are
    skipped and listed in `bad`. Threads decode ahead of what is asked for.

    Args:
        entries: the images.
        image_size: side in pixels.
        batch_size: of the whole batch, over all processes.
        seed: of order and flips.
        part: this process's number and how many there are; it gets its share of every batch.

    Raises:
        UserError: too few images, or a batch that cannot be shared out evenly.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        image_size: int,
        batch_size: int,
        seed: int,
        *,
        part: tuple[int, int] = (0, 1),
    ) -> None:
        if len(entries) < batch_size:
            raise UserError(
                f"{len(entries)} images are too few for batches of {batch_size}",
                hint="add images, or lower batch_size in the configuration",
            )
        rank, count = part
        if batch_size % count:
            raise UserError(
                f"batches of {batch_size} cannot be shared by {count} processes",
                hint=f"make batch_size in the configuration a multiple of {count}",
            )
        self.entries = entries
        self.image_size = image_size
        self.batch_size = batch_size
        self.seed = seed
        share = batch_size // count
        self._share = slice(rank * share, (rank + 1) * share)
        self.position = 0  # batches drawn so far
        self.bad: set[str] = set()

    @property
    def batches_per_epoch(self) -> int:
        return len(self.entries) // self.batch_size

    def __iter__(self) -> Iterator[Tensor]:
        """Yield float32 batches (batch_size / processes, 3, H, W) in [-1, 1]."""
        pool = ThreadPoolExecutor(max_workers=min(16, cores()))
        pending: deque[list[Future[np.ndarray]]] = deque()
        try:
            for chosen, flips in self._plan():
                jobs = zip(chosen, flips, strict=True)
                pending.append([pool.submit(self._image, int(i), bool(f)) for i, f in jobs])
                if len(pending) > AHEAD:
                    images = [job.result() for job in pending.popleft()]
                    self.position += 1
                    yield self._stack(images)
        finally:
            pool.shutdown(cancel_futures=True)

    def _plan(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Indices and flips of this process's share of each batch, from the position on."""
        epoch, first = divmod(self.position, self.batches_per_epoch)
        while True:
            rng = np.random.default_rng((self.seed, epoch))
            order = rng.permutation(len(self.entries))
            flips = rng.random(len(self.entries)) < 0.5
            for i in range(first, self.batches_per_epoch):
                chosen = order[i * self.batch_size : (i + 1) * self.batch_size][self._share]
                yield chosen, flips[chosen]
            epoch, first = epoch + 1, 0

    def _stack(self, images: Sequence[np.ndarray]) -> Tensor:
        return stack_images(images)

    def _image(self, index: int, flip: bool) -> np.ndarray:
        image = self._decode(self.entries[index])
        while image is None:  # a bad file: its neighbour, so that a resumed run agrees
            index = (index + 1) % len(self.entries)
            image = self._decode(self.entries[index])
        return image[:, ::-1] if flip else image

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


def spread(entries: Sequence[Entry], count: int) -> list[Entry]:
    """At most `count` entries, evenly over all."""
    places = np.linspace(0, len(entries), min(count, len(entries)), endpoint=False)
    return [entries[int(place)] for place in places]


def stack_images(images: Sequence[np.ndarray]) -> Tensor:
    """Decoded squares as one tensor (B, 3, H, W), float32 in [-1, 1]."""
    stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    return stacked.float().div_(127.5).sub_(1)


def load_photos(entries: Sequence[Entry], size: int) -> Tensor:
    """Photos (N, 3, H, W) in [-1, 1]; unreadable ones are left out."""
    decoded = [try_decode(entry, size) for entry in entries]
    return stack_images([image for image in decoded if image is not None])


def try_decode(entry: Entry, image_size: int) -> np.ndarray | None:
    """`decode_square` of an entry, or None if it is not a readable image."""
    try:
        return decode_square(entry.read(), image_size)
    except (OsasisError, OSError, ValueError):
        return None


def decode_square(data: bytes, image_size: int) -> np.ndarray:
    """Decode as `load_image` does, crop to the central square and resize: (H, W, 3) uint8."""
    return np.asarray(fit_square(decode_photo(data).image, image_size))
