"""One update of a style: predict, judge, step (METHOD 2.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import Optimizer

from osasis.diffusion.ddim import ddim_step
from osasis.diffusion.sample import timesteps
from osasis.diffusion.schedule import Step
from osasis.models.conditioning import Conditioning
from osasis.models.diffae import DiffAE
from osasis.models.spn import SPN, SPNConfig
from osasis.style.config import LossWeights, SPNSettings
from osasis.style.losses import Critic, Seen, StyleTargets, style_losses


@dataclass(frozen=True)
class Branch:
    """Photos on their way down: what they were, what conditions them, where they are.

    Attributes:
        x0: (B, 3, H, W) photos I_A; the SPN sees these.
        z_sem: (B, z_dim) their codes.
        x_t: (B, 3, H, W) samples at the current timestep.
    """

    x0: Tensor
    z_sem: Tensor
    x_t: Tensor


@dataclass(frozen=True)
class Student:
    """What learns: eps_B (a copy of the base) and the SPN."""

    diffae: DiffAE
    spn: SPN


def new_spn(settings: SPNSettings) -> SPN:
    """The SPN that a preset describes, its weights drawn from torch's generator."""
    time_dim = SPNConfig.time_dim if settings.timed else None
    return SPN(SPNConfig(settings.channels, time_dim, settings.zero_init))


def spn_term(spn: SPN, x0: Tensor, step: Step, *, index_time: bool) -> Tensor:
    """`SPN(I_A, t)` (Eq. 12), t being the timestep or, as in the release, the grid's index."""
    return spn(x0, timesteps(x0, step.index if index_time else step.t))


@dataclass(frozen=True)
class Prediction:
    """x0_hat and the next sample of both branches."""

    content_x0_hat: Tensor
    style_x0_hat: Tensor
    content_next: Tensor
    style_next: Tensor


def predict(
    student: Student, content: Branch, style: Branch, step: Step, spn: SPNSettings, *, clip: bool
) -> Prediction:
    """Move both branches one step with eps_B and SPN (Eqs. 12 to 14), in one batch."""
    x0 = torch.cat([content.x0, style.x0])
    count = len(content.x0)
    factor = torch.full((len(x0), 1, 1, 1), spn.weight, dtype=x0.dtype, device=x0.device)
    factor[count:] = spn.style_weight
    structure = factor * spn_term(student.spn, x0, step, index_time=spn.index_time)
    x_t = torch.cat([content.x_t, style.x_t]) + structure
    z_sem = torch.cat([content.z_sem, style.z_sem])
    conditioning = Conditioning.plain(z_sem, student.diffae.num_levels)
    eps_hat = student.diffae.eps(x_t, timesteps(x_t, step.t), conditioning)
    x_s, x0_hat = ddim_step(x_t, eps_hat, step, clip=clip)
    return Prediction(x0_hat[:count], x0_hat[count:], x_s[:count].detach(), x_s[count:].detach())


@dataclass(frozen=True)
class UpdateResult:
    """Losses as numbers, the prediction they judge, and whether the update was finite."""

    losses: dict[str, float]
    prediction: Prediction
    finite: bool


def update(
    student: Student,
    optimizers: Sequence[Optimizer],
    content: Branch,
    style: Branch,
    photos: Seen,
    step: Step,
    targets: StyleTargets,
    critic: Critic,
    spn: SPNSettings,
    weights: LossWeights,
    *,
    clip: bool,
) -> UpdateResult:
    """One update of eps_B and SPN through a single step of the walk down from t0.

    A loss or gradient that is not finite leaves the weights as they were.
    """
    prediction = predict(student, content, style, step, spn, clip=clip)
    parts = style_losses(
        prediction.content_x0_hat,
        prediction.style_x0_hat,
        photos,
        targets,
        critic,
        weights,
    )
    loss = torch.stack(list(parts.values())).sum()
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    trained = [p for o in optimizers for group in o.param_groups for p in group["params"]]
    gradients = [p.grad for p in trained if p.grad is not None]
    norms = torch.stack(torch._foreach_norm(gradients))
    finite = bool(torch.isfinite(loss) and torch.isfinite(norms).all())
    if finite:
        for optimizer in optimizers:
            optimizer.step()
    losses = {name: float(value.detach()) for name, value in parts.items()}
    return UpdateResult({"total": sum(losses.values()), **losses}, prediction, finite)
