"""The bridge: from a style image to its photographic twin (the paper, section 3.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from osasis.base import Base
from osasis.config.presets import BridgeConfig
from osasis.diffusion.ddpm import q_sample
from osasis.diffusion.noise import SeededNoise
from osasis.diffusion.sample import ancestral
from osasis.diffusion.schedule import TimestepGrid


def bridge(
    base: Base,
    style_B: Tensor,
    config: BridgeConfig,
    seed: int,
    lpips: Callable[[Tensor, Tensor], Tensor],
) -> Iterator[Tensor]:
    """Yield candidates for the twin one by one; the last one yielded is the best of all.

    The style image is noised to t0 (Eq. 9) and walked back by ancestral DDPM (Eq. 10) with the
    base's unconditional DDPM. The best candidate has the least `10 * L1 + LPIPS` to it.

    Args:
        style_B: (1, C, H, W) x0 of the style image.
        seed: candidate i draws its noise from `seed + i`.
        lpips: perceptual distances (B,) of two batches; not called for a single candidate.

    Yields:
        (1, C, H, W) x0, `config.candidates` times; each is the best so far.
    """
    count = max(1, int(config.steps * config.t0_ratio))
    steps = TimestepGrid.evenly(config.steps).decoding(count)
    start = steps[0]
    if config.release_seam:
        start = TimestepGrid.evenly(config.steps).decoding(count + 1)[0]
    model, learned_variance = base.unconditional()
    best, least = style_B, float("inf")

    for i in range(config.candidates):
        noise = SeededNoise([seed + i], style_B.shape[1:], base.device)
        x_t = q_sample(style_B, noise(), start.alpha_bar_t)
        twin = ancestral(
            model, x_t, steps, noise, learned_variance=learned_variance, clip=base.in_pixels
        )
        if base.in_pixels:
            twin = twin.clamp(-1, 1)
        if config.candidates == 1:
            yield twin
            return
        with torch.no_grad():
            apart = lpips(base.to_picture(twin), base.to_picture(style_B)).mean()
            distance = 10 * (twin - style_B).abs().mean() + apart
        if float(distance) < least:
            best, least = twin, float(distance)
        yield best
