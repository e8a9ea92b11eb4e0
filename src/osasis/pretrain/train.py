"""Training of the diffusion autoencoder and of its latent DPM (DiffAE sections 3.2 to 3.4)."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from osasis.device import mixed_precision
from osasis.diffusion.schedule import IMAGE_SCHEDULE, LATENT_SCHEDULE
from osasis.models.diffae import DiffAE
from osasis.models.latent_net import LatentNet
from osasis.pretrain.config import PretrainConfig
from osasis.pretrain.data import ImageStream, index_images
from osasis.pretrain.state import TrainState


@dataclass(frozen=True)
class TrainRecord:
    """What one update did.

    Attributes:
        images: images (codes, for the latent DPM) seen so far.
        total_images: when the stage ends.
        loss: mean over the batch.
        learning_rate: rate of the update.
        images_per_second: since this process started the stage.
        stage: "diffae" or "latent".
        bad_images: files skipped so far because they cannot be read.
    """

    images: int
    total_images: int
    loss: float
    learning_rate: float
    images_per_second: float
    stage: str = "diffae"
    bad_images: int = 0


def diffae_loss(model: DiffAE, x0: Tensor, noise: torch.Generator, null_prob: float) -> Tensor:
    """Denoising loss on the U-Net's own target, uniform over t (DiffAE Eq. 9, DDPM Eq. 14).

    With probability `null_prob` an image's z_sem is replaced by the null code (2207.12598).

    Args:
        x0: (B, 3, H, W) in [-1, 1].
        noise: source of timesteps, noise and drops.
    """
    batch = x0.shape[0]
    device = x0.device
    t = torch.randint(0, IMAGE_SCHEDULE.num_steps, (batch,), generator=noise, device=device)
    eps = torch.randn(x0.shape, generator=noise, device=device)
    alpha_bar = IMAGE_SCHEDULE.alpha_bar_at(t)
    x_t = alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * eps
    z_sem = model.encode(x0)
    if model.z_null is not None:
        drop = torch.rand(batch, 1, generator=noise, device=device) < null_prob
        z_sem = torch.where(drop, model.z_null[None].to(z_sem.dtype), z_sem)
    out = model.unet(x_t, t, model.plain(z_sem))
    target = eps
    if model.config.prediction == "v":
        target = alpha_bar.sqrt() * eps - (1 - alpha_bar).sqrt() * x0
    return F.mse_loss(out.float(), target)


def latent_loss(model: LatentNet, z: Tensor, noise: torch.Generator) -> Tensor:
    """L1 denoising loss over normalised codes (DiffAE section 3.4)."""
    t = torch.randint(0, LATENT_SCHEDULE.num_steps, (z.shape[0],), generator=noise, device=z.device)
    eps = torch.randn(z.shape, generator=noise, device=z.device)
    alpha_bar = LATENT_SCHEDULE.alpha_bar_at(t)[:, :, 0, 0]
    z_t = alpha_bar.sqrt() * z + (1 - alpha_bar).sqrt() * eps
    return F.l1_loss(model(z_t, t), eps)


def train_diffae(
    config: PretrainConfig, checkpoint: Path, device: torch.device
) -> Generator[TrainRecord, None, None]:
    """Train the DiffAE, one record an update; continue from `checkpoint` where it exists.

    The state is written to `checkpoint` at intervals and when the generator is closed, so that
    stopping it (Ctrl-C, a kill between two writes) loses at most `checkpoint_seconds`.
    """
    train = config.train
    size = config.model.unet.image_size
    stream = ImageStream(index_images(config.data), size, train.batch_size, config.seed)
    torch.manual_seed(config.seed)
    model = DiffAE(config.model).to(device)
    state = TrainState(model, train, config.seed)
    if checkpoint.exists():
        state.load(checkpoint)
        stream.position = state.batches
    # channels_last is the faster layout for these convolutions on CPUs and GPUs alike
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    saved = started = time.monotonic()
    begun_at = state.images
    try:
        for x0 in stream:
            if state.images >= train.total_images:
                return
            batch = x0.to(device, memory_format=torch.channels_last)
            rate = state.learning_rate()
            with mixed_precision(device):
                loss = diffae_loss(model, batch, state.noise, train.null_probability)
            state.apply(loss)
            now = time.monotonic()
            speed = (state.images - begun_at) / (now - started)
            yield TrainRecord(
                state.images,
                train.total_images,
                loss.item(),
                rate,
                speed,
                bad_images=len(stream.bad),
            )
            if now - saved > train.checkpoint_seconds:
                state.save(checkpoint)
                saved = now
    finally:
        state.save(checkpoint)
