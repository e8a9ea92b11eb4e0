"""Networks and samplers against the released ones, number by number."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from osasis.diffusion.ddim import ddim_step
from osasis.diffusion.ddpm import posterior, q_sample
from osasis.diffusion.sample import ddim
from osasis.diffusion.schedule import IMAGE_SCHEDULE, TimestepGrid

from .builders import build_ddpm, build_diffae, build_latent_net, build_spn
from .conftest import Golden, compare

pytestmark = pytest.mark.usefixtures("no_grad")


@pytest.fixture
def no_grad():
    with torch.no_grad():
        yield


def test_semantic_encoder(osasis_golden: Golden) -> None:
    model = build_diffae(osasis_golden)
    compare("encoder", model.encode(osasis_golden["x0"]), osasis_golden["z_sem"])
    compare("encoder", model.encode(osasis_golden["style_B"]), osasis_golden["z_style_B"])


def test_unet(osasis_golden: Golden) -> None:
    g, model = osasis_golden, build_diffae(osasis_golden)
    compare("unet", model.eps(g["x_t"], g["t"], model.plain(g["z_sem"])), g["eps"])


def test_mixing(osasis_golden: Golden) -> None:
    g, model = osasis_golden, build_diffae(osasis_golden)
    names = [k for k in g.arrays if k.startswith("eps_mix_style_levels_")]
    assert names
    for name in names:
        levels = [int(digit) for digit in name.rsplit("_", 1)[1]]
        mixed = model.mixed(g["z_style_B"], g["z_sem"], levels)
        compare("mixing", model.eps(g["x_t"], g["t"], mixed), g[name])


def test_latent_net_and_its_ddim(osasis_golden: Golden) -> None:
    g, net = osasis_golden, build_latent_net(osasis_golden)
    compare("latent net", net(g["latent_z_t"], g["t"]), g["latent_eps"])
    steps = TimestepGrid.ddim(10).decoding()
    out = ddim(net, g["latent_z_t"], steps, clip=False)
    compare("latent DDIM", out, g["latent_ddim10_from_z_t"])


def test_spn(osasis_golden: Golden) -> None:
    g = osasis_golden
    index = torch.tensor([9, 0])  # positions on the 20-step grid, which the release gives the SPN
    compare("spn", build_spn(g)(g["x0"], index), g["spn_out"])
    untimed = build_spn(g, timed=False)
    compare("spn without time", untimed(g["x0"], g["t"]), g["spn_untimed_out"])


def test_grids(osasis_golden: Golden) -> None:
    g = osasis_golden
    grid = TimestepGrid.ddim(50)
    assert grid.timesteps == tuple(g.arrays["timesteps_ddim50"])
    assert TimestepGrid.ddim(20).timesteps == tuple(g.arrays["timesteps_ddim20"])
    ours = IMAGE_SCHEDULE.alpha_bar[list(grid.timesteps)]
    np.testing.assert_allclose(ours, g.arrays["alphas_cumprod"], rtol=1e-12)


def test_inversion_and_decoding(osasis_golden: Golden) -> None:
    g, model = osasis_golden, build_diffae(osasis_golden)
    cond = model.plain(g["z_sem"])
    for count in (1, 5, 25):
        steps = TimestepGrid.ddim(50).inversion(count)
        x_t = ddim(lambda x, t: model.eps(x, t, cond), g["x0"], steps)
        compare("inversion", x_t, g[f"invert50_after_{count}"])
    steps = TimestepGrid.ddim(20).decoding(10)
    decoded = ddim(lambda x, t: model.eps(x, t, cond), g["invert50_after_25"], steps)
    compare("decoding", decoded, g["decode20_plain"])


def test_ddpm_with_learned_variance(p2_golden: Golden) -> None:
    g, net = p2_golden, build_ddpm(p2_golden)
    out = net(g["x_t"], g["t"])
    compare("P2 unet", out, g["model_out"])
    grid = TimestepGrid.evenly(g.config["timestep_respacing"])
    assert grid.timesteps == tuple(g.arrays["timesteps_50"])
    steps = {step.index: step for step in grid.decoding()}
    eps_hat, fraction = out.chunk(2, dim=1)
    for i, index in enumerate(g.arrays["t_index"]):
        step = steps[int(index)]
        assert step.t == int(g.arrays["t"][i])
        x_t = g["x_t"][i : i + 1]
        dist = posterior(x_t, eps_hat[i : i + 1], step, variance_fraction=fraction[i : i + 1])
        compare("P2 posterior", dist.mean, g["mean"][i : i + 1])
        compare("P2 posterior", dist.log_variance.exp(), g["variance"][i : i + 1])
        compare("P2 posterior", dist.x0_hat, g["pred_xstart"][i : i + 1])


def test_stepwise_equals_loop(osasis_golden: Golden) -> None:
    """The loop adds nothing to the step."""
    g, model = osasis_golden, build_diffae(osasis_golden)
    step = TimestepGrid.ddim(50).inversion(1)[0]
    t = torch.full((2,), step.t)
    moved, _ = ddim_step(g["x0"], model.eps(g["x0"], t, model.plain(g["z_sem"])), step)
    compare("inversion", moved, g["invert50_after_1"])


def test_q_sample(p2_golden: Golden) -> None:
    g = p2_golden
    grid = TimestepGrid.evenly(g.config["timestep_respacing"])
    np.testing.assert_allclose(
        IMAGE_SCHEDULE.alpha_bar[list(grid.timesteps)], g.arrays["alphas_cumprod"], rtol=1e-12
    )
    middle = int(0.5 * len(grid.timesteps))  # the style image is noised to ratio 0.5
    alpha_bar = float(g.arrays["alphas_cumprod"][middle])
    compare("q_sample", q_sample(g["q_x0"], g["q_noise"], alpha_bar), g["q_sample"])
