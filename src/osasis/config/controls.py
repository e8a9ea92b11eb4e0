"""The controls of stylizing: ranges, help and flags in one place, for all who redraw photos."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from osasis.errors import UserError

Fit = Literal["auto", "faces", "crop", "tiles", "whole"]
# flags of the command line that are not the control's name with hyphens
FLAGS = {"strength": "style-strength"}


# up to here pictures hold together, seen on the shipped base and styles; beyond, a warning
HOLDS = {"strength": 1.5, "guidance": 3.0}
HOLDS_AMOUNT = 2.0  # of an attribute, either way


class ControlError(UserError):
    """A control out of range.

    Attributes:
        control: its name.
        problem: what is wrong, to be read after the name.
    """

    def __init__(self, control: str, problem: str) -> None:
        super().__init__(f"{control} {problem}")
        self.control, self.problem = control, problem


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`; with `above` without `low` itself."""

    low: float = 0
    high: float = math.inf
    above: bool = False

    def problem(self, value: float) -> str:
        """What is wrong with a value; empty where nothing is."""
        large_enough = self.low < value if self.above else self.low <= value
        if large_enough and value <= self.high and value != math.inf:
            return ""
        got = f"got {value}" + (", which is not a number" if value != value else "")
        if self.high == math.inf:
            return f"must be {self.low:g} or more, {got}"
        lowest = f"above {self.low:g}, at most" if self.above else f"between {self.low:g} and"
        return f"must lie {lowest} {self.high:g}, {got}"


@lru_cache
def ranges(kind: type) -> dict[str, Range]:
    """The ranges of a dataclass's fields, by name."""
    hints = get_type_hints(kind, include_extras=True)
    parts = {name: get_args(hint) for name, hint in hints.items()}
    return {n: part for n, found in parts.items() for part in found if isinstance(part, Range)}


@lru_cache
def _choices(kind: type) -> dict[str, tuple[Any, ...]]:
    hints = get_type_hints(kind)
    return {n: get_args(hint) for n, hint in hints.items() if get_origin(hint) is Literal}


class _Checked:
    def __post_init__(self) -> None:
        kind: Any = type(self)
        for name, allowed in ranges(kind).items():
            value = getattr(self, name)
            problem = "" if value is None else allowed.problem(value)
            if problem:
                raise ControlError(name, problem)
        for name, choices in _choices(kind).items():
            if getattr(self, name) not in choices:
                known = ", ".join(map(repr, choices))
                raise ControlError(name, f"must be one of {known}, got {getattr(self, name)!r}")


@dataclass(frozen=True)
class Drawing(_Checked):
    """How squares are drawn (METHOD 3, 4)."""

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
class Fitting(_Checked):
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
class Blending(_Checked):
    """How redrawn squares are put back."""

    detail: Annotated[float, Range(0, 1)] = 0.5
    """How much of the photo's own fine detail is added where the base draws fewer pixels than the
    photo has, 0 to 1."""
    match_color: bool = True
    """Let colours turn into the photo's towards the edge of what is put back."""
    feather: Annotated[float, Range(0, 1, above=True)] = 0.3
    """Width of the soft edge, above 0; 1 is up to the middle."""


@dataclass(frozen=True)
class Editing(_Checked):
    """How edits of what a photo shows are drawn."""

    guidance: Annotated[float, Range()] = 1.0
    """How much of the edits' effect on each step is taken; 1 is plain decoding with the edited
    code."""


@dataclass(frozen=True)
class Controls(Blending, Fitting, Editing, Drawing):
    """How photos are redrawn. `dataclasses.replace` changes a control.

    Raises:
        ControlError: a value out of range.
    """


def controls_from(table: Mapping[str, Any]) -> Controls:
    """Controls from a table of a file; what it leaves out keeps its default.

    Raises:
        UserError: an unknown name, or a value of the wrong kind or out of range.
    """
    known = [field.name for field in fields(Controls)]
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise UserError(f"there is no control {unknown[0]!r}", hint=f"there are {', '.join(known)}")
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in table.items()}
    try:
        return Controls(**values)
    except TypeError as error:
        raise UserError(f"a control has a value of the wrong kind: {error}") from error


def strained(controls: Controls, amounts: Mapping[str, float] | None = None) -> list[str]:
    """What is asked for beyond what holds together: one warning each.

    Args:
        amounts: of attributes, by name.
    """
    found = {FLAGS.get(name, name): (getattr(controls, name), most) for name, most in HOLDS.items()}
    found |= {name: (abs(amount), HOLDS_AMOUNT) for name, amount in (amounts or {}).items()}
    return [
        f"{name} {value:g}: beyond {most:g} pictures fall apart (stains, masks)"
        for name, (value, most) in found.items()
        if value > most
    ]
