"""The way a picture goes: up to t0 by inversion, down again by decoding."""

from __future__ import annotations

from dataclasses import dataclass, replace

from osasis.diffusion.schedule import (
    TRAIN_STEPS,
    Step,
    TimestepGrid,
)
from osasis.errors import UserError

POWERS = {"time": 1.0, "time^1.5": 1.5}  # of the nodes, by the name of the spacing


@dataclass(frozen=True)
class Route:
    """Inversion and decoding between the image and `t0_ratio` of the training schedule.

    Step counts are those of the whole schedule, as in the paper: 50 at ratio 0.5 are 25 moves.

    Attributes:
        invert_steps: steps of the inversion.
        decode_steps: steps of the decoding.
        t0_ratio: how far up the schedule inversion goes, in (0, 1].
        shared_grid: one grid for both ways, decoding starts exactly where inversion ended (the
            paper). False cuts two grids independently, with a seam at t0 (the release).
        clip: limit x0_hat to [-1, 1] at every step.
        spacing: nodes of a shared grid equal in "time", or in "time^1.5" (the nodes' own power),
            dense near the image, where predictions change fastest.
    """

    invert_steps: int
    decode_steps: int
    t0_ratio: float = 0.5
    shared_grid: bool = True
    clip: bool = True
    spacing: str = "time"

    def __post_init__(self) -> None:
        if self.spacing not in POWERS:
            known = " or ".join(map(repr, POWERS))
            raise ValueError(f"spacing must be {known}, got {self.spacing!r}")
        if not self.shared_grid and self.spacing != "time":
            raise ValueError("two independent grids are equal in time, as the release's")
        if not 0 < self.t0_ratio <= 1:
            raise ValueError(f"t0_ratio must lie in (0, 1], got {self.t0_ratio}")

    @property
    def t0(self) -> int:
        return min(round(self.t0_ratio * TRAIN_STEPS), TRAIN_STEPS - 1)

    def until(self, t0: int) -> Route:
        """The same steps over another part of the schedule, up to timestep `t0`.

        On a shared grid every t0 in 1 .. 1000 is possible, and decoding still starts where
        inversion ends. Two independent grids (the release) stay what they are and are cut
        elsewhere: t0 goes down to a node of both, so that the seam at t0 keeps its width.

        Raises:
            UserError: the route cannot end there.
        """
        lowest, highest = 1, TRAIN_STEPS
        if not self.shared_grid:
            coarser = TRAIN_STEPS // min(self.invert_steps, self.decode_steps)
            lowest, highest = coarser, TRAIN_STEPS - coarser
            t0 -= t0 % coarser
        if not lowest <= t0 <= highest:
            raise UserError(f"t0 must lie in {lowest} .. {highest} here, got {t0}")
        return replace(self, t0_ratio=t0 / TRAIN_STEPS)

    def _grid(self) -> TimestepGrid:
        moves = self._moves(self.invert_steps)
        return TimestepGrid.until(self.t0, moves, power=POWERS[self.spacing])

    def _moves(self, steps: int) -> int:
        """How many of `steps` over the whole schedule lie below t0, at least one."""
        return max(1, round(steps * self.t0_ratio))

    def inversion(self) -> list[Step]:
        """Moves from the image to the structural code x_t0 (Eq. 11)."""
        if self.shared_grid:
            return self._grid().inversion()
        grid = TimestepGrid.ddim(self.invert_steps)
        return grid.inversion(self.invert_steps * self.t0 // TRAIN_STEPS)

    def decoding(self) -> list[Step]:
        """Moves from x_t0 to the image (Eq. 14)."""
        if self.shared_grid:
            grid = self._grid().thinned(self._moves(self.decode_steps))
            return grid.decoding(to_clean=False)
        grid = TimestepGrid.ddim(self.decode_steps)
        return grid.decoding(self.decode_steps * self.t0 // TRAIN_STEPS)
