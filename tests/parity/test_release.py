"""A whole released stylization and a whole released learning iteration of ten updates."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor
from torch.nn import functional as F

from osasis.config.presets import RELEASE
from osasis.diffusion.sample import ddim
from osasis.diffusion.schedule import TimestepGrid
from osasis.learn.critic import DirectionCritic
from osasis.learn.losses import style_targets
from osasis.learn.objectives import direction_judge
from osasis.learn.update import Branch, Student, update
from osasis.models.diffae import invert
from osasis.perception.judges import VggJudges
from osasis.stylize.decode import decode
from osasis.stylize.model import StyledModel, StylePart

from .builders import build_diffae, build_spn
from .conftest import Golden, compare

ROUTE = RELEASE.learn_route  # 25 of 50 steps up, 10 of 20 down: the goldens' stylization too


class Stub:
    """The goldens' embedder, and their perceptual stand-in in LPIPS' place."""

    name, dim = "stub", 0

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight

    def __call__(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(x, 4).flatten(1) @ self.weight.T

    def normalise(self, activations: list[Tensor]) -> list[Tensor]:
        return activations

    def distance(self, x: list[Tensor], y: list[Tensor]) -> Tensor:
        return (x[0] - y[0]).square().flatten(1).mean(1)


def stub_critic(weight: Tensor) -> DirectionCritic:
    """The critic that `release` has, around the goldens' stand-ins."""
    stub = Stub(weight)
    judges = VggJudges(lambda x: [x], stub, stub)  # type: ignore[arg-type]
    return DirectionCritic(judges, stub)


def test_stylization(osasis_golden: Golden) -> None:
    g, model = osasis_golden, build_diffae(osasis_golden)
    with torch.no_grad():
        z_sem = model.encode(g["x0"])
        x_t0 = invert(model, g["x0"], z_sem, ROUTE)
        z_style = model.encode(g["style_B"])
        part = StylePart(1.0, z_style, (0, 1), build_spn(g), RELEASE.spn)
        styled = StyledModel(model, (part,), strength=1.0, swap_codes=False)
        out = decode(styled, (g["x0"],), x_t0, z_sem, ROUTE)
    compare("release stylization", out, g["stylize20_final"])


def test_stylization_step_by_step(osasis_golden: Golden) -> None:
    g, model, spn = osasis_golden, build_diffae(osasis_golden), build_spn(osasis_golden)
    mixed = model.mixed(g["z_style_B"], g["z_sem"], (0, 1))
    x = g["invert50_after_25"]
    with torch.no_grad():
        for step in TimestepGrid.ddim(20).decoding(10):
            index = torch.full((2,), step.index)
            x = ddim(
                lambda x, t: model.eps(x, t, mixed),
                x,
                [step],
                spn_term=lambda _, i=index: RELEASE.spn.lambda_spn * spn(g["x0"], i),
            )
            if f"stylize20_sample_{step.index}" in g.arrays:
                compare("release stylization", x, g[f"stylize20_sample_{step.index}"])


def test_learning_iteration(osasis_golden: Golden) -> None:
    g, base = osasis_golden, build_diffae(osasis_golden)
    student = Student(build_diffae(g), build_spn(g))
    critic = stub_critic(g.weights("stub_embedder.")["weight"])
    with torch.no_grad():
        z_in, z_style = base.encode(g["x0"]), base.encode(g["style_A"])
        content = Branch(g["x0"], z_in, invert(base, g["x0"], z_in, ROUTE))
        style = Branch(g["style_A"], z_style, invert(base, g["style_A"], z_style, ROUTE))
    compare("release learning: codes", content.x_t, g["train_x_t0_content"])
    compare("release learning: codes", style.x_t, g["train_x_t0_style"])
    targets = style_targets(g["style_A"], g["style_B"], critic)
    seen = critic.embed(g["x0"])
    optimizers = [
        torch.optim.Adam(student.diffae.unet.parameters(), lr=RELEASE.lr_unet),
        torch.optim.Adam(student.spn.parameters(), lr=RELEASE.lr_spn),
    ]
    losses = []
    for step in ROUTE.decoding():
        judge = direction_judge(seen, targets, critic, RELEASE.weights, lambda x0: x0)
        result = update(student, optimizers, content, style, step, judge, RELEASE.spn, route=ROUTE)
        if not losses:
            check_first_update(g, student, result.prediction)
        losses.append(list(result.losses.values()))
        content = dataclasses.replace(content, x_t=result.prediction.content_next)
        style = dataclasses.replace(style, x_t=result.prediction.style_next)
    expected = g["train_losses_total_cross_in_clip_l1_lpips"]
    compare("release learning: losses", torch.tensor(losses, dtype=torch.float64), expected)
    compare("release learning: final", content.x_t, g["train_final_x_content"])
    compare("release learning: final", style.x_t, g["train_final_x_style"])
    unet, spn = student.diffae.unet, student.spn
    compare("release learning: weights", spn.conv_last.weight, g["train_spn_out_layer_after"])
    compare("release learning: weights", unet.conv_final.weight, g["train_unet_out_after"])


def check_first_update(g: Golden, student: Student, prediction) -> None:
    compare("release learning: x0_hat", prediction.content_x0_hat, g["train_first_x0hat_content"])
    compare("release learning: x0_hat", prediction.style_x0_hat, g["train_first_x0hat_style"])
    unet, spn = student.diffae.unet, student.spn
    compare(
        "release learning: gradients",
        spn.conv_last.weight.grad,
        g["train_first_grad_spn_out_layer"],
    )
    compare(
        "release learning: gradients", unet.conv_final.weight.grad, g["train_first_grad_unet_out"]
    )
