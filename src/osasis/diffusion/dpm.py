"""The second-order multistep step of DPM-Solver++, one function for decoding and inversion."""

from __future__ import annotations

from math import sqrt
from typing import NamedTuple

from torch import Tensor

from osasis.diffusion.ddim import predict_x0
from osasis.diffusion.schedule import Step, half_log_snr


class Earlier(NamedTuple):
    """What the move before the present one predicted.

    Attributes:
        x0_hat: (B, 3, H, W).
        alpha_bar: that of the sample it was predicted from.
    """

    x0_hat: Tensor
    alpha_bar: float


def dpm_step(
    x_t: Tensor, eps_hat: Tensor, step: Step, earlier: Earlier | None, *, clip: bool = True
) -> tuple[Tensor, Tensor]:
    """Move `x_t` from alpha_bar_t to alpha_bar_s by DPM-Solver++(2M) (2211.01095, algorithm 2).

    x0_hat is taken to be linear in lambda, through this prediction and the earlier one, and the
    flow is integrated exactly in what remains. (The published step replaces the integral of the
    linear part by its limit for short moves; ours is exact, which matters for the long moves
    of inversion.) Without an earlier prediction, and to the clean image, it is the DDIM step.

    Args:
        x_t: (B, 3, H, W) sample at `step.alpha_bar_t`.
        eps_hat: (B, 3, H, W) predicted noise.
        step: the move; down the grid it decodes, up the grid it inverts.
        earlier: the prediction before; None for the first move.
        clip: limit x0_hat to [-1, 1].

    Returns:
        The sample at `step.alpha_bar_s`, and x0_hat.
    """
    x0_hat = predict_x0(x_t, eps_hat, step.alpha_bar_t)
    if clip:
        x0_hat = x0_hat.clamp(-1, 1)
    sigma_ratio = sqrt((1 - step.alpha_bar_s) / (1 - step.alpha_bar_t))
    alpha_s = sqrt(step.alpha_bar_s)
    if step.alpha_bar_s == 1.0:
        return x0_hat, x0_hat
    decay = sigma_ratio * sqrt(step.alpha_bar_t) / alpha_s  # exp(-h), h the way in lambda
    x_s = sigma_ratio * x_t + alpha_s * (1 - decay) * x0_hat
    if earlier is not None:
        now = half_log_snr(step.alpha_bar_t)
        h = half_log_snr(step.alpha_bar_s) - now
        slope = (x0_hat - earlier.x0_hat) / (now - half_log_snr(earlier.alpha_bar))
        x_s = x_s + alpha_s * (h - 1 + decay) * slope
    return x_s, x0_hat
