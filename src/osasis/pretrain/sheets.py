"""Sheets that show how far a DiffAE is: photos, reconstructions, samples."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from osasis.base import Base
from osasis.diffusion.noise import SeededNoise
from osasis.diffusion.sample import ddim
from osasis.diffusion.schedule import TimestepGrid
from osasis.imaging.sheet import contact_sheet
from osasis.imaging.tensors import to_images
from osasis.models.conditioning import Conditioning

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
