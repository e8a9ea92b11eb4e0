"""The forward process and the ancestral step of DDPM, with fixed or learned variance."""

from __future__ import annotations

import math
from math import sqrt
from typing import NamedTuple

import torch
from torch import Tensor

from osasis.diffusion.ddim import predict_x0
from osasis.diffusion.schedule import Step


def q_sample(x0: Tensor, noise: Tensor, alpha_bar_t: float | Tensor) -> Tensor:
    """Noise images to `alpha_bar_t`, one for all or one each, at once (Eq. 9; DDPM Eq. 4)."""
    return alpha_bar_t**0.5 * x0 + (1 - alpha_bar_t) ** 0.5 * noise


def velocity(x0: Tensor, noise: Tensor, alpha_bar_t: float | Tensor) -> Tensor:
    """The target of v-prediction, `sqrt(ab) * eps - sqrt(1 - ab) * x0` (2202.00512)."""
    return alpha_bar_t**0.5 * noise - (1 - alpha_bar_t) ** 0.5 * x0


class Posterior(NamedTuple):
    """Mean and log variance of `q(x_s | x_t, x0_hat)`, and x0_hat, each (B, 3, H, W)."""

    mean: Tensor
    log_variance: Tensor
    x0_hat: Tensor


def posterior(
    x_t: Tensor,
    eps_hat: Tensor,
    step: Step,
    *,
    variance_fraction: Tensor | None = None,
    floor: float = 1e-20,
    clip: bool = True,
) -> Posterior:
    """The reverse distribution of one move (Eq. 10; DDPM Eqs. 6, 7).

    Args:
        variance_fraction: network output in about [-1, 1] that interpolates the log variance
            between the posterior's and beta (2102.09672 Eq. 15); None uses the posterior's.
        floor: lower bound of the posterior variance; the last move's is 0.
        clip: limit x0_hat to [-1, 1].
    """
    alpha = step.alpha_bar_t / step.alpha_bar_s
    beta = 1 - alpha
    x0_hat = predict_x0(x_t, eps_hat, step.alpha_bar_t)
    if clip:
        x0_hat = x0_hat.clamp(-1, 1)
    remaining = 1 - step.alpha_bar_t
    mean = (sqrt(step.alpha_bar_s) * beta / remaining) * x0_hat
    mean = mean + (sqrt(alpha) * (1 - step.alpha_bar_s) / remaining) * x_t
    low = math.log(max(beta * (1 - step.alpha_bar_s) / remaining, floor))
    if variance_fraction is None:
        return Posterior(mean, torch.full_like(mean, low), x0_hat)
    fraction = (variance_fraction + 1) / 2
    return Posterior(mean, fraction * math.log(beta) + (1 - fraction) * low, x0_hat)


def ddpm_step(dist: Posterior, noise: Tensor, step: Step) -> Tensor:
    """Draw from the reverse distribution; the move to the clean image takes its mean."""
    if step.alpha_bar_s == 1.0:
        return dist.mean
    return dist.mean + (0.5 * dist.log_variance).exp() * noise
