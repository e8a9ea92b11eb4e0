"""The deterministic DDIM step, one function for decoding and inversion."""

from __future__ import annotations

from math import sqrt

from torch import Tensor

from osasis.diffusion.schedule import Step


def predict_x0(x_t: Tensor, eps_hat: Tensor, alpha_bar_t: float) -> Tensor:
    """`x0_hat = (x_t - sqrt(1 - ab_t) * eps_hat) / sqrt(ab_t)` (Eq. 4; DDIM Eq. 9).

    Written as the released program rounds it, with both factors divided by sqrt(ab_t) first.
    """
    return sqrt(1 / alpha_bar_t) * x_t - sqrt(1 / alpha_bar_t - 1) * eps_hat


def ddim_step(
    x_t: Tensor, eps_hat: Tensor, step: Step, *, clip: bool = True
) -> tuple[Tensor, Tensor]:
    """Move `x_t` from alpha_bar_t to alpha_bar_s (Eqs. 5, 8, 11, 14; DDIM Eq. 12 with eta 0).

    Args:
        x_t: (B, 3, H, W) sample at `step.alpha_bar_t`.
        eps_hat: (B, 3, H, W) predicted noise.
        step: the move; down the grid it decodes, up the grid it inverts.
        clip: limit x0_hat to [-1, 1] and re-derive eps_hat from it (the released program).

    Returns:
        The sample at `step.alpha_bar_s`, and x0_hat.
    """
    x0_hat = predict_x0(x_t, eps_hat, step.alpha_bar_t)
    if clip:
        x0_hat = x0_hat.clamp(-1, 1)
        if step.alpha_bar_t < 1:
            scaled = sqrt(1 / step.alpha_bar_t) * x_t
            eps_hat = (scaled - x0_hat) / sqrt(1 / step.alpha_bar_t - 1)
    x_s = sqrt(step.alpha_bar_s) * x0_hat + sqrt(1 - step.alpha_bar_s) * eps_hat
    return x_s, x0_hat
