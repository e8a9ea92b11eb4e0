"""What a visitor may choose: the controls of the command line, within what holds together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any

from osasis.config.controls import HOLDS, HOLDS_AMOUNT, Controls
from osasis.config.tables import Range, from_table, ranges, typed
from osasis.errors import UserError

MAX_TEXT = 200
AMOUNTS = Range(-HOLDS_AMOUNT, HOLDS_AMOUNT)  # of an attribute


@dataclass(frozen=True)
class Settings(Controls):
    """How photos are redrawn: all of `Controls`, some within narrower ranges, and what it needs.

    Attributes:
        guidance: of edits; 0 takes what was measured to suit them.
        style: id of a visitor's style, or name of a shipped one; empty for none.
        second: another one that is mixed in; empty for none.
        share: of the second style in the mix, 0 to 1.
        spn_factor: factor of each style's own lambda_spn.
        attributes: amounts by attribute, 0 left out.
        text, source: what the photo should show and what it shows, for CLIP; empty for none.
    """

    strength: Annotated[float, Range(0, HOLDS["strength"])] = 1.0
    seed: Annotated[int, Range(0, 2**31 - 1)] = 0
    guidance: Annotated[float, Range(0, HOLDS["guidance"])] = 0.0
    style: str = ""
    second: str = ""
    share: Annotated[float, Range(0, 1)] = 0.5
    spn_factor: Annotated[float, Range(0, 10)] = 1.0
    attributes: tuple[tuple[str, float], ...] = ()
    text: str = ""
    source: str = "a face"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, amount in self.attributes:
            if problem := AMOUNTS.problem(amount):
                raise UserError(f"{name} {problem}")
        if max(len(self.text), len(self.source)) > MAX_TEXT:
            raise UserError(f"descriptions have at most {MAX_TEXT} characters")

    def controls(self, guidance: float = 1.0) -> Controls:
        """What `Stylizer` takes; `guidance` where none was chosen."""
        values = {field.name: getattr(self, field.name) for field in fields(Controls)}
        return Controls(**values | {"guidance": self.guidance or guidance})


LIMITS = ranges(Settings)


def settings_from(raw: Mapping[str, Any]) -> Settings:
    """Settings from what came over HTTP.

    Raises:
        UserError: an unknown name, or a value of the wrong kind or out of range.
    """
    table = dict(raw)
    amounts = table.pop("attributes", {})
    if not isinstance(amounts, Mapping):
        raise UserError("attributes must be an object of numbers by name")
    chosen = {str(name): typed(amount, float, str(name)) for name, amount in amounts.items()}
    kept = tuple((name, amount) for name, amount in chosen.items() if amount)
    return from_table(Settings, table, attributes=kept)
