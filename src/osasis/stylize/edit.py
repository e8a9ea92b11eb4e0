"""Edits of what a photo shows, as changes of its z_sem."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from osasis.base import Base
from osasis.config.controls import Controls
from osasis.diffusion.route import Route
from osasis.errors import UserError

Edit = Callable[[Tensor, Tensor], Tensor]
"""`z_edited = edit(x0, z_sem)`: x0 of photos (B, C, H, W) and their codes (B, z_dim)."""

EDIT_ROUTE = Route(20, 20, t0_ratio=1.0)
ATTRIBUTE_GUIDANCE = 2.0


def guidance_of(controls: Controls, *, styled: bool) -> float:
    """The guidance asked for, else what suits by measurement: more for attributes alone."""
    if controls.guidance is not None:
        return controls.guidance
    return ATTRIBUTE_GUIDANCE if controls.attributes and not controls.text and not styled else 1.0


class AttributeEdit:
    """Moves z_sem along a base's attribute directions (DiffAE section 4, "attribute manipulation").

    Args:
        base: a base with directions.
        amounts: by attribute name; 1 is the way from the mean of the photos without the attribute
            to the mean of those with it, a negative amount the way back.

    Raises:
        UserError: the base has no directions, or none of that name, or an amount is not finite.
    """

    def __init__(self, base: Base, amounts: Mapping[str, float]) -> None:
        check_attributes(base, amounts)
        bad = [f"{name}={a}" for name, a in amounts.items() if not -100 <= a <= 100]
        if bad:
            raise UserError(f"amounts must lie between -100 and 100, got {', '.join(bad)}")
        self._shift = sum(
            (amount * base.directions[name] for name, amount in amounts.items()),
            start=torch.zeros_like(base.z_mean),
        )

    def __call__(self, x0: Tensor, z_sem: Tensor) -> Tensor:
        """Codes (B, z_dim) moved by the same vector for every photo."""
        return z_sem + self._shift


def check_attributes(base: Base, names: Mapping[str, float]) -> None:
    """Refuse attributes that a base does not know.

    Raises:
        UserError: with the names it has.
    """
    if not base.directions:
        raise UserError(
            f"base {base.name!r} has no attribute directions, so that attributes cannot be edited",
            hint="`osasis models list` shows other bases (--base NAME); --text needs no directions",
        )
    unknown = [name for name in names if name not in base.directions]
    if unknown:
        raise UserError(
            f"base {base.name!r} has no attribute {', '.join(map(repr, unknown))}",
            hint=f"it has {', '.join(sorted(base.directions))}",
        )


def attribute_scores(base: Base, z_sem: Tensor) -> dict[str, Tensor]:
    """Where codes lie along a base's directions, (B,) by attribute.

    0 is the mean of the base's codes, and 1 is one step of a direction further: what
    `AttributeEdit` adds with amount 1 is what this measures as 1.

    Args:
        z_sem: (B, z_dim).
    """
    normalised = (z_sem - base.z_mean) / base.z_std
    scores = {}
    for name, direction in base.directions.items():
        step = direction / base.z_std
        scores[name] = normalised @ step / step.square().sum()
    return scores
