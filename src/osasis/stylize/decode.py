"""Inversion with the photo's own code, decoding with mixed codes and SPN (METHOD 3)."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from osasis.diffusion.route import Route
from osasis.diffusion.sample import ddim
from osasis.diffusion.schedule import Step
from osasis.models.diffae import DiffAE
from osasis.style.config import SPNSettings
from osasis.style.update import Student, spn_term


def invert(diffae: DiffAE, x0: Tensor, z_sem: Tensor, route: Route) -> Tensor:
    """Structural codes x_t0 of photos, conditioned on their own z_sem (Eq. 11).

    Args:
        x0: (B, 3, H, W) in [-1, 1].
        z_sem: (B, z_dim).
    """
    conditioning = diffae.plain(z_sem)
    return ddim(lambda x, t: diffae.eps(x, t, conditioning), x0, route.inversion(), clip=route.clip)


def decode_styled(
    student: Student,
    x0: Tensor,
    x_t0: Tensor,
    z_content: Tensor,
    z_style: Tensor,
    *,
    route: Route,
    spn: SPNSettings,
    style_levels: Iterable[int],
) -> Tensor:
    """Decode structural codes with eps_B, SPN and mixed conditioning (Eqs. 12 to 14).

    Args:
        x0: (B, 3, H, W) the photos, for the SPN.
        x_t0: (B, 3, H, W) their structural codes.
        z_content: (B, z_dim) their semantic codes.
        z_style: (1, z_dim) code of the style image.
        style_levels: levels that see `z_style`.

    Returns:
        (B, 3, H, W) pictures, about [-1, 1].
    """
    diffae = student.diffae
    conditioning = diffae.mixed(z_style, z_content, style_levels)

    def structure(step: Step) -> Tensor:
        return spn.weight * spn_term(student.spn, x0, step, index_time=spn.index_time)

    return ddim(
        lambda x, t: diffae.eps(x, t, conditioning),
        x_t0,
        route.decoding(),
        clip=route.clip,
        structure=structure if spn.weight else None,
    )
