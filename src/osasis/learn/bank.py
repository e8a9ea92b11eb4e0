"""The content bank: photos drawn from a base once, inverted once, used by every style."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from osasis.base import Base
from osasis.config.presets import BankConfig
from osasis.diffusion.route import Route
from osasis.errors import OsasisError
from osasis.files import atomic_path
from osasis.learn.update import Branch

PART = 8  # photos per file
DRAWING = 2  # raise it when the same seed comes to draw another photo, so that no old bank is read


def cache_folder() -> Path:
    """Where banks are kept: $OSASIS_CACHE, else $XDG_CACHE_HOME/osasis, else ~/.cache/osasis."""
    own = os.environ.get("OSASIS_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "osasis"


class ContentBank:
    """Photos `I_A_in` with z_sem and x_t0 (METHOD 2.2, 2.3), in parts of 8 on disk.

    Photo i depends on the base, the settings and `seed + i` alone, so that banks of different
    sizes share their parts, and an interrupted computation goes on where it stopped.
    """

    def __init__(self, base: Base, config: BankConfig, route: Route) -> None:
        route = base.unclipped(route)
        self._base, self._config, self._route = base, config, route
        moves = ",".join(f"{s.t}:{s.alpha_bar_s:.8f}" for s in route.inversion())
        steps = f"{config.latent_steps}|{config.decode_steps}"
        key = f"{DRAWING}|{steps}|{config.seed}|{route.clip}|{route.solver}|{moves}"
        digest = hashlib.sha256(key.encode()).hexdigest()[:12]
        self._folder = cache_folder() / "banks" / f"{base.name}-{base.hash}-{digest}"
        self._load = lru_cache(maxsize=32)(self._read)

    content = "drawn"

    @property
    def size(self) -> int:
        """How many photos there are."""
        return self._config.size

    @property
    def parts(self) -> int:
        """How many files there are, which processes can compute for each other."""
        return -(-self._config.size // PART)

    def fill(self, parts: Sequence[int] | None = None) -> Iterator[int]:
        """Compute the missing ones of `parts`, or of all; yield how far it is, in photos."""
        for part in range(self.parts) if parts is None else parts:
            path = self._path(part)
            if not path.exists():
                self._compute(part, path)
            yield min((part + 1) * PART, self._config.size)

    def photos(self, indices: Sequence[int]) -> Branch:
        """The photos of these indices with their codes, on the base's device."""
        rows = [self._load(i // PART) for i in indices]
        stacked = {
            name: torch.stack([row[name][i % PART] for row, i in zip(rows, indices, strict=True)])
            for name in ("x0", "z_sem", "x_t0")
        }
        on_device = {k: v.float().to(self._base.device) for k, v in stacked.items()}
        return Branch(on_device["x0"], on_device["z_sem"], on_device["x_t0"])

    def _path(self, part: int) -> Path:
        return self._folder / f"{part:05d}.safetensors"

    def _compute(self, part: int, path: Path) -> None:
        first = self._config.seed + part * PART
        config, seeds = self._config, [first + i for i in range(PART)]
        x0 = self._base.sample_x0(seeds, config.decode_steps, config.latent_steps)
        z_sem = self._base.encode_x0(x0)
        x_t0 = self._base.invert_x0(x0, z_sem, self._route)
        tensors = {"x0": x0.half(), "z_sem": z_sem, "x_t0": x_t0.half()}
        try:
            with atomic_path(path) as temporary:
                save_file({k: v.cpu().contiguous() for k, v in tensors.items()}, temporary)
        except (OSError, SafetensorError) as error:
            raise OsasisError(
                f"the content bank cannot be written to {self._folder}: {error}",
                hint="make room, or set OSASIS_CACHE to a folder that can be written",
            ) from error

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
