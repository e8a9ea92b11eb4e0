"""Photos of one's own as content, in place of photos drawn from the base (METHOD 2.2)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from osasis.base import Base
from osasis.config.controls import Controls
from osasis.diffusion.route import Route
from osasis.errors import OsasisError, UserError
from osasis.imaging.load import Picture, load_image
from osasis.imaging.squares import Squares
from osasis.imaging.tensors import to_tensor
from osasis.learn.bank import PART
from osasis.learn.update import Branch


class PhotoBank:
    """Photos `I_A_in` with z_sem and x_t0, as in `ContentBank`, kept in memory only.

    Args:
        base: the photo domain.
        photos: (N, 3, H, W) in [-1, 1], of the base's size; see `squares_of`.
        route: how they are inverted.
    """

    parts = 0  # that processes could compute for each other

    def __init__(self, base: Base, photos: Tensor, route: Route) -> None:
        self._base, self._photos, self._route = base, photos, base.unclipped(route)
        self._done: list[Branch] = []
        pixels = hashlib.sha256(photos.numpy(force=True).tobytes()).hexdigest()
        self.content = f"{len(photos)} photos, {pixels[:16]}"

    @property
    def size(self) -> int:
        """How many photos there are."""
        return len(self._photos)

    def fill(self, parts: Sequence[int] | None = None) -> Iterator[int]:
        """Invert the photos that are not inverted yet; yield how many are, after each batch."""
        if parts is not None:
            return
        for x0 in self._photos.split(PART)[len(self._done) :]:
            x0 = self._base.to_x0(x0)
            z_sem = self._base.encode_x0(x0)
            x_t0 = self._base.invert_x0(x0, z_sem, self._route)
            self._done.append(Branch(x0, z_sem, x_t0))
            yield sum(len(branch.x0) for branch in self._done)

    def photos(self, indices: Sequence[int]) -> Branch:
        """The photos of these indices with their codes, on the base's device."""
        rows = [(self._done[i // PART], i % PART) for i in indices]
        return Branch(
            torch.stack([branch.x0[i] for branch, i in rows]),
            torch.stack([branch.z_sem[i] for branch, i in rows]),
            torch.stack([branch.x_t[i] for branch, i in rows]),
        )


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
    reader = Squares(Controls(), base.canvas)
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
