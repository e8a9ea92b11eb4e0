"""One update of a style: predict, judge, step (Eqs. 12 to 14)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor
from torch.optim import Optimizer

from osasis.config.presets import SPNSettings
from osasis.device import is_out_of_memory, mixed_precision
from osasis.diffusion.ddim import ddim_step
from osasis.diffusion.route import Route
from osasis.diffusion.sample import timesteps
from osasis.diffusion.schedule import Step
from osasis.errors import OsasisError
from osasis.learn.micro_batches import MicroBatches
from osasis.models.conditioning import Conditioning
from osasis.models.diffae import DiffAE
from osasis.models.spn import SPN, spn_term


@dataclass(frozen=True)
class Batch:
    """Tensors of several pictures, which their first dimension counts."""

    def __getitem__(self, rows: slice) -> Self:
        """Some of the pictures."""
        return type(self)(*(getattr(self, field.name)[rows] for field in fields(self)))

    @classmethod
    def cat(cls, parts: Sequence[Self]) -> Self:
        """Several batches as one, in order, without gradients."""
        columns = ([getattr(part, field.name) for part in parts] for field in fields(cls))
        return cls(*(torch.cat(column).detach() for column in columns))


@dataclass(frozen=True)
class Branch(Batch):
    """Photos on their way down: what they were, what conditions them, where they are.

    Attributes:
        x0: (B, C, H, W) what the SPN sees of the photos I_A.
        z_sem: (B, z_dim) their codes.
        x_t: (B, C, H, W) samples at the current timestep.
    """

    x0: Tensor
    z_sem: Tensor
    x_t: Tensor


Judge = Callable[["Prediction", slice], dict[str, Tensor]]
"""Weighted losses of a part of an update: what is predicted, and which of its photos that is.

The losses of all parts add up to those of the update.
"""


@dataclass(frozen=True)
class Student:
    """What learns: eps_B (a copy of the base) and the SPN.

    Attributes:
        mixed_precision: whether eps_B multiplies in bfloat16, see `LearnConfig`.
    """

    diffae: DiffAE
    spn: SPN
    mixed_precision: bool = False

    def eps(self, x_t: Tensor, t: Tensor, conditioning: Conditioning) -> Tensor:
        """What eps_B predicts, (B, 3, H, W) in the dtype of `x_t`."""
        with mixed_precision(x_t.device, wanted=self.mixed_precision, on_cpu=True):
            eps_hat = self.diffae.eps(x_t, t, conditioning)
        return eps_hat.to(x_t.dtype)


@dataclass(frozen=True)
class Prediction(Batch):
    """x0_hat and the next sample of both branches."""

    content_x0_hat: Tensor
    style_x0_hat: Tensor
    content_next: Tensor
    style_next: Tensor


def predict(
    student: Student, content: Branch, style: Branch, step: Step, spn: SPNSettings, *, route: Route
) -> Prediction:
    """Move both branches one step of `route` with eps_B and SPN (Eqs. 12 to 14), in one batch.

    Either branch may be empty.
    """
    x0 = torch.cat([content.x0, style.x0])
    count = len(content.x0)
    factor = torch.full((len(x0), 1, 1, 1), spn.lambda_spn, dtype=x0.dtype, device=x0.device)
    factor[count:] = spn.style_lambda
    term = factor * spn_term(student.spn, x0, step, index_time=spn.index_time)
    x_t = torch.cat([content.x_t, style.x_t]) + term
    z_sem = torch.cat([content.z_sem, style.z_sem])
    conditioning = Conditioning.plain(z_sem, student.diffae.num_levels)
    eps_hat = student.eps(x_t, timesteps(x_t, step.t), conditioning)
    x_s, x0_hat = ddim_step(x_t, eps_hat, step, clip=route.clip)
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
    step: Step,
    judge: Judge,
    spn: SPNSettings,
    *,
    route: Route,
    micro_batches: MicroBatches | None = None,
) -> UpdateResult:
    """One update of eps_B and SPN through a single step of the walk down from t0.

    A loss or gradient that is not finite leaves the weights as they were.

    Args:
        style: of the style image, which the paper's losses redraw too; it may be empty.
        route: what `step` is a move of.
        micro_batches: how many pictures, the style image among them, are in memory at once; the
            gradients are those of the whole batch up to rounding, unless dropout is active. None
            begins with all.

    Raises:
        OsasisError: too little memory for one picture, or for the optimiser's step.
    """

    def differentiate(at_once: int) -> tuple[dict[str, Tensor], Prediction]:
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        parts = []
        for first in range(0, pictures, at_once):
            part = slice(first, first + at_once)
            # the style image is the last of the pictures
            last = slice(0, len(style.x0) if part.stop >= pictures else 0)
            predicted = predict(student, content[part], style[last], step, spn, route=route)
            losses = judge(predicted, part)
            torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
            parts.append((losses, predicted))
        return _sums([losses for losses, _ in parts]), Prediction.cat([p for _, p in parts])

    pictures = len(content.x0) + len(style.x0)
    losses, prediction = (micro_batches or MicroBatches(pictures)).attempt(differentiate, pictures)
    trained = [p for o in optimizers for group in o.param_groups for p in group["params"]]
    gradients = [p.grad for p in trained if p.grad is not None]
    norms = torch.stack(torch._foreach_norm(gradients))
    finite = bool(
        torch.isfinite(torch.stack(list(losses.values()))).all() and norms.isfinite().all()
    )
    if finite:
        _step(optimizers)
    numbers = {name: float(value) for name, value in losses.items()}
    return UpdateResult({"total": sum(numbers.values()), **numbers}, prediction, finite)


def _sums(parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Sums of the losses over the parts of an update, in the order in which they come first."""
    names = dict.fromkeys(name for part in parts for name in part)
    found = {name: [p[name].detach() for p in parts if name in p] for name in names}
    return {name: torch.stack(values).sum() for name, values in found.items()}


def _step(optimizers: Sequence[Optimizer]) -> None:
    try:
        for optimizer in optimizers:
            optimizer.step()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        # weights may be half changed, so that trying again would be wrong
        raise OsasisError(
            "too little memory for Adam's step", hint="end other programs that use the device"
        ) from error
