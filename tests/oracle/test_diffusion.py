"""Samplers against closed forms: data that is Gaussian has an ideal denoiser."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from osasis.diffusion.ddim import ddim_step, predict_x0
from osasis.diffusion.ddpm import posterior, q_sample
from osasis.diffusion.noise import SeededNoise
from osasis.diffusion.route import Route
from osasis.diffusion.sample import EpsModel, ancestral, ddim
from osasis.diffusion.schedule import (
    IMAGE_SCHEDULE,
    LATENT_SCHEDULE,
    TimestepGrid,
)

MEAN, SPREAD = 0.3, 0.2  # of the Gaussian data


def ideal_denoiser(mean: float, spread: float) -> EpsModel:
    """E[eps | x_t] for data N(mean, spread^2), per pixel, in float64."""

    def model(x_t: Tensor, t: Tensor) -> Tensor:
        ab = torch.as_tensor(IMAGE_SCHEDULE.alpha_bar)[t][:, None, None, None]
        variance = ab * spread**2 + 1 - ab
        return (1 - ab).sqrt() * (x_t - ab.sqrt() * mean) / variance

    return model


def exact_flow(x: Tensor, ab_from: float, ab_to: float) -> Tensor:
    """Where the probability-flow ODE carries x: the same quantile of the marginal."""
    deviation = math.sqrt(ab_from * SPREAD**2 + 1 - ab_from)
    quantile = (x - math.sqrt(ab_from) * MEAN) / deviation
    return math.sqrt(ab_to) * MEAN + math.sqrt(ab_to * SPREAD**2 + 1 - ab_to) * quantile


def start(count: int = 64, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return MEAN + SPREAD * torch.randn(count, 3, 2, 2, generator=rng, dtype=torch.float64)


def test_schedule_closed_form() -> None:
    betas = np.linspace(1e-4, 0.02, 1000)
    expected = np.exp(np.cumsum(np.log1p(-betas)))
    np.testing.assert_allclose(IMAGE_SCHEDULE.alpha_bar, expected, rtol=1e-12)
    np.testing.assert_allclose(LATENT_SCHEDULE.alpha_bar, 0.992 ** np.arange(1, 1001), rtol=1e-12)


@pytest.mark.parametrize("upwards", [True, False])
def test_ddim_error_falls_at_first_order(upwards: bool) -> None:
    model, errors = ideal_denoiser(MEAN, SPREAD), []
    for count in (25, 50, 100, 200):
        grid = TimestepGrid.until(500, count)
        steps = grid.inversion() if upwards else grid.decoding(to_clean=False)
        x = start() if upwards else exact_flow(start(), 1.0, steps[0].alpha_bar_t)
        exact = exact_flow(x, steps[0].alpha_bar_t, steps[-1].alpha_bar_s)
        errors.append(float((ddim(model, x, steps, clip=False) - exact).norm()))
    orders = [math.log2(a / b) for a, b in zip(errors, errors[1:], strict=False)]
    assert orders[-1] == pytest.approx(1.0, abs=0.15), (errors, orders)


def test_round_trip_error_halves_with_twice_the_steps() -> None:
    model, x0 = ideal_denoiser(MEAN, SPREAD), start()

    def error(steps: int) -> float:
        route = Route(steps, steps)
        x_t0 = ddim(model, x0, route.inversion(), clip=False)
        return float((ddim(model, x_t0, route.decoding(), clip=False) - x0).abs().mean())

    errors = [error(steps) for steps in (100, 200, 400)]
    assert errors[0] < 0.02
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(2, rel=0.1)


def test_routes_meet_at_t0() -> None:
    for ratio in (0.2, 0.5, 1.0):
        route = Route(50, 20, ratio)
        up, down = route.inversion(), route.decoding()
        assert down[0].alpha_bar_t == up[-1].alpha_bar_s
        assert down[0].t == route.t0
        assert down[-1].alpha_bar_s == up[0].alpha_bar_t
        assert len(up) == round(50 * ratio) and len(down) == round(20 * ratio)
    release = Route(50, 20, shared_grid=False)
    assert release.inversion()[-1].alpha_bar_s == IMAGE_SCHEDULE.alpha_bar[500]
    assert release.decoding()[0].t == 450


def test_ancestral_recovers_the_data() -> None:
    torch.manual_seed(0)
    x_T = torch.randn(2000, 1, 2, 2, dtype=torch.float64)
    out = ancestral(
        ideal_denoiser(MEAN, SPREAD),
        x_T,
        TimestepGrid.evenly(1000).decoding(),
        lambda: torch.randn(x_T.shape, dtype=torch.float64),
        clip=False,
    )
    assert float(out.mean()) == pytest.approx(MEAN, abs=0.01)
    assert float(out.std()) == pytest.approx(SPREAD, rel=0.05)


def test_steps_invert_the_forward_process() -> None:
    x0 = start(2)
    eps = torch.randn(x0.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    step = TimestepGrid.ddim(50).decoding(25)[0]
    x_t = q_sample(x0, eps, step.alpha_bar_t)
    torch.testing.assert_close(predict_x0(x_t, eps, step.alpha_bar_t), x0)
    moved, _ = ddim_step(x_t, eps, step, clip=False)
    torch.testing.assert_close(moved, q_sample(x0, eps, step.alpha_bar_s))


def test_clipping_limits_x0_and_keeps_x_t_consistent() -> None:
    step = TimestepGrid.ddim(50).decoding(25)[0]
    x_t = torch.full((1, 3, 2, 2), 3.0, dtype=torch.float64)
    moved, x0_hat = ddim_step(x_t, torch.zeros_like(x_t), step)
    assert float(x0_hat.max()) == 1.0
    eps = (x_t - math.sqrt(step.alpha_bar_t)) / math.sqrt(1 - step.alpha_bar_t)
    torch.testing.assert_close(moved, q_sample(x0_hat, eps, step.alpha_bar_s))


def test_learned_variance_spans_its_bounds() -> None:
    step = TimestepGrid.evenly(50).decoding(25)[0]
    x_t = start(1)
    ones = torch.ones_like(x_t)
    high = posterior(x_t, x_t, step, variance_fraction=ones).log_variance
    low = posterior(x_t, x_t, step, variance_fraction=-ones).log_variance
    fixed = posterior(x_t, x_t, step).log_variance
    beta = 1 - step.alpha_bar_t / step.alpha_bar_s
    torch.testing.assert_close(high, torch.full_like(high, math.log(beta)))
    torch.testing.assert_close(low, fixed)


def test_noise_of_a_seed_does_not_depend_on_its_batch() -> None:
    device = torch.empty(0).device
    together = SeededNoise([5, 6, 7], (3, 4, 4), device)
    alone = SeededNoise([6], (3, 4, 4), device)
    for _ in range(2):
        torch.testing.assert_close(together()[1:2], alone(), rtol=0, atol=0)


@pytest.mark.parametrize("timesteps", [(5,), (3, 2), (0, 1000), (-1, 4)])
def test_bad_grids_are_refused(timesteps: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"grid|increase"):
        TimestepGrid(timesteps)


def test_nodes_of_a_power() -> None:
    assert TimestepGrid.until(500, 5).timesteps == (0, 100, 200, 300, 400, 500)
    assert TimestepGrid.until(500, 5, power=1.5).timesteps == (0, 45, 126, 232, 358, 500)
    half = Route(14, 14, spacing="time^1.5")
    assert len(half.inversion()) == len(half.decoding()) == 7
    route = Route(8, 8, spacing="time^1.5")
    for t0 in (1, 100, 500, 1000):
        up, down = route.until(t0).inversion(), route.until(t0).decoding()
        assert up[-1].alpha_bar_s == down[0].alpha_bar_t
        assert [s.alpha_bar_t for s in up] == [s.alpha_bar_s for s in reversed(down)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"spacing": "sigma"},
        {"shared_grid": False, "spacing": "time^1.5"},
    ],
)
def test_wrong_routes_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be|equal in time"):
        Route(8, 8, **wrong)
