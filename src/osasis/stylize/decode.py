"""Inversion with the photo's own code, decoding with mixed codes and SPN (METHOD 3)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from osasis.diffusion.route import Route
from osasis.diffusion.sample import EpsModel, follow
from osasis.models.conditioning import Conditioning
from osasis.models.diffae import DiffAE
from osasis.stylize.model import StyledModel


def decode(
    model: StyledModel,
    inputs: Sequence[Tensor],
    x_t0: Tensor,
    z_sem: Tensor,
    route: Route,
    *,
    z_edited: Tensor | None = None,
    guidance: float = 1.0,
) -> Tensor:
    """Decode structural codes with eps_B, SPN and mixed conditioning (Eqs. 12 to 14).

    Args:
        inputs: what the SPN of each part sees of the photos, see `StyledModel.dressed`.
        x_t0: (B, C, H, W) their structural codes.
        z_sem: (B, z_dim) their semantic codes.
        z_edited: (B, z_dim) what takes the place of `z_sem`; None for no edit.
        guidance: see `guided`; 1 costs one evaluation a step, all else two.

    Returns:
        (B, C, H, W) x0 of the pictures.
    """
    own = model.conditioning(z_sem)
    edited = own if z_edited is None else model.conditioning(z_edited)
    weight = 1.0 if z_edited is None else guidance
    return follow(
        guided(model.diffae, own, edited, weight),
        x_t0,
        route,
        route.decoding(),
        spn_term=model.spn_term(inputs),
    )


def guided(diffae: DiffAE, own: Conditioning, edited: Conditioning, guidance: float) -> EpsModel:
    """`eps_hat = eps(own) + guidance * (eps(edited) - eps(own))`.

    Classifier-free guidance (2207.12598, Eq. 6) with the photo's own code in place of the null
    code: what an edit changes in the prediction is made larger, all else stays.
    """
    if guidance == 1:
        return lambda x, t: diffae.eps(x, t, edited)

    def model(x: Tensor, t: Tensor) -> Tensor:
        return torch.lerp(diffae.eps(x, t, own), diffae.eps(x, t, edited), guidance)

    return model
