"""A preview of a style without learning it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from PIL import Image

from osasis._version import __version__
from osasis.base import Base
from osasis.config.presets import PAPER, SPNSettings
from osasis.diffusion.route import Route
from osasis.formats.style_file import Style, StyleManifest
from osasis.imaging.load import load_image
from osasis.imaging.tensors import fit_square, to_tensor
from osasis.learn.learner import default_style_levels
from osasis.models.spn import new_spn

PREVIEW = "preview"  # the preset's name in the manifest
# looked at: at the usual 500 there is a tint, at 900 the picture's colours arrive
_ROUTE = Route(20, 20, t0_ratio=0.9)
_SPN = SPNSettings(channels=32, timed=False, lambda_spn=0.0, zero_init=True)


def preview_style(base: Base, image: str | Path | Image.Image, *, name: str | None = None) -> Style:
    """A style in which nothing is learned: the base with the picture's z_sem on the low levels.

    That is the mixing of codes of METHOD 3 alone, with eps_A in place of eps_B and without SPN. It
    takes seconds, shows where the style's code pulls colours and textures, and is far weaker than
    a learned style.

    Args:
        base: the base that will redraw photos.
        image: the style picture; its central square is used.
        name: what to call it; None takes the file's name.

    Raises:
        UserError: a picture that cannot be read.
    """
    if name is None:
        name = "picture" if isinstance(image, Image.Image) else Path(image).stem
    picture = fit_square(load_image(image), base.image_size)
    channels = base.x0_shape[0]
    spn = new_spn(_SPN, channels, channels)
    tensors = {f"spn.{k}": v for k, v in spn.state_dict().items()}
    tensors["z_style"] = base.encode(to_tensor(picture))
    manifest = StyleManifest(
        name=name,
        base_name=base.name,
        base_hash=base.hash,
        preset=PREVIEW,
        seed=0,
        embedder="none",
        lambda_spn=_SPN.lambda_spn,
        style_levels=default_style_levels(base.num_levels),
        updates=0,
        version=__version__,
        config=replace(
            PAPER, preset=PREVIEW, iterations=0, stylize_route=_ROUTE, spn=_SPN, embedder="none"
        ),
    )
    return Style(manifest, picture, tensors)
