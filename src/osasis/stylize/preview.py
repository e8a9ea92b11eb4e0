"""A preview of a style without learning it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from PIL import Image

from osasis._version import __version__
from osasis.base import Base
from osasis.config.presets import FAST, PAPER, SPNSettings
from osasis.diffusion.route import Route
from osasis.formats.style_file import Style, StyleManifest
from osasis.imaging.load import load_image
from osasis.imaging.tensors import fit_square, to_tensor
from osasis.learn.learner import default_style_levels
from osasis.learn.regions import spn_channels, wardrobe
from osasis.models.spn import new_spn

PREVIEW = "preview"  # the preset's name in the manifest
_SPN = SPNSettings(channels=32, timed=False, lambda_spn=0.0, zero_init=True)
# looked at: at the usual 500 there is a tint, at 900 the picture's colours arrive
_MIXED = replace(
    PAPER,
    preset=PREVIEW,
    iterations=0,
    stylize_route=Route(20, 20, t0_ratio=0.9),
    spn=_SPN,
    embedder="none",
)
_DRESSED = replace(FAST, preset=PREVIEW, iterations=0, spn=_SPN)


def preview_style(base: Base, image: str | Path | Image.Image, *, name: str | None = None) -> Style:
    """A style in which nothing is learned; it takes a second.

    On a base with regions photos are dressed as `fast` dresses them (palette and contrast of each
    region, no strokes). On others codes alone are mixed, with eps_A in place of eps_B and
    without SPN: the base with the picture's z_sem on the low levels.

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
    x0 = base.to_x0(to_tensor(picture).to(base.device))
    tensors = {"z_style": base.encode_x0(x0)}
    channels = inputs = x0.shape[1]
    levels, config = default_style_levels(base.num_levels), _MIXED
    if base.regions is not None:
        clothes, _ = wardrobe(x0, base.region_maps(x0), base.usual_regions())
        levels, config = (), _DRESSED
        inputs = spn_channels(channels, dress=config.dress, face=clothes.face)
        tensors |= clothes.tensors()
    spn = new_spn(_SPN, inputs, channels)
    tensors |= {f"spn.{k}": v for k, v in spn.state_dict().items()}
    manifest = StyleManifest(
        name=name,
        base_name=base.name,
        base_hash=base.hash,
        preset=PREVIEW,
        seed=0,
        embedder="none",
        lambda_spn=_SPN.lambda_spn,
        style_levels=levels,
        updates=0,
        version=__version__,
        config=config,
        content="none",
    )
    return Style(manifest, picture, tensors)
