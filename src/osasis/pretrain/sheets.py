"""Sheets that show how far a DiffAE is: photos, reconstructions, samples."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor

from osasis.diffusion.noise import SeededNoise
from osasis.diffusion.route import Route
from osasis.diffusion.sample import ddim
from osasis.diffusion.schedule import TimestepGrid
from osasis.imaging.sheet import contact_sheet
from osasis.imaging.tensors import to_images
from osasis.models.conditioning import Conditioning
from osasis.models.diffae import DiffAE, invert

HALF_WAY = Route(50, 50, 0.5)  # of the reconstruction
SAMPLE_STEPS = 25


@torch.no_grad()
def draw_from_noise(
    diffae: DiffAE, conditioning: Conditioning, noise: Tensor, *, clip: bool = True
) -> Tensor:
    """x0 of noise of that shape, deterministic DDIM (DiffAE Eq. 8)."""
    steps = TimestepGrid.ddim(SAMPLE_STEPS).decoding()
    return ddim(lambda x, t: diffae.eps(x, t, conditioning), noise, steps, clip=clip)


@torch.no_grad()
def training_sheet(diffae: DiffAE, photos: Tensor, seed: int = 0) -> Image.Image:
    """A row each of photos, reconstructions, stochastic reconstructions and samples.

    A reconstruction goes to t0 ratio 0.5 and back; a stochastic one starts from noise with the
    photo's z_sem; a sample, where the DiffAE has a null code, starts from noise with that.

    Args:
        diffae: in evaluation mode.
        photos: (B, 3, H, W) in [-1, 1].
        seed: of the noise.
    """
    z_sem = diffae.encode(photos)
    seen = diffae.plain(z_sem)
    x_t0 = invert(diffae, photos, z_sem, HALF_WAY)
    back = ddim(lambda x, t: diffae.eps(x, t, seen), x_t0, HALF_WAY.decoding())
    seeds = [seed + i for i in range(len(photos))]
    noise = SeededNoise(seeds, photos.shape[1:], photos.device)()
    rows = {
        "photo": photos,
        "t0 0.5 and back": back,
        "z_sem and noise": draw_from_noise(diffae, seen, noise),
    }
    if diffae.z_null is not None:
        rows["sample"] = draw_from_noise(diffae, diffae.null(len(photos)), noise)
    pictures = [to_images(row.clamp(-1, 1)) for row in rows.values()]
    return contact_sheet(pictures, row_titles=list(rows), cell=max(64, photos.shape[-1]))
