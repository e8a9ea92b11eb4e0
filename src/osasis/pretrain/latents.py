"""Codes of a whole data set; its latents, computed once and kept on disk for all epochs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from osasis.errors import OsasisError, UserError
from osasis.files import atomic_path, write_text
from osasis.models.autoencoder import Autoencoder
from osasis.models.diffae import DiffAE
from osasis.models.encoder import ThumbnailEncoder
from osasis.models.state import state_hash
from osasis.pretrain.data import Entry, ImageStream, stack_images, try_decode
from osasis.pretrain.processes import Processes
from osasis.pretrain.train import TrainRecord

BATCH = 32

Batches = Iterable[tuple[int, Tensor]]
"""Images done so far, and x0 (B, C, H, W) of some more, mirror images among them."""


def decoded(entries: Sequence[Entry], size: int) -> Iterator[tuple[int, list[str], Tensor]]:
    """Entries done, and names without folder and suffix of the readable ones with their images."""
    for start in range(0, len(entries), BATCH):
        chunk = entries[start : start + BATCH]
        read = [(Path(e.name).stem, try_decode(e, size)) for e in chunk]
        readable = [(name, image) for name, image in read if image is not None]
        if readable:
            images = stack_images([image for _, image in readable])
            yield start + len(chunk), [name for name, _ in readable], images


def with_mirrored(entries: Sequence[Entry], size: int) -> Iterator[tuple[int, Tensor]]:
    """`Batches` of images in [-1, 1]."""
    for done, _, images in decoded(entries, size):
        yield done, torch.cat([images, images.flip(3)])


@torch.no_grad()
def encode_entries(
    encode: Callable[[Tensor], Tensor], entries: Sequence[Entry], size: int
) -> Generator[TrainRecord, None, tuple[list[str], Tensor]]:
    """Encode images; unreadable ones are left out.

    Args:
        encode: z_sem of images (B, 3, size, size) in [-1, 1].
        entries: the images.

    Returns:
        Names without folder and suffix, and z_sem (N, z_dim) on the CPU, in the same order.
    """
    names: list[str] = []
    codes: list[Tensor] = []
    for done, found, images in decoded(entries, size):
        names += found
        codes.append(encode(images).float().cpu())
        yield TrainRecord("encode", done, len(entries))
    return names, torch.cat(codes) if codes else torch.empty(0, 0)


@torch.no_grad()
def encode_batches(
    diffae: DiffAE, batches: Batches, total: int, device: torch.device
) -> Generator[TrainRecord, None, Tensor]:
    """z_sem (N, z_dim), on the CPU, of x0 of `total` images with their mirror images."""
    codes = []
    for done, x0 in batches:
        codes.append(diffae.encode(x0.to(device)).float().cpu())
        yield TrainRecord("encode", done, total)
    return torch.cat(codes)


@torch.no_grad()
def fit_thumbnails(
    diffae: DiffAE, batches: Batches, total: int, device: torch.device
) -> Generator[TrainRecord, None, None]:
    """Find a thumbnail encoder's components, and start the U-Net's draft as the way back.

    Nothing is done for other encoders.

    Raises:
        UserError: no image can be read.
    """
    encoder, draft = diffae.encoder, diffae.unet.draft
    if not isinstance(encoder, ThumbnailEncoder):
        return
    size = encoder.project.in_features
    seen, sums = 0, torch.zeros(size, dtype=torch.float64)
    products = torch.zeros(size, size, dtype=torch.float64)
    for done, x0 in batches:
        thumbnails = encoder.thumbnails(x0.to(device)).cpu()
        seen += len(thumbnails)
        sums += thumbnails.sum(0)
        products += thumbnails.T @ thumbnails
        yield TrainRecord("fit", done, total)
    if not seen:
        raise UserError(f"none of {total} training images can be read")
    mean = sums / seen
    back = encoder.fit(mean, products / seen - torch.outer(mean, mean))
    if draft is not None and draft.out_features == size:
        draft.load_state_dict(back.state_dict())


PART = 8 * BATCH  # images a file
_ABOUT = "about.json"


class LatentCache:
    """Normalised latents in float16 of images and of their mirror images.

    A 256 px image takes 128 kB with 32 channels. An interrupted computation goes on where it
    stopped; processes fill the cache together.

    Args:
        folder: where it lies.
        entries: the images.
        autoencoder: what encodes them, in evaluation mode.
        size: side of the images in pixels.

    Raises:
        UserError: the folder holds latents of other images or of another autoencoder.
    """

    def __init__(
        self, folder: Path, entries: Sequence[Entry], autoencoder: Autoencoder, size: int
    ) -> None:
        self._folder, self._entries = folder, entries
        self._autoencoder, self._size = autoencoder, size
        self.readable: list[Entry] = []
        self.bad: list[str] = []  # names of the others
        self._starts = np.zeros(1, dtype=int)  # of the parts, counted in readable images
        self._part = lru_cache(maxsize=None)(self._open)
        names = hashlib.sha256("\n".join(entry.name for entry in entries).encode()).hexdigest()
        about = {"autoencoder": state_hash(autoencoder), "images": names, "size": size}
        path = folder / _ABOUT
        if path.exists() and json.loads(path.read_text(encoding="utf-8")) != about:
            raise UserError(
                f"{folder} holds latents of other images or of another autoencoder",
                hint="delete it, or start in a new folder with -o",
            )
        write_text(path, json.dumps(about))

    def fill(self, processes: Processes) -> Iterator[TrainRecord]:
        """Encode what is missing.

        Raises:
            UserError: no image can be read.
        """
        count = -(-len(self._entries) // PART)
        first = processes.rank * count // processes.count
        for done in range(count):
            part = (first + done) % count
            if not self._path(part, "json").exists():
                self._compute(part, processes.device)
            images = min((done + 1) * PART, len(self._entries))
            yield TrainRecord("latents", images, len(self._entries))
        sizes = []
        for part in range(count):
            bad = set(json.loads(self._path(part, "json").read_text(encoding="utf-8")))
            entries = list(enumerate(self._entries[part * PART : (part + 1) * PART]))
            self.readable += [entry for place, entry in entries if place not in bad]
            self.bad += [entry.name for place, entry in entries if place in bad]
            sizes.append(len(entries) - len(bad))
        self._starts = np.concatenate([[0], np.cumsum(sizes)])
        if not self.readable:
            raise UserError(f"none of {len(self._entries)} training images can be read")

    def latent(self, index: int, mirrored: bool) -> np.ndarray:
        """(C, h, w) float16 of one image, or of its mirror image."""
        part = int(np.searchsorted(self._starts, index, side="right")) - 1
        found: np.ndarray = self._part(part)[index - self._starts[part], int(mirrored)]
        return found

    def batches(self, count: int) -> Iterator[tuple[int, Tensor]]:
        """`Batches` of `count` images, evenly over all."""
        size = len(self.readable)
        chosen = np.linspace(0, size, min(count, size), endpoint=False).astype(int)
        for start in range(0, len(chosen), BATCH):
            indices = chosen[start : start + BATCH]
            both = [self.latent(int(i), mirrored) for mirrored in (False, True) for i in indices]
            yield start + len(indices), torch.from_numpy(np.stack(both)).float()

    @torch.no_grad()
    def _compute(self, part: int, device: torch.device) -> None:
        entries = self._entries[part * PART : (part + 1) * PART]
        bad: list[int] = []
        latents: list[np.ndarray] = []
        for start in range(0, len(entries), BATCH):
            read = [try_decode(entry, self._size) for entry in entries[start : start + BATCH]]
            bad += [start + place for place, image in enumerate(read) if image is None]
            images = [image for image in read if image is not None]
            if images:
                pictures = stack_images(images).to(device)
                both = [self._autoencoder.encode(p) for p in (pictures, pictures.flip(3))]
                found = torch.stack(both, dim=1).half().cpu()
                check_finite(found)
                latents.append(found.numpy())
        try:
            if latents:
                with (
                    atomic_path(self._path(part, "npy")) as temporary,
                    temporary.open("wb") as file,
                ):
                    np.save(file, np.concatenate(latents))
            # written last: it says that the part is whole
            write_text(self._path(part, "json"), json.dumps(bad))
        except OSError as error:
            raise OsasisError(
                f"latents cannot be written to {self._folder}: {error}", hint="make room there"
            ) from error

    def _path(self, part: int, suffix: str) -> Path:
        return self._folder / f"{part:05d}.{suffix}"

    def _open(self, part: int) -> np.ndarray:
        path = self._path(part, "npy")
        try:
            return np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise OsasisError(
                f"{path} is damaged: {error}", hint=f"delete {path.parent} and run again"
            ) from error


def check_finite(latents: Tensor) -> None:
    """Refuse what nothing can be learned from.

    Raises:
        UserError: numbers that are not finite.
    """
    if not bool(torch.isfinite(latents).all()):
        raise UserError(
            "the autoencoder gave latents that are not finite", hint="choose another one"
        )


class LatentStream(ImageStream):
    """As `ImageStream`, batches of latents (B, C, h, w) of a cache that is filled."""

    def __init__(
        self, cache: LatentCache, batch_size: int, seed: int, *, part: tuple[int, int] = (0, 1)
    ) -> None:
        super().__init__(cache.readable, 0, batch_size, seed, part=part)
        self.bad = set(cache.bad)
        self._cache = cache

    def _image(self, index: int, flip: bool) -> np.ndarray:
        return self._cache.latent(index, flip)

    def _stack(self, images: Sequence[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.stack(images)).float()
