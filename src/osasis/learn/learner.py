"""Learning one style: a generator of step records; saving and progress live outside it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from osasis._version import __version__
from osasis.base import Base
from osasis.config.presets import LearnConfig
from osasis.diffusion.schedule import Step
from osasis.errors import OsasisError, UserError
from osasis.formats.style_file import Style, StyleManifest, check_name
from osasis.imaging.tensors import fit_square, to_tensor
from osasis.learn.bridge import bridge
from osasis.learn.context import LearningContext
from osasis.learn.objectives import DirectionObjective, Objective, RegionObjective
from osasis.learn.regions import has_face, spn_channels
from osasis.learn.train_state import Snapshot, TrainState
from osasis.learn.update import Branch, Judge, UpdateResult, update
from osasis.models.state import with_prefix

SNAPSHOT_SECONDS = 30.0
MAX_BAD_UPDATES = 10  # in a row


@dataclass(frozen=True)
class StepRecord:
    """Where learning is.

    Attributes:
        phase: "bridge" (candidates of the twin), "bank" (photos drawn) or "learn" (updates).
        done: steps of the phase that are done.
        total: steps of the phase.
        losses: weighted losses of the update, "total" first; empty outside "learn".
    """

    phase: str
    done: int
    total: int
    losses: dict[str, float]


class StyleLearner:
    """Learns one style from one picture.

    Args:
        base: the photo domain.
        style_image: the picture; its central square is used.
        config: a preset, or one changed with `dataclasses.replace`.
        seed: seed of the bridge, of new weights and of the order of photos.
        name: what the style is called.
        snapshot: file to keep progress in; learning continues from it where it exists.
        context: what it shares with other styles of the same base and configuration.

    Raises:
        UserError: levels the base does not have, judges that are not there, or too long a name.
    """

    def __init__(
        self,
        base: Base,
        style_image: Image.Image,
        config: LearnConfig,
        *,
        seed: int = 0,
        name: str = "",
        snapshot: Path | None = None,
        context: LearningContext | None = None,
    ) -> None:
        check_name(name)
        self.base, self.config, self.seed, self.name = base, config, seed, name
        self._context = context or LearningContext(base, config)
        self._thumbnail = fit_square(style_image, base.image_size)
        self._picture_B = to_tensor(self._thumbnail).to(base.device)
        self._style_B = base.to_x0(self._picture_B)
        self._style_A: Tensor | None = None
        by_region = config.critic == "regions"
        self._style_maps = base.region_maps(self._style_B) if by_region else None
        self._objective_tensors: dict[str, Tensor] = {}
        self._route = base.unclipped(config.learn_route)
        self._steps = self._route.decoding()
        self.total_updates = config.updates
        self.updates = 0
        self._check_levels()
        compiled, inputs = self._context.compiled, self._spn_inputs()
        self._train_state = TrainState(base, config, seed, inputs, compiled=compiled)
        content = self._context.bank.content
        picture = self._thumbnail.tobytes()
        identity = (base.hash, repr(config), seed, content, picture)
        self._snapshot = Snapshot(snapshot, identity)

    def _spn_inputs(self) -> int:
        """Channels that the SPN sees: x0, and what else a critic by region knows of a photo."""
        channels = self.base.x0_shape[0]
        if self._style_maps is None:
            return channels
        return spn_channels(channels, dress=self.config.dress, face=has_face(self._style_maps))

    def _check_levels(self) -> None:
        levels = (*(self.config.trained_levels or ()), *(self.config.style_levels or ()))
        outside = sorted({level for level in levels if level not in range(self.base.num_levels)})
        if outside:
            raise UserError(
                f"base {self.base.name!r} has levels 0 to {self.base.num_levels - 1}, not {outside}"
            )

    def steps(self) -> Generator[StepRecord, None, None]:
        """Learn, one record a step. Closing the generator early keeps the snapshot.

        Raises:
            OsasisError: updates stay not finite, or the disk is full.
        """
        self._restore()
        if self._style_A is None and self.config.critic == "directions":
            lpips = self._context.judges.lpips
            candidates = bridge(self.base, self._style_B, self.config.bridge, self.seed, lpips)
            for done, self._style_A in enumerate(candidates, 1):
                yield StepRecord("bridge", done, self.config.bridge.candidates, {})
        for done in self._context.bank.fill():
            yield StepRecord("bank", done, self._context.bank.size, {})
        saved = monotonic()
        try:
            for record in self._learn():
                yield record
                if self._at_iteration_start() and monotonic() - saved > SNAPSHOT_SECONDS:
                    self._snapshot.write()
                    saved = monotonic()
        finally:
            self._snapshot.write()

    def rehearse(self) -> Callable[[], None]:
        """A function that makes one update on pictures of noise: what a step costs, not a style."""
        c, base = self.config, self.base
        noise = torch.randn(c.batch_size, *self._picture_B.shape[1:]).clamp(-1, 1)
        context = LearningContext(base, c, noise, compiled=self._context.compiled)
        list(context.bank.fill())
        # not from the style image itself: a direction of length 0 gives no finite loss
        objective = self._objective(context, base.to_x0(noise[:1]))
        content, style, judge = objective.batch(range(c.batch_size), torch.Generator())

        def step() -> None:
            self._update(content, style, self._steps[0], judge)

        return step

    def _update(self, content: Branch, style: Branch, step: Step, judge: Judge) -> UpdateResult:
        c, train_state = self.config, self._train_state
        train_state.set_rates(self.updates)
        return update(
            train_state.student, train_state.optimizers, content, style, step, judge,
            c.spn, route=self._route, micro_batches=self._context.micro_batches,
        )  # fmt: skip

    def _objective(self, context: LearningContext, style_A: Tensor | None) -> Objective:
        if self._style_maps is not None:
            return RegionObjective(context, self._style_B, self._style_maps)
        if style_A is None:
            raise OsasisError("the bridge made no candidate", hint="set candidates to at least 1")
        return DirectionObjective(context, style_A, self._style_B)

    def _at_iteration_start(self) -> bool:
        return self.updates % len(self._steps) == 0

    def _learn(self) -> Iterator[StepRecord]:
        self._snapshot.keep(self._state(), self.updates)
        c, bank = self.config, self._context.bank
        objective = self._objective(self._context, self._style_A)
        self._objective_tensors = objective.tensors()
        bad = 0
        for iteration in range(self.updates // len(self._steps), c.iterations):
            indices = photo_order(iteration, c.batch_size, bank.size, self.seed)
            noise = torch.Generator().manual_seed(self.seed * c.iterations + iteration)
            content, style, judge = objective.batch(indices, noise)
            for step in self._steps:
                result = self._update(content, style, step, judge)
                bad = 0 if result.finite else bad + 1
                if bad >= MAX_BAD_UPDATES:
                    raise OsasisError(
                        f"{bad} updates in a row were not finite, at update {self.updates}",
                        hint="lower lr_unet or lr_spn, or try another seed",
                    )
                content = replace(content, x_t=result.prediction.content_next)
                style = replace(style, x_t=result.prediction.style_next)
                self.updates += 1
                if self._at_iteration_start():
                    # a walk that is left in the middle begins anew, from the weights kept here
                    self._snapshot.keep(self._state(), self.updates)
                yield StepRecord("learn", self.updates, self.total_updates, result.losses)

    def style(self) -> Style:
        """What has been learned so far.

        Raises:
            OsasisError: nothing has been learned yet.
        """
        if self.updates == 0:
            raise OsasisError("nothing has been learned yet: run steps() first")
        c, base = self.config, self.base
        before = base.diffae.unet.state_dict()
        tensors = self._train_state.weights()
        tensors |= {f"unet.{k}": v - before[k] for k, v in with_prefix(tensors, "unet.").items()}
        tensors["z_style"] = base.encode_x0(self._style_B)
        tensors |= self._objective_tensors
        levels = c.style_levels
        if levels is None:
            levels = default_style_levels(base.num_levels)
        manifest = StyleManifest(
            name=self.name,
            base_name=base.name,
            base_hash=base.hash,
            preset=c.title,
            seed=self.seed,
            embedder=c.embedder,
            lambda_spn=c.spn.lambda_spn,
            style_levels=levels,
            updates=self.updates,
            version=__version__,
            config=c,
            content=self._context.bank.content,
        )
        return Style(manifest, self._thumbnail, tensors)

    def finish(self) -> None:
        """Remove the snapshot: the style has been saved."""
        self._snapshot.remove()

    def _state(self) -> dict[str, Tensor]:
        twin = {} if self._style_A is None else {"style_A": self._style_A}
        return self._train_state.state() | twin

    def _restore(self) -> None:
        restored = self._snapshot.read()
        if restored is None:
            return
        state, self.updates = restored
        on_device = {k: v.to(self.base.device) for k, v in state.items()}
        self._style_A = on_device.pop("style_A", None)
        self._train_state.restore(on_device)


def default_style_levels(num_levels: int) -> tuple[int, ...]:
    """Levels 0 to 3 of the released six: the upper two thirds, rounded down."""
    return tuple(range(2 * num_levels // 3))


def photo_order(iteration: int, batch: int, size: int, seed: int) -> list[int]:
    """Indices of an iteration's photos: every photo once an epoch, in an order set by `seed`."""
    flat = range(iteration * batch, (iteration + 1) * batch)
    epochs = {i // size for i in flat}
    orders = {e: np.random.default_rng((seed, e)).permutation(size) for e in epochs}
    return [int(orders[i // size][i % size]) for i in flat]
