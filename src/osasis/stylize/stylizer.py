"""Photos in, redrawn photos out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from osasis.base import Base, load_base
from osasis.config.controls import Controls, Editing
from osasis.device import free_memory, with_room
from osasis.errors import OsasisError, UserError
from osasis.formats.style_file import Style
from osasis.imaging.colors import darkened, exposure, lit
from osasis.imaging.faces import Face
from osasis.imaging.load import Picture, load_photo
from osasis.imaging.photo_file import Photo
from osasis.imaging.squares import Prepared, Redrawn, Squares
from osasis.imaging.tensors import to_images, to_tensor
from osasis.learn.regions import LARGEST_FACE
from osasis.stylize.decode import Drawing
from osasis.stylize.edit import EDIT_ROUTE, Edit, guidance_of
from osasis.stylize.light import LightFloor
from osasis.stylize.model import Styles, common_route, normalised, styled_model
from osasis.stylize.text import edits_of

MAX_BATCH = 16
BYTES_PER_PIXEL = 6_000  # measured peak of one evaluation of a patched base per pixel, rounded up
_SHALLOW = 200  # t0 up to which a large face is drawn large: from further up it is drawn anew
WAITING_PIXELS = 50_000_000  # of photos that wait for the network together, to bound memory

StyleName = str | Path
"""A style's name, file, folder or repository on the Hugging Face hub."""


class Stylizer:
    """Redraws photos in a style, a mix of styles, or with edits of what they show.

    How photos are batched changes their rounding only, by at most one level of 255. Without
    `variation` nothing is random. Threads may share `prepare` and `finish`.

    Args:
        base: the base the styles were learned on.
        style: what `learn_style` or `load_style` returned; or pairs of styles and their shares of
            a mix; without one, the base itself decodes.
        controls: how they are redrawn; None takes the defaults.
        edits: changes of what the photos show, which add up, in place of those in `controls`.
        batch_size: squares of the base's size at once; None chooses from free memory.
        changes: controls by name, in place of those in `controls`.

    Raises:
        UserError: a style of another base, levels the base does not have, values out of range.
    """

    def __init__(
        self,
        base: Base,
        style: Styles = (),
        controls: Controls | None = None,
        *,
        edits: Sequence[Edit] | None = None,
        batch_size: int | None = None,
        **changes: Any,
    ) -> None:
        c = self._controls = replace(controls or Controls(), **changes)
        if batch_size is not None and batch_size < 1:
            raise UserError(f"batch size must be at least 1, got {batch_size}")
        self._model = styled_model(
            base,
            style,
            strength=c.strength,
            style_levels=c.style_levels,
            lambda_spn=c.lambda_spn,
            swap_codes=c.swap_codes,
        )
        route = common_route(style, EDIT_ROUTE)
        self._route = base.unclipped(route if c.t0 is None else route.until(c.t0))
        self._base, self._style, self._batch_size = base, style, batch_size
        self._edits = tuple(edits_of(base, style, c) if edits is None else edits)
        self._guidance, self._given = guidance_of(c, styled=bool(style)), edits is not None

    @classmethod
    def from_pretrained(
        cls,
        style: StyleName | Style | Sequence[tuple[StyleName | Style, float]],
        *,
        base: Base | str | Path | None = None,
        device: str | None = None,
        controls: Controls | None = None,
        **changes: Any,
    ) -> Stylizer:
        """A stylizer of a learned style, or of a mix.

        Args:
            style: name of a shipped style, style file, folder, repository on the Hugging Face
                hub, a `Style`, or pairs of one of these and its share of the mix.
            base: a base, its name or file; None loads the one that the style was learned on.
            device: a torch device such as "cuda:0"; None takes the best one there is.
            controls, changes: see `Stylizer`.

        Raises:
            UserError: no such style or base, or they do not belong together.
        """
        single = isinstance(style, (str, Path, Style))
        pairs: Any = [(style, 1.0)] if single else style
        styles = [
            (one if isinstance(one, Style) else Style.from_pretrained(one), float(share))
            for one, share in pairs
        ]
        if not styles:
            raise UserError("there is no style", hint="give one, such as 'memling_maria'")
        if not isinstance(base, Base):
            base = load_base(base or styles[0][0].base, device=device)
        return cls(base, styles, controls, **changes)

    @property
    def base(self) -> Base:
        """The base it draws with."""
        return self._base

    @property
    def controls(self) -> Controls:
        """How it redraws."""
        return self._controls

    @property
    def seed(self) -> int:
        """Seed of the first photo."""
        return self._controls.seed

    @property
    def fit(self) -> str:
        """What of a photo it redraws: the control, with "auto" replaced by what it means here."""
        return self._squares.fit

    @property
    def batch_size(self) -> int:
        """Squares at once: as given, or from free memory."""
        if self._batch_size is not None:
            return self._batch_size
        per_photo = BYTES_PER_PIXEL * self._base.image_size**2
        return max(1, min(MAX_BATCH, free_memory(self._base.device) // (4 * per_photo)))

    @overload
    def __call__(
        self, photos: Picture, controls: Controls | None = None, **changes: Any
    ) -> Image.Image: ...

    @overload
    def __call__(
        self, photos: Sequence[Picture], controls: Controls | None = None, **changes: Any
    ) -> list[Image.Image]: ...

    def __call__(
        self,
        photos: Picture | Sequence[Picture],
        controls: Controls | None = None,
        **changes: Any,
    ) -> Image.Image | list[Image.Image]:
        """Redraw a photo, or several: pictures, paths or a mix of both.

        Args:
            controls: in place of the stylizer's own.
            changes: controls by name, for these photos alone.

        Returns:
            The whole photo as `osasis stylize` gives it, RGB, or RGBA where the photo is
            transparent; of a list a list, in order. Photo i has the seed `seed + i`.

        Raises:
            UserError: a picture that cannot be read.
            OsasisError: no face was found where one is needed.
        """
        if controls is not None or changes:
            asked = replace(controls or self._controls, **changes)
            before = self._controls
            kept = self._given or all(
                getattr(asked, f.name) == getattr(before, f.name) for f in fields(Editing)
            )
            edits, size = self._edits if kept else None, self._batch_size
            return Stylizer(self._base, self._style, asked, edits=edits, batch_size=size)(photos)
        if isinstance(photos, (str, Path, Image.Image)):
            return next(self.stream([photos]))
        return list(self.stream(photos))

    def stream(self, photos: Sequence[Picture]) -> Iterator[Image.Image]:
        """Like calling with a list, but yields each batch's results as soon as they are there."""
        waiting: list[tuple[Prepared, int]] = []
        for index, photo in enumerate(photos):
            prepared = self.prepare(load_photo(photo))
            if not self.has_room([before for before, _ in waiting], prepared):
                yield from self._redrawn(waiting)
                waiting = []
            waiting.append((prepared, self.seed + index))
        yield from self._redrawn(waiting)

    def _redrawn(self, photos: Sequence[tuple[Prepared, int]]) -> Iterator[Image.Image]:
        for (prepared, _), results in zip(photos, self.redraw_photos(photos), strict=True):
            yield self.finish(prepared, results).whole

    def has_room(self, waiting: Sequence[Prepared], more: Prepared) -> bool:
        """Whether the batch of photos that wait takes one more."""
        pixels = sum(prepared.photo.size // 3 for prepared in waiting)
        squares = sum(len(prepared.squares) for prepared in waiting)
        alike = all(prepared.squares[0].shape == more.squares[0].shape for prepared in waiting)
        return alike and squares < self.batch_size and pixels < WAITING_PIXELS

    def redraw_photos(self, photos: Sequence[tuple[Prepared, int]]) -> list[list[np.ndarray]]:
        """The redrawn squares of each photo, drawn with its seed; see `redraw`."""
        squares = [square for prepared, _ in photos for square in prepared.squares]
        seeds = [seed for prepared, seed in photos for _ in prepared.squares]
        results = iter(self.redraw(squares, seeds))
        return [list(islice(results, len(prepared.squares))) for prepared, _ in photos]

    @cached_property
    def _squares(self) -> Squares:
        # an edit, or a way from far up, draws features anew: at a size that the base knows only
        shallow = self._route.t0 <= _SHALLOW and not self._edits
        finer = shallow and self._model.sees_regions
        return Squares(self._controls, self._base.canvas, LARGEST_FACE if finer else 1.0)

    def prepare(self, photo: Photo | Image.Image, faces: Sequence[Face] | None = None) -> Prepared:
        """Find what of a photo is to be redrawn; see `Squares.prepare`."""
        return self._squares.prepare(photo, faces)

    def redraw(self, squares: Sequence[np.ndarray], seeds: Sequence[int]) -> list[np.ndarray]:
        """Redraw squares (h, w, 3) uint8 of one shape, in batches.

        Raises:
            OsasisError: a result that is not a picture.
        """
        return [result for batch in self.batches(squares, seeds) for result in batch]

    def batches(
        self, squares: Sequence[np.ndarray], seeds: Sequence[int]
    ) -> Iterator[list[np.ndarray]]:
        """The same, batch after batch, so that it can be stopped between them."""
        step = self.batch_size
        if squares:
            larger = squares[0].shape[0] * squares[0].shape[1] / self._base.image_size**2
            step = max(1, int(step / larger))
        lights = [self._exposure(square) for square in squares]
        if self.fit == "tiles" and lights:  # neighbours are drawn alike
            lights = [min(lights)] * len(lights)
        for start in range(0, len(squares), step):
            here = lights[start : start + step]
            bright = map(lit, squares[start : start + step], here)
            chunk = [to_tensor(Image.fromarray(square)) for square in bright]
            x = self.redraw_squares(torch.cat(chunk), seeds=seeds[start : start + step])
            drawn = [np.asarray(image) for image in to_images(x)]
            yield [darkened(p, light) for p, light in zip(drawn, here, strict=True)]

    def _exposure(self, square: np.ndarray) -> float:
        """Gain of photos in little light; 1 without style, or on a base as the paper has it."""
        return exposure(square) if self._style and self._base.regions is not None else 1.0

    def finish(self, prepared: Prepared, results: Sequence[np.ndarray]) -> Redrawn:
        """Put redrawn squares back into their photo."""
        return self._squares.finish(prepared, results)

    def redraw_squares(self, x0: Tensor, seeds: Sequence[int] | None = None) -> Tensor:
        """Redraw tensors.

        Args:
            x0: (B, 3, H, W) in [-1, 1]; H and W are the base's size, or any multiples of its
                `stride`. z_sem is then that of the picture squeezed into the base's size.
            seeds: seed of each picture's noise; None counts from the stylizer's seed.

        Returns:
            (B, 3, H, W), clamped to [-1, 1], on the base's device.

        Raises:
            OsasisError: the device has too little memory for a single square; with more, smaller
                batches are tried first.
        """
        if seeds is None:
            seeds = range(self._controls.seed, self._controls.seed + len(x0))

        def draw(at_once: int) -> Tensor:
            starts = range(0, len(x0), at_once)
            parts = [slice(start, start + at_once) for start in starts]
            return torch.cat(
                [self._drawing(x0[part].to(self._base.device), seeds[part]) for part in parts]
            )

        try:
            pictures, at_once = with_room(draw, len(x0))
        except torch.OutOfMemoryError as error:
            height, width = x0.shape[2:]
            raise OsasisError(
                f"{self._base.device} has too little memory for one photo of {height} x {width}",
                hint="end other programs that use it, or choose another device",
            ) from error
        if at_once < len(x0):
            self._batch_size = at_once
        return pictures

    @cached_property
    def _drawing(self) -> Drawing:
        base = self._base
        floor = None if base.regions is None else LightFloor(base, normalised(self._style))
        return Drawing(
            base, self._model, self._route, self._controls, self._edits, self._guidance, floor
        )
