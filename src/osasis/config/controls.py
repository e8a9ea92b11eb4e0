"""The controls of stylizing: one dataclass, its ranges and its help, for all who redraw photos."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from osasis.errors import UserError

MAX_T0 = 1000  # length of the training schedule


@dataclass(frozen=True)
class Controls:
    """How photos are redrawn (METHOD 3, 4). `dataclasses.replace` changes a control.

    Raises:
        UserError: a value out of range.
    """

    strength: float = 1.0
    """Of the style, 0 or more: 0 is the photo as the base reconstructs it, 1 the style as learned,
    more exaggerates it."""
    style_levels: tuple[int, ...] | None = None
    """Levels of the U-Net that see the style's code, 0 the finest; None: the style's own."""
    swap_codes: bool = False
    """Give the style's code to the levels that see the photo's, and the photo's to the others
    (Fig. 8)."""
    lambda_spn: float | None = None
    """Weight of the structure-preserving network, 0 or more; None: the style's own."""
    t0: int | None = None
    """Timestep, 1 to 1000, up to which photos are inverted: less keeps more of the photo's
    structure; None: the style's own."""
    variation: float = 0.0
    """How much of the noise in the structural code is drawn anew, 0 to 1; at 0 nothing is
    random."""
    seed: int = 0
    """Of what `variation` draws; photo i uses `seed + i`."""
    guidance: float = 1.0
    """How much of the edits' effect on each step is taken, 0 or more; 1 is plain decoding with the
    edited code."""
    mixed_precision: bool = False
    """Multiply in bfloat16 where the device does so itself: faster, pixels differ a little."""

    def __post_init__(self) -> None:
        for name in ("strength", "lambda_spn", "guidance"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise UserError(f"{name} must be 0 or more, got {value}")
        if not 0 <= self.variation <= 1:
            raise UserError(f"variation must lie in [0, 1], got {self.variation}")
        if self.t0 is not None and not 1 <= self.t0 <= MAX_T0:
            raise UserError(f"t0 must lie in 1 .. {MAX_T0}, got {self.t0}")


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
