"""Photos in, redrawn pictures out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from osasis.base import Base
from osasis.config.controls import Controls
from osasis.device import free_memory, mixed_precision, with_room
from osasis.diffusion.noise import SeededNoise
from osasis.errors import OsasisError, UserError
from osasis.imaging.colors import with_colors_of
from osasis.imaging.load import Picture, load_image
from osasis.imaging.tensors import fit_square, to_images, to_tensor
from osasis.stylize.decode import decode
from osasis.stylize.edit import EDIT_ROUTE, Edit
from osasis.stylize.floor import LightFloor
from osasis.stylize.model import Styles, common_route, normalised, styled_model

MAX_BATCH = 16
BYTES_PER_PIXEL = 6_000  # measured peak of one evaluation of a patched base per pixel, rounded up


class Stylizer:
    """Redraws photos in a style, a mix of styles, or with edits of what they show (METHOD 3, 4).

    Results do not depend on how photos are batched. Without `variation` nothing is random.

    Args:
        base: the base the styles were learned on.
        style: what `learn_style` or `load_style` returned; or pairs of styles and their shares of
            a mix; without one, the base itself decodes.
        controls: how they are redrawn; None takes the defaults.
        edits: changes of what the photos show; they add up.
        batch_size: photos at once; None chooses from free memory.
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
        edits: Sequence[Edit] = (),
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
        self._base, self._edits, self._batch_size = base, tuple(edits), batch_size
        self._styles = normalised(style)

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
    def batch_size(self) -> int:
        """Photos at once: as given, or from free memory."""
        if self._batch_size is not None:
            return self._batch_size
        per_photo = BYTES_PER_PIXEL * self._base.image_size**2
        return max(1, min(MAX_BATCH, free_memory(self._base.device) // (4 * per_photo)))

    def __call__(self, images: Picture | Sequence[Picture]) -> list[Image.Image]:
        """Stylize pictures, paths or a mix of both; one result each, in order.

        Returns:
            RGB pictures of the base's size; of each photo its central square is used.

        Raises:
            UserError: a picture that cannot be read.
        """
        if isinstance(images, (str, Path, Image.Image)):
            images = [images]
        return list(self.stream(images))

    def stream(self, images: Sequence[Picture]) -> Iterator[Image.Image]:
        """Like calling, but yields each batch's results as soon as they are there."""
        size = self._base.image_size
        remaining = iter(images)
        first = 0
        while chunk := list(islice(remaining, self.batch_size)):
            x0 = torch.cat([to_tensor(fit_square(load_image(image), size)) for image in chunk])
            seeds = range(self._controls.seed + first, self._controls.seed + first + len(chunk))
            yield from to_images(self.stylize(x0, seeds=seeds))
            first += len(chunk)

    def stylize(self, x0: Tensor, *, seeds: Sequence[int] | None = None) -> Tensor:
        """Stylize tensors.

        Args:
            x0: (B, 3, H, W) in [-1, 1]; H and W are the base's size, or any multiples of its
                `stride`. z_sem is then that of the picture squeezed into the base's size.
            seeds: seed of each photo's noise; None counts from the stylizer's seed.

        Returns:
            (B, 3, H, W), clamped to [-1, 1], on the base's device.

        Raises:
            OsasisError: the device has too little memory for a single photo; with more, smaller
                batches are tried first.
        """
        if seeds is None:
            seeds = range(self._controls.seed, self._controls.seed + len(x0))

        def draw(at_once: int) -> Tensor:
            starts = range(0, len(x0), at_once)
            parts = [slice(start, start + at_once) for start in starts]
            return torch.cat(
                [self._stylize(x0[part].to(self._base.device), seeds[part]) for part in parts]
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

    def _stylize(self, x0: Tensor, seeds: Sequence[int]) -> Tensor:
        base, model = self._base, self._model
        precision = mixed_precision(base.device, wanted=self._controls.mixed_precision, on_cpu=True)
        with precision:
            photo = base.to_x0(x0).float()
        maps, z_sem = self._seen_small(x0, photo)
        dressed, inputs = model.dressed(photo, maps)
        if z_sem is None:
            z_sem = base.encode_x0(base.squeeze(dressed))
        with precision:
            x_t0 = base.invert_x0(dressed, z_sem, self._route)
        if self._controls.variation:
            x_t0 = self._vary(dressed, x_t0, seeds)
        z_edited = None
        if self._edits:
            shifts = [edit(base.squeeze(dressed), z_sem) - z_sem for edit in self._edits]
            z_edited = z_sem + torch.stack(shifts).sum(0)
        with precision:
            decoded = decode(
                model,
                inputs,
                x_t0,
                z_sem,
                self._route,
                z_edited=z_edited,
                guidance=self._controls.guidance,
            )
            with torch.no_grad():
                pictures = base.to_picture(decoded)
        with torch.no_grad():
            result = pictures.float().clamp(-1, 1)
            if base.regions is not None:
                seen = base.region_maps(base.squeeze(photo)) if maps is None else maps
                result = self._floor(x0, result, seen)
        return with_colors_of(x0, result) if self._controls.keep_colors else result

    @cached_property
    def _floor(self) -> LightFloor:
        return LightFloor(self._base, self._styles)

    def _seen_small(self, pictures: Tensor, x0: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Region maps, if a style asks for them, and codes of pictures larger than the base's.

        Both networks know faces of the base's size, so a larger picture is shown to them smaller.
        The code is None where the picture is not larger: it is the dressed picture's own.
        """
        base, model = self._base, self._model
        if base.in_pixels or min(x0.shape[2:]) <= base.x0_shape[1]:
            return (base.region_maps(x0) if model.sees_regions else None), None
        stride = base.stride
        scale = base.image_size / min(pictures.shape[2:])
        size = [max(stride, round(side * scale / stride) * stride) for side in pictures.shape[2:]]
        small = base.to_x0(F.interpolate(pictures, size, mode="bicubic", antialias=True))
        maps = base.region_maps(small) if model.sees_regions else None
        dressed, _ = model.dressed(small, maps)
        z_sem = base.encode_x0(base.squeeze(dressed))
        if maps is not None:
            full = (2 * x0.shape[2], 2 * x0.shape[3])
            maps = F.interpolate(maps, full, mode="bilinear", align_corners=False)
        return maps, z_sem

    def _vary(self, x0: Tensor, x_t0: Tensor, seeds: Sequence[int]) -> Tensor:
        """Draw part of the noise in x_t0 = sqrt(ab) * x0 + sqrt(1 - ab) * eps anew."""
        alpha_bar = self._route.inversion()[-1].alpha_bar_s
        signal = alpha_bar**0.5 * x0
        noise = SeededNoise(seeds, x0.shape[1:], self._base.device)()
        kept = (1 - self._controls.variation**2) ** 0.5
        drawn = self._controls.variation * (1 - alpha_bar) ** 0.5 * noise
        return signal + kept * (x_t0 - signal) + drawn
