"""The loop of training, the same for the diffusion autoencoder and its latent DPM."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from osasis.device import mixed_precision
from osasis.diffusion.schedule import Schedule
from osasis.pretrain.losses import draw
from osasis.pretrain.processes import Processes, update_noise
from osasis.pretrain.state import TrainState


@dataclass(frozen=True)
class TrainRecord:
    """What one update did, or how far a stage without updates is.

    Attributes:
        stage: "autoencoder", "latents", "fit", "diffae", "encode" or "latent".
        images: images (codes, for the latent DPM) done so far.
        total_images: when the stage ends.
        loss: mean over the whole batch; None in a stage without updates.
        learning_rate: rate of the update.
        images_per_second: since this process started the stage.
        bad_images: files skipped so far because they cannot be read.
        skipped: updates left out so far because the gradient was not finite.
    """

    stage: str
    images: int
    total_images: int
    loss: float | None = None
    learning_rate: float = 0.0
    images_per_second: float = 0.0
    bad_images: int = 0
    skipped: int = 0


@dataclass(frozen=True)
class Stage:
    """What differs between the networks that are trained.

    Attributes:
        name: "autoencoder", "diffae" or "latent".
        schedule: of the noise.
        seed: of noise and timesteps.
        bad: names of unreadable files, filled while the data is read.
    """

    name: str
    schedule: Schedule
    seed: int
    bad: set[str] = field(default_factory=set)


def run_updates(
    stage: Stage,
    state: TrainState,
    batches: Iterator[Tensor],
    folder: Path,
    processes: Processes,
) -> Generator[TrainRecord, None, None]:
    """Train until the configuration's `total_images`, one record an update.

    The state is written to `folder` at intervals and when the generator is closed, so that a kill
    loses at most `checkpoint_seconds` and Ctrl-C nothing. A run that continues from it goes the
    same way as one that was never stopped.

    Args:
        stage: what is trained.
        state: where it stands.
        batches: this process's shares of the batches from `state.batches` on.
        folder: of the checkpoint.
        processes: who takes part.
    """
    train, device = state.config, processes.device
    module = processes.wrap(state.model, compiled=train.compiled)
    saved = started = time.monotonic()
    begun_at = state.images
    try:
        while state.images < train.total_images:
            x0 = next(batches).to(device)
            noise = update_noise(stage.seed, state.batches, device)
            shape = torch.Size((train.batch_size, *x0.shape[1:]))
            drawn = draw(shape, stage.schedule, train.null_probability, noise)
            for _, optimizer in state.optimizers.values():
                optimizer.zero_grad(set_to_none=True)
            with mixed_precision(device, on_cpu=train.mixed_precision):
                loss = module(x0, *map(processes.part, (drawn.t, drawn.eps, drawn.keep)))
            processes.backward(loss)
            rate = state.learning_rate()
            state.apply()
            now = time.monotonic()
            yield TrainRecord(
                stage.name,
                state.images,
                train.total_images,
                float(processes.mean(loss.detach())),
                rate,
                (state.images - begun_at) / (now - started),
                len(stage.bad),
                state.skipped,
            )
            if processes.is_main and now - saved > train.checkpoint_seconds:
                state.save(folder)
                saved = now
    finally:
        if processes.is_main:
            state.save(folder)
