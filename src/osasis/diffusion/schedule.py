"""The noise schedule and the one grid of timesteps that inversion and decoding share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

TRAIN_STEPS = 1000


@dataclass(frozen=True)
class Schedule:
    """Betas of the forward process on the training schedule (DDPM section 2).

    Attributes:
        kind: "linear" from `beta_start` to `beta_end`, or "constant" at `beta_start`.
        num_steps: length of the training schedule.
    """

    kind: str = "linear"
    beta_start: float = 1e-4
    beta_end: float = 0.02
    num_steps: int = TRAIN_STEPS

    @property
    def alpha_bar(self) -> NDArray[np.float64]:
        """(num_steps,) float64, product of 1 - beta up to and including t (DDPM Eq. 4)."""
        return _alpha_bar(self.kind, self.beta_start, self.beta_end, self.num_steps)

    def alpha_bar_at(self, t: Tensor) -> Tensor:
        """alpha_bar at integer timesteps `t`, (B,), as (B, 1, 1, 1) float32 on their device."""
        table = torch.as_tensor(self.alpha_bar, dtype=torch.float32, device=t.device)
        return table[t][:, None, None, None]


@lru_cache(maxsize=16)
def _alpha_bar(kind: str, start: float, end: float, num_steps: int) -> NDArray[np.float64]:
    if kind == "linear":
        betas = np.linspace(start, end, num_steps)
    elif kind == "constant":
        betas = np.full(num_steps, start)
    else:
        raise ValueError(f"unknown schedule {kind!r}: expected 'linear' or 'constant'")
    return np.asarray(np.cumprod(1.0 - betas), dtype=np.float64)


IMAGE_SCHEDULE = Schedule()
LATENT_SCHEDULE = Schedule("constant", beta_start=0.008)  # the released latent DPM


@dataclass(frozen=True)
class Step:
    """One move of a sampler, from timestep `t` to the neighbouring node.

    Attributes:
        t: timestep on the training schedule at which the network is evaluated.
        index: position of `t` on its grid.
        alpha_bar_t: alpha_bar the sample has before the move.
        alpha_bar_s: alpha_bar the sample has after the move.
    """

    t: int
    index: int
    alpha_bar_t: float
    alpha_bar_s: float


def _checked_end(t0: int, num_steps: int, schedule: Schedule) -> int:
    """The last timestep of a grid to `t0`, which must have room for `num_steps`."""
    last = min(t0, schedule.num_steps - 1)
    if not 1 <= num_steps <= last:
        raise ValueError(f"steps must lie in 1 .. {last} for t0 = {t0}, got {num_steps}")
    return last


def _distinct(nodes: NDArray[np.float64]) -> tuple[int, ...]:
    """Nodes as timesteps; those that fall on the same one are moved apart, both ends kept."""
    order = np.arange(len(nodes))
    apart = order + np.maximum.accumulate(nodes - order)
    return tuple(int(t) for t in np.minimum(apart, nodes[-1] - order[::-1]))


@dataclass(frozen=True)
class TimestepGrid:
    """Increasing timesteps that a sampler visits; the only source of steps.

    The same grid goes into inversion and decoding, so that decoding starts exactly where inversion
    ended. The image itself stands at the lower end of the grid.

    Attributes:
        timesteps: increasing timesteps on the training schedule, the first is 0.
        schedule: source of alpha_bar.
    """

    timesteps: tuple[int, ...]
    schedule: Schedule = IMAGE_SCHEDULE

    def __post_init__(self) -> None:
        t = self.timesteps
        if len(t) < 2 or t[0] < 0 or t[-1] >= self.schedule.num_steps:
            raise ValueError(
                f"a grid needs at least two timesteps in 0 .. {self.schedule.num_steps - 1}, "
                f"got {t}"
            )
        if any(b <= a for a, b in pairwise(t)):
            raise ValueError(f"timesteps of a grid must increase, got {t}")

    @staticmethod
    def ddim(num_steps: int, schedule: Schedule = IMAGE_SCHEDULE) -> TimestepGrid:
        """Every (1000 / num_steps)-th timestep from 0 ("ddimT" in the released program)."""
        if not 2 <= num_steps <= schedule.num_steps:
            raise ValueError(f"steps must lie in 2 .. {schedule.num_steps}, got {num_steps}")
        stride = schedule.num_steps / num_steps
        return TimestepGrid(tuple(int(stride * i) for i in range(num_steps)), schedule)

    @staticmethod
    def evenly(num_steps: int, schedule: Schedule = IMAGE_SCHEDULE) -> TimestepGrid:
        """`num_steps` timesteps from 0 to the last, both ends kept (respacing of improved DDPM)."""
        ends = np.linspace(0, schedule.num_steps - 1, num_steps)
        return TimestepGrid(tuple(int(t) for t in np.rint(ends)), schedule)

    @staticmethod
    def until(
        t0: int, num_steps: int, schedule: Schedule = IMAGE_SCHEDULE, *, power: float = 1.0
    ) -> TimestepGrid:
        """`num_steps` steps from 0 to `t0` (at most the last timestep), ends kept.

        Args:
            power: 1 for equal steps; more puts nodes at `t0 * (i / num_steps)^power`, dense near
                the image.
        """
        last = _checked_end(t0, num_steps, schedule)
        nodes = last * np.linspace(0, 1, num_steps + 1) ** power
        return TimestepGrid(_distinct(np.rint(nodes)), schedule)

    def thinned(self, num_moves: int) -> TimestepGrid:
        """At most `num_moves` moves over nodes of this grid, spread evenly, both ends kept."""
        last = len(self.timesteps) - 1
        nodes = np.rint(np.linspace(0, last, min(num_moves, last) + 1))
        return TimestepGrid(tuple(self.timesteps[int(i)] for i in nodes), self.schedule)

    def _alpha_bar(self, index: int) -> float:
        return float(self.schedule.alpha_bar[self.timesteps[index]])

    def inversion(self, num_moves: int | None = None) -> list[Step]:
        """Moves from the image up the grid (Eq. 11), the first `num_moves` or all of them."""
        moves = len(self.timesteps) - 1 if num_moves is None else num_moves
        if not 0 <= moves < len(self.timesteps):
            raise ValueError(f"this grid has {len(self.timesteps) - 1} moves, asked for {moves}")
        return [
            Step(
                self.timesteps[i],
                i,
                self._alpha_bar(i),
                self._alpha_bar(i + 1),
            )
            for i in range(moves)
        ]

    def decoding(self, num_moves: int | None = None, *, to_clean: bool = True) -> list[Step]:
        """Moves down the grid (Eqs. 8, 14), from the node `num_moves` evaluations from the end.

        Args:
            num_moves: network evaluations; None starts at the grid's last timestep.
            to_clean: evaluate at the grid's first timestep too and end at alpha_bar = 1 (the
                release). Otherwise end at the first node, where inversion takes the image to
                stand, so that every move up has its counterpart down.
        """
        last = len(self.timesteps) - 1
        lowest = 0 if to_clean else 1
        highest = last if num_moves is None else num_moves - 1 + lowest
        if not lowest - 1 <= highest <= last:
            raise ValueError(f"this grid has {last + 1 - lowest} moves down, asked for {num_moves}")
        return [
            Step(
                self.timesteps[i],
                i,
                self._alpha_bar(i),
                1.0 if i == 0 else self._alpha_bar(i - 1),
            )
            for i in range(highest, lowest - 1, -1)
        ]
