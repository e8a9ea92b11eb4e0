"""The controls of stylizing: ranges, help and flags in one place, for all who redraw photos."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from osasis.config.tables import Checked, Range

Fit = Literal["auto", "faces", "crop", "tiles", "whole"]
# flags of the command line that are not the control's name with hyphens
FLAGS = {"strength": "style-strength", "attributes": "attribute", "text_from": "from"}


# up to here pictures hold together, seen on the shipped base and styles; beyond, a warning
HOLDS = {"strength": 1.5, "guidance": 3.0}
HOLDS_AMOUNT = 2.0  # of an attribute, either way


@dataclass(frozen=True)
class Drawing(Checked):
    """How squares are drawn."""

    strength: Annotated[float, Range()] = 1.0
    """Of the style: 0 gives the photo as the base reconstructs it, 1 the style as learned, more
    exaggerates it."""
    style_levels: tuple[int, ...] | None = None
    """Levels of the U-Net that see the style's code, 0 the finest, such as 0,1; none for no level
    (default: the style's)."""
    swap_codes: bool = False
    """Give the style's code to the levels that see the photo's, and the photo's to the others
    (Fig. 8)."""
    lambda_spn: Annotated[float | None, Range()] = None
    """Weight of the structure-preserving network (default: the style's)."""
    t0: Annotated[int | None, Range(1, 1000)] = None
    """Timestep, 1 to 1000, up to which photos are inverted: less keeps more of the photo's
    structure (default: the style's; without a style 1000)."""
    variation: Annotated[float, Range(0, 1)] = 0.0
    """How much of each photo's structure is drawn anew, 0 to 1; at 0 nothing is random."""
    seed: Annotated[int, Range()] = 0
    """Of what variation draws, together with the photo's content or place in a list."""
    keep_colors: bool = False
    """Keep the photo's colours; take light, shade and strokes of the style."""
    mixed_precision: bool = False
    """Multiply in bfloat16 where the device does so itself: faster, pixels differ a little."""


@dataclass(frozen=True)
class Fitting(Checked):
    """What of a photo is redrawn."""

    fit: Fit = "auto"
    """faces: each one found, aligned, redrawn, put back; crop: the central square, as large as the
    base draws; tiles: overlapping squares over the whole photo; whole: all at once, aspect kept;
    auto: on a base of faces whole for a portrait and else faces, on other bases crop."""
    largest_face: bool = False
    """Redraw only the largest face of a photo."""
    tiles: Annotated[int, Range(1)] = 3
    """Tiles along the shorter side, with fit tiles."""


@dataclass(frozen=True)
class Blending(Checked):
    """How redrawn squares are put back."""

    detail: Annotated[float, Range(0, 1)] = 0.5
    """How much of the photo's own fine detail is added where the base draws fewer pixels than the
    photo has, 0 to 1; less where the result is far darker than the photo."""
    match_color: bool = True
    """Let colours turn into the photo's towards the edge of what is put back."""
    feather: Annotated[float, Range(0, 1, above=True)] = 0.3
    """Width of the soft edge, above 0; 1 is up to the middle."""


@dataclass(frozen=True)
class Editing(Checked):
    """What of a photo's content is changed, and how far."""

    attributes: tuple[tuple[str, float], ...] = ()
    """Move along a direction of the base; several add up, negative amounts go back."""
    text: str = ""
    """What the photo should show."""
    text_from: str = "a face"
    """What it shows, for --text."""
    guidance: Annotated[float | None, Range()] = None
    """How much of the edit's effect on every step is taken; 1 is plain decoding with the edited
    code (default: 2 for attributes; 1 with --text or --style)."""
    iterations: Annotated[int, Range(1)] = 60
    """Updates of --text at most."""
    max_change: Annotated[float, Range()] = 0.25
    """--text stops where the picture differs by more than this from the unedited one, as LPIPS
    measures it."""
    min_identity: Annotated[float | None, Range(0, 1)] = None
    """--text stops also where the person is less like the unedited one than this, 0 to 1, as SFace
    measures it; needs `osasis models fetch sface` (default: not measured)."""


@dataclass(frozen=True)
class Controls(Blending, Fitting, Editing, Drawing):
    """How photos are redrawn. `dataclasses.replace` changes a control.

    Raises:
        ValueRefused: a value out of range.
    """


def strained(controls: Controls) -> list[str]:
    """What is asked for beyond what holds together: one warning each."""
    found = {name: (getattr(controls, name) or 0, most) for name, most in HOLDS.items()}
    found = {FLAGS.get(name, name): pair for name, pair in found.items()}
    found |= {name: (abs(amount), HOLDS_AMOUNT) for name, amount in controls.attributes}
    return [
        f"{name} {value:g}: beyond {most:g} pictures fall apart (stains, masks)"
        for name, (value, most) in found.items()
        if value > most
    ]
