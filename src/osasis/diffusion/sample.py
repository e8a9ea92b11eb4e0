"""Samplers: inversion, decoding, ancestral sampling."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from osasis.diffusion.ddim import ddim_step
from osasis.diffusion.ddpm import ddpm_step, posterior
from osasis.diffusion.route import Route
from osasis.diffusion.schedule import Step

EpsModel = Callable[[Tensor, Tensor], Tensor]
"""`eps_hat = model(x_t, t)`, with x_t (B, 3, H, W) and t (B,) int64."""

NoiseSource = Callable[[], Tensor]
"""Fresh standard normal noise in the shape of the batch."""

SpnTerm = Callable[[Step], Tensor]
"""What is added to x_t before a move: `lambda_spn * SPN(I_A, t)` (Eqs. 12, 13)."""


def timesteps(x: Tensor, t: int) -> Tensor:
    """`t` once per image of the batch `x`, (B,) int64."""
    return torch.full((x.shape[0],), t, dtype=torch.int64, device=x.device)


def ddim_with_gradient(
    model: EpsModel,
    x: Tensor,
    steps: Sequence[Step],
    *,
    clip: bool = True,
    spn_term: SpnTerm | None = None,
) -> Tensor:
    """Follow `steps` deterministically, up (inversion, Eq. 11) or down (decoding, Eqs. 8, 14).

    Args:
        model: noise predictor with its conditioning already chosen.
        x: (B, C, H, W) images or (B, D) codes at the alpha_bar of the first step.
        steps: moves of a `TimestepGrid`.
        clip: limit x0_hat to [-1, 1] at every step.
        spn_term: term added to x before every move.
    """
    for step in steps:
        if spn_term is not None:
            x = x + spn_term(step)
        x, _ = ddim_step(x, model(x, timesteps(x, step.t)), step, clip=clip)
    return x


ddim = torch.no_grad()(ddim_with_gradient)
"""The same without gradients: what everything uses that does not optimise through the walk."""


def follow_with_gradient(
    model: EpsModel,
    x: Tensor,
    route: Route,
    steps: Sequence[Step],
    *,
    spn_term: SpnTerm | None = None,
) -> Tensor:
    """Follow `route.inversion()` or `route.decoding()` by DDIM.

    Args:
        spn_term: added to x before every move.
    """
    return ddim_with_gradient(model, x, steps, clip=route.clip, spn_term=spn_term)


follow = torch.no_grad()(follow_with_gradient)
"""The same without gradients."""


@torch.no_grad()
def ancestral(
    model: EpsModel,
    x: Tensor,
    steps: Sequence[Step],
    noise: NoiseSource,
    *,
    learned_variance: bool = False,
    clip: bool = True,
) -> Tensor:
    """Ancestral DDPM sampling along `steps` (Eq. 10; DDPM algorithm 2).

    Args:
        model: noise predictor; with `learned_variance` it has 6 output channels, the last three
            being the variance fraction.
        x: (B, 3, H, W) sample at the alpha_bar of the first step.
        noise: drawn once per move.
    """
    for step in steps:
        out = model(x, timesteps(x, step.t))
        fraction = None
        if learned_variance:
            out, fraction = out.chunk(2, dim=1)
        dist = posterior(x, out, step, variance_fraction=fraction, clip=clip)
        x = ddpm_step(dist, noise(), step)
    return x
