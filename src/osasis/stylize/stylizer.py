"""Photos in, pictures in a learned style out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from osasis.base import Base
from osasis.device import free_memory
from osasis.diffusion.noise import SeededNoise
from osasis.errors import UserError
from osasis.imaging.load import load_image
from osasis.imaging.tensors import fit_square, to_images, to_tensor
from osasis.style.file import Style
from osasis.stylize.decode import decode_styled, invert

Picture = str | Path | Image.Image
MAX_BATCH = 16
BYTES_PER_PIXEL = 6_000  # measured peak of one faces-128 evaluation per pixel, rounded up


class Stylizer:
    """Redraws photos in one style (METHOD 3).

    Results do not depend on how photos are batched. Without `variation` nothing is random.

    Args:
        base: the base the style was learned on.
        style: what `learn_style` or `load_style` returned.
        style_levels: U-Net levels that see the style's code; None takes the style's own.
        lambda_spn: weight of the SPN; None takes the style's own.
        variation: in [0, 1], how much of the structural code is replaced by noise.
        seed: photo i draws its noise from `seed + i`.
        batch_size: photos at once; None chooses from free memory.

    Raises:
        UserError: a style of another base, levels the base does not have, values out of range.
    """

    def __init__(
        self,
        base: Base,
        style: Style,
        *,
        style_levels: tuple[int, ...] | None = None,
        lambda_spn: float | None = None,
        variation: float = 0.0,
        seed: int = 0,
        batch_size: int | None = None,
    ) -> None:
        manifest = style.manifest
        self._student = style.student(base)
        self._levels = manifest.style_levels if style_levels is None else style_levels
        outside = [level for level in self._levels if level not in range(base.num_levels)]
        if outside:
            raise UserError(
                f"style levels {outside} do not exist on base {base.name!r}",
                hint=f"choose from 0 to {base.num_levels - 1}; 0 is the highest resolution",
            )
        if not 0 <= variation <= 1:
            raise UserError(f"variation must lie in [0, 1], got {variation}")
        if batch_size is not None and batch_size < 1:
            raise UserError(f"batch size must be at least 1, got {batch_size}")
        weight = manifest.lambda_spn if lambda_spn is None else lambda_spn
        self._spn = replace(manifest.config.spn, weight=weight)
        self._route = manifest.config.stylize_route
        self._z_style = style.tensors["z_style"].to(base.device)
        self._base, self._variation, self._seed = base, variation, seed
        self._batch_size = batch_size

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
            yield from to_images(self.stylize(x0, first_seed=self._seed + first))
            first += len(chunk)

    def stylize(self, x0: Tensor, *, first_seed: int | None = None) -> Tensor:
        """Stylize tensors.

        Args:
            x0: (B, 3, H, W) in [-1, 1], of the base's size.
            first_seed: seed of the first photo's noise; None takes the stylizer's seed.

        Returns:
            (B, 3, H, W), clamped to [-1, 1], on the base's device.
        """
        with torch.no_grad():
            x0 = x0.to(self._base.device)
            z_content = self._base.encode(x0)
            x_t0 = invert(self._base.diffae, x0, z_content, self._route)
            if self._variation:
                first = self._seed if first_seed is None else first_seed
                seeds = [first + i for i in range(len(x0))]
                noise = SeededNoise(seeds, x0.shape[1:], self._base.device)()
                kept = (1 - self._variation**2) ** 0.5
                x_t0 = kept * x_t0 + self._variation * noise
            return decode_styled(
                self._student,
                x0,
                x_t0,
                z_content,
                self._z_style,
                route=self._route,
                spn=self._spn,
                style_levels=self._levels,
            ).clamp(-1, 1)
