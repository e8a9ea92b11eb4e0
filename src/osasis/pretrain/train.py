"""Training: the losses as modules, what is random in an update, and the one loop of updates."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from osasis.device import mixed_precision
from osasis.diffusion.ddpm import q_sample, velocity
from osasis.diffusion.schedule import IMAGE_SCHEDULE, LATENT_SCHEDULE, Schedule
from osasis.models.autoencoder import Autoencoder, AutoencoderConfig
from osasis.models.diffae import DiffAE, DiffAEConfig
from osasis.models.latent_net import LatentNet, LatentNetConfig
from osasis.pretrain.processes import Processes, update_noise
from osasis.pretrain.state import TrainState


@dataclass(frozen=True)
class Draw:
    """What is random in one update of a batch.

    Attributes:
        t: (B,) int64 timesteps, uniform.
        eps: noise of the shape of the batch, standard normal.
        keep: (B,) bool, False where z_sem is replaced by the null code.
    """

    t: Tensor
    eps: Tensor
    keep: Tensor


def draw(
    shape: torch.Size, schedule: Schedule, null_probability: float, noise: torch.Generator
) -> Draw:
    """Draw one update's timesteps, noise and drops, all from `noise`."""
    device = noise.device
    t = torch.randint(0, schedule.num_steps, (shape[0],), generator=noise, device=device)
    eps = torch.randn(shape, generator=noise, device=device)
    keep = torch.rand(shape[0], generator=noise, device=device) >= null_probability
    return Draw(t, eps, keep)


class DiffAELoss(nn.Module):
    """A DiffAE in training."""

    def __init__(self, config: DiffAEConfig) -> None:
        super().__init__()
        self.diffae = DiffAE(config)

    def forward(self, x0: Tensor, t: Tensor, eps: Tensor, keep: Tensor) -> Tensor:
        """The denoising loss (DiffAE Eq. 9, DDPM Eq. 14), a scalar.

        It is on the U-Net's own target, noise or v (2202.00512). Where `keep` is
        False, z_sem is replaced by the null code (2207.12598).

        Args:
            x0: (B, 3, H, W) in [-1, 1], or latents (B, C, H, W).
            t, eps, keep: see `Draw`.
        """
        model = self.diffae
        alpha_bar = IMAGE_SCHEDULE.alpha_bar_at(t)
        x_t = q_sample(x0, eps, alpha_bar)
        z_sem = model.encode(x0)
        seen = z_sem
        if model.z_null is not None:
            seen = torch.where(keep[:, None], z_sem, model.z_null[None].to(z_sem.dtype))
        out = model.unet(x_t, t, model.plain(seen))
        target = eps
        if model.config.prediction == "v":
            target = velocity(x0, eps, alpha_bar)
        return F.mse_loss(out.float(), target)


class AutoencoderLoss(nn.Module):
    """An autoencoder in training.

    Args:
        config: its shape.
        lpips: weight of the perceptual distance beside L1.
        latents: weight of the mean square of raw latents.
        distance: the perceptual distance (B,) of two batches of pictures.
    """

    def __init__(
        self,
        config: AutoencoderConfig,
        lpips: float,
        latents: float,
        distance: Callable[[Tensor, Tensor], Tensor],
    ) -> None:
        super().__init__()
        self.autoencoder = Autoencoder(config)
        self._weights = lpips, latents
        self._distance = distance

    def forward(self, pictures: Tensor, t: Tensor, eps: Tensor, keep: Tensor) -> Tensor:
        """L1 (of [0, 1]), LPIPS and the size of the latents, a scalar; the rest is unused."""
        raw = self.autoencoder.encoder(pictures)
        again = self.autoencoder.decoder(raw).float()
        lpips, latents = self._weights
        return (
            F.l1_loss(again, pictures) / 2
            + lpips * self._distance(again, pictures).mean()
            + latents * raw.float().square().mean()
        )


class LatentLoss(nn.Module):
    """A latent DPM in training (DiffAE section 3.4)."""

    def __init__(self, config: LatentNetConfig) -> None:
        super().__init__()
        self.latent_net = LatentNet(config)

    def forward(self, z: Tensor, t: Tensor, eps: Tensor, keep: Tensor) -> Tensor:
        """The L1 denoising loss over normalised codes (B, z_dim); `keep` is unused."""
        alpha_bar = LATENT_SCHEDULE.alpha_bar_at(t)[:, :, 0, 0]
        return F.l1_loss(self.latent_net(q_sample(z, eps, alpha_bar), t).float(), eps)


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
