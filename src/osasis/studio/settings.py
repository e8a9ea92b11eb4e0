"""What a visitor may choose: the controls of the command line, with the ranges of the page."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from osasis.config.controls import HOLDS, HOLDS_AMOUNT, Controls, Fit
from osasis.errors import UserError

STYLE_LEVELS = "style"  # the choice that takes the style's own levels
RANGES: dict[str, tuple[float, float]] = {
    "share": (0, 1),
    "strength": (0, HOLDS["strength"]),
    "structure": (0, 10),
    "t0": (0, 1000),
    "variation": (0, 1),
    "seed": (0, 2**31 - 1),
    "detail": (0, 1),
    "guidance": (0, HOLDS["guidance"]),
}
MAX_AMOUNT = HOLDS_AMOUNT
MAX_TEXT = 200


@dataclass(frozen=True)
class Settings:
    """How photos are redrawn.

    Attributes:
        style: id of a visitor's style, or name of a shipped one; empty for none.
        second: another one that is mixed in; empty for none.
        share: of the second style in the mix, 0 to 1.
        strength: of the style, 0 the photo as the base draws it, 1 as learned.
        structure: factor of the style's own lambda_spn.
        levels: U-Net levels that see the style's code, such as "0,1"; "none"; or "style".
        swap_codes: see `StyledModel`.
        t0: how far up the schedule photos go; 0 takes the style's own.
        variation, seed: how much of the structural code is drawn anew, and from which seed.
        fit, detail, match_color: see `Controls`.
        attributes: amounts by attribute, 0 left out.
        guidance: of edits; 0 takes what was measured to suit them.
        text, source: what the photo should show and what it shows, for CLIP; empty for none.
    """

    style: str = ""
    second: str = ""
    share: float = 0.5
    strength: float = 1.0
    structure: float = 1.0
    levels: str = STYLE_LEVELS
    swap_codes: bool = False
    t0: int = 0
    variation: float = 0.0
    seed: int = 0
    fit: Fit = "auto"
    detail: float = 0.5
    match_color: bool = True
    attributes: tuple[tuple[str, float], ...] = ()
    guidance: float = 0.0
    text: str = ""
    source: str = "a face"

    def __post_init__(self) -> None:
        for name, (low, high) in RANGES.items():
            if not low <= getattr(self, name) <= high:
                raise UserError(f"{name} must lie between {low:g} and {high:g}")
        for name, amount in self.attributes:
            if not -MAX_AMOUNT <= amount <= MAX_AMOUNT:
                raise UserError(f"{name} must lie between {-MAX_AMOUNT:g} and {MAX_AMOUNT:g}")
        if max(len(self.text), len(self.source)) > MAX_TEXT:
            raise UserError(f"descriptions have at most {MAX_TEXT} characters")
        self.controls()  # refuses what is none

    def controls(self, guidance: float = 1.0) -> Controls:
        """What `Stylizer` takes; `guidance` where none was chosen.

        Raises:
            UserError: a value that no control takes.
        """
        return Controls(
            strength=self.strength,
            style_levels=self.style_levels,
            swap_codes=self.swap_codes,
            t0=self.t0 or None,
            variation=self.variation,
            seed=self.seed,
            guidance=self.guidance or guidance,
            fit=self.fit,
            detail=self.detail,
            match_color=self.match_color,
        )

    @property
    def style_levels(self) -> tuple[int, ...] | None:
        """`levels` as `Stylizer` takes them.

        Raises:
            UserError: they are no list of levels.
        """
        if self.levels == STYLE_LEVELS:
            return None
        if self.levels == "none":
            return ()
        parts = self.levels.split(",")
        if not all(part.isascii() and part.isdigit() and len(part) < 3 for part in parts):
            raise UserError(f"levels must be 'style', 'none' or a list such as 0,1: {self.levels}")
        return tuple(sorted({int(part) for part in parts}))


def settings_from(raw: Mapping[str, Any]) -> Settings:
    """Settings from what came over HTTP.

    Raises:
        UserError: an unknown name, or a value of the wrong kind or out of range.
    """
    known = {f.name: type(getattr(Settings(), f.name)) for f in fields(Settings)}
    unknown = sorted(set(raw) - set(known))
    if unknown:
        raise UserError(f"no setting {unknown[0]!r}", hint=f"there are {', '.join(known)}")
    return Settings(**{name: _typed(name, known[name], value) for name, value in raw.items()})


def _typed(name: str, kind: type, value: Any) -> Any:
    if kind is tuple and isinstance(value, Mapping):
        pairs = ((str(key), _number(f"{name}.{key}", amount)) for key, amount in value.items())
        return tuple((key, amount) for key, amount in pairs if amount)
    if kind is float:
        return _number(name, value)
    if kind is int:
        number = _number(name, value)
        if number != int(number):
            raise UserError(f"{name} must be a whole number")
        return int(number)
    if kind in (str, bool) and isinstance(value, kind):
        return value
    raise UserError(f"{name} must be {'an object' if kind is tuple else f'a {kind.__name__}'}")


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise UserError(f"{name} must be a number")
    return float(value)
