"""The photos that styles learn on: drawn from a base, or one's own (the paper, section 3.2)."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from osasis.base import Base
from osasis.config.controls import Controls, Fit
from osasis.config.presets import BankConfig
from osasis.diffusion.route import Route
from osasis.errors import OsasisError, UserError
from osasis.formats.safetensors_file import write_tensors
from osasis.imaging.load import Picture, load_image
from osasis.imaging.squares import FACES, Squares
from osasis.imaging.tensors import to_tensor
from osasis.learn.update import Branch

PART = 8  # photos per file
DRAWING = 2  # raise it when the same seed comes to draw another photo, so that no old bank is read


def cache_folder() -> Path:
    """Where banks are kept: $OSASIS_CACHE, else $XDG_CACHE_HOME/osasis, else ~/.cache/osasis."""
    own = os.environ.get("OSASIS_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "osasis"


class Bank(ABC):
    """Photos `I_A_in`, in parts of 8; with a route also their z_sem and x_t0.

    Args:
        base: the photo domain.
        route: how they are inverted; None leaves them as they are.
    """

    content: str
    """What the photos are, for the style's file."""
    size: int
    """How many photos there are."""
    parts: int = 0
    """How many files there are, which processes can compute for each other."""

    def __init__(self, base: Base, route: Route | None) -> None:
        self._base = base
        self._route = None if route is None else base.unclipped(route)

    @abstractmethod
    def fill(self, parts: Sequence[int] | None = None) -> Iterator[int]:
        """Compute the missing ones of `parts`, or of all; yield how far it is, in photos."""

    @abstractmethod
    def _part(self, number: int) -> dict[str, Tensor]:
        """What `_with_codes` gave for one part."""

    def x0(self, indices: Sequence[int]) -> Tensor:
        """x0 (B, C, H, W) of the photos of these indices, on the base's device."""
        return self._stacked("x0", indices)

    def photos(self, indices: Sequence[int]) -> Branch:
        """The photos of these indices with their codes, on the base's device."""
        return Branch(*(self._stacked(name, indices) for name in ("x0", "z_sem", "x_t0")))

    def _stacked(self, name: str, indices: Sequence[int]) -> Tensor:
        rows = [self._part(i // PART)[name][i % PART] for i in indices]
        return torch.stack(rows).float().to(self._base.device)

    def _with_codes(self, x0: Tensor) -> dict[str, Tensor]:
        if self._route is None:
            return {"x0": x0}
        z_sem = self._base.encode_x0(x0)
        return {"x0": x0, "z_sem": z_sem, "x_t0": self._base.invert_x0(x0, z_sem, self._route)}


class DrawnBank(Bank):
    """Photos drawn from the base, kept on disk.

    Photo i depends on the base, the settings and `seed + i` alone, so that banks of different
    sizes share their parts, and an interrupted computation goes on where it stopped.
    """

    content = "drawn"

    def __init__(self, base: Base, config: BankConfig, route: Route | None) -> None:
        super().__init__(base, route)
        self._config, self.size = config, config.size
        self.parts = -(-config.size // PART)
        key = f"{DRAWING}|{config.latent_steps}|{config.decode_steps}|{config.seed}"
        if self._route is not None:
            moves = ",".join(f"{s.t}:{s.alpha_bar_s:.8f}" for s in self._route.inversion())
            key += f"|{self._route.clip}|ddim|{moves}"
        digest = hashlib.sha256(key.encode()).hexdigest()[:12]
        self._folder = cache_folder() / "banks" / f"{base.name}-{base.hash}-{digest}"
        self._load = lru_cache(maxsize=32)(self._read)

    def fill(self, parts: Sequence[int] | None = None) -> Iterator[int]:
        for part in range(self.parts) if parts is None else parts:
            path = self._path(part)
            if not path.exists():
                self._compute(part, path)
            yield min((part + 1) * PART, self.size)

    def _part(self, number: int) -> dict[str, Tensor]:
        return self._load(number)

    def _path(self, part: int) -> Path:
        return self._folder / f"{part:05d}.safetensors"

    def _compute(self, part: int, path: Path) -> None:
        first = self._config.seed + part * PART
        config, seeds = self._config, [first + i for i in range(PART)]
        x0 = self._base.sample_x0(seeds, config.decode_steps, config.latent_steps)
        tensors = self._with_codes(x0)
        tensors |= {name: tensors[name].half() for name in ("x0", "x_t0") if name in tensors}
        hint = "make room, or set OSASIS_CACHE to a folder that can be written"
        write_tensors(path, tensors, what="the content bank", hint=hint)

    def _read(self, part: int) -> dict[str, Tensor]:
        path = self._path(part)
        try:
            return load_file(path)
        except (OSError, SafetensorError) as error:
            path.unlink(missing_ok=True)
            raise OsasisError(
                f"{path} was damaged and is removed now: {error}",
                hint="run the same command again; the part is computed anew",
            ) from error


class PhotoBank(Bank):
    """Photos of one's own, kept in memory only.

    Args:
        photos: (N, 3, H, W) in [-1, 1], of the base's size; see `squares_of`.
    """

    def __init__(self, base: Base, photos: Tensor, route: Route | None) -> None:
        super().__init__(base, route)
        self._photos, self.size = photos, len(photos)
        self._done: list[dict[str, Tensor]] = []
        pixels = hashlib.sha256(photos.numpy(force=True).tobytes()).hexdigest()
        self.content = f"{len(photos)} photos, {pixels[:16]}"

    def fill(self, parts: Sequence[int] | None = None) -> Iterator[int]:
        if parts is not None:
            return
        for pictures in self._photos.split(PART)[len(self._done) :]:
            self._done.append(self._with_codes(self._base.to_x0(pictures)))
            yield sum(len(part["x0"]) for part in self._done)

    def _part(self, number: int) -> dict[str, Tensor]:
        return self._done[number]


def squares_of(base: Base, pictures: Iterable[Picture], limit: int) -> tuple[Tensor, list[str]]:
    """Squares of photos as `base` knows them: every face aligned, or central squares.

    Args:
        pictures: photos or their paths; those that cannot be used are left out.
        limit: squares to take; of more, photos are taken that lie evenly over the list.

    Returns:
        (N, 3, H, W) in [-1, 1], N at most `limit`, and why photos were left out.

    Raises:
        UserError: no photo could be used.
    """
    given = list(pictures)
    if len(given) > limit:
        given = [given[i] for i in np.linspace(0, len(given) - 1, limit).round().astype(int)]
    # squares of one size: no portrait is taken whole
    fit: Fit = "faces" if base.domain == FACES else "crop"
    reader = Squares(Controls(fit=fit), base.canvas)
    squares: list[Tensor] = []
    refused: list[str] = []
    for picture in given:
        try:
            prepared = reader.prepare(load_image(picture))
        except OsasisError as error:
            name = "a picture" if isinstance(picture, Image.Image) else str(picture)
            refused.append(f"{name}: {error}")
        else:
            squares += [to_tensor(Image.fromarray(square)) for square in prepared.squares]
    if not squares:
        raise UserError(
            f"none of the {len(given)} photos to learn on could be used; {refused[0]}"
            if refused
            else "there are no photos to learn on",
            hint="give photos with faces in them, or leave them out to learn on drawn ones",
        )
    return torch.cat(squares[:limit]), refused
