"""A whole pretraining run: DiffAE, then codes, then latent DPM, then the base file."""

from __future__ import annotations

import time
from collections.abc import Generator
from pathlib import Path

import torch
from torch import Tensor

from osasis.base import save_base
from osasis.device import choose_device
from osasis.models.diffae import DiffAE
from osasis.models.latent_net import LatentNet
from osasis.pretrain.config import PretrainConfig
from osasis.pretrain.data import index_images, try_decode
from osasis.pretrain.state import TrainState
from osasis.pretrain.train import TrainRecord, latent_loss, train_diffae

MAX_CODES = 10_000  # images whose codes the latent DPM is trained on
ENCODE_BATCH = 32


def pretrain(
    config: PretrainConfig, out: Path, *, device: str | None = None
) -> Generator[TrainRecord, None, None]:
    """Train a base and write `<out>/<name>.safetensors`; continue an earlier run in `out`.

    Args:
        config: see `load_config`.
        out: folder of checkpoints and of the finished base.
        device: see `choose_device`.

    Yields:
        One record an update. Closing the generator saves a checkpoint.
    """
    where = choose_device(device)
    checkpoint = out / "diffae.checkpoint.safetensors"
    yield from train_diffae(config, checkpoint, where)
    state = TrainState(DiffAE(config.model).to(where), config.train, config.seed)
    state.load(checkpoint)
    codes = encode_all(state.ema, config, where)  # type: ignore[arg-type]
    z_mean, z_std = codes.mean(0), codes.std(0).clamp_min(1e-6)
    latent = yield from _train_latent((codes - z_mean) / z_std, config, out, where)
    save_base(
        out / f"{config.name}.safetensors",
        config.name,
        state.ema,  # type: ignore[arg-type]
        latent,
        z_mean,
        z_std,
        notes={"description": config.description, "images_seen": state.images},
    )


@torch.no_grad()
def encode_all(diffae: DiffAE, config: PretrainConfig, device: torch.device) -> Tensor:
    """z_sem of the training images and of their mirror images, (N, z_dim) (at most 20,000)."""
    entries = index_images(config.data)
    entries = entries[:: max(1, len(entries) // MAX_CODES)]
    size = config.model.unet.image_size
    codes = []
    for start in range(0, len(entries), ENCODE_BATCH):
        images = [try_decode(e, size) for e in entries[start : start + ENCODE_BATCH]]
        decoded = [torch.from_numpy(image.copy()) for image in images if image is not None]
        if not decoded:
            continue
        stacked = torch.stack(decoded)
        x0 = stacked.permute(0, 3, 1, 2).float().div(127.5).sub(1).to(device)
        codes += [diffae.encode(x0), diffae.encode(x0.flip(3))]
    return torch.cat(codes)


def _train_latent(
    codes: Tensor, config: PretrainConfig, out: Path, device: torch.device
) -> Generator[TrainRecord, None, LatentNet]:
    """Train the latent DPM on normalised codes; returns the averaged network."""
    checkpoint = out / "latent.checkpoint.safetensors"
    train = config.latent
    torch.manual_seed(config.seed)
    state = TrainState(LatentNet(config.latent_net).to(device), train, config.seed)
    if checkpoint.exists():
        state.load(checkpoint)
    started, begun_at = time.monotonic(), state.images
    saved = started
    try:
        while state.images < train.total_images:
            rate = state.learning_rate()
            index = torch.randint(
                len(codes), (train.batch_size,), generator=state.noise, device=device
            )
            loss = latent_loss(state.model, codes[index], state.noise)  # type: ignore[arg-type]
            state.apply(loss)
            now = time.monotonic()
            speed = (state.images - begun_at) / (now - started)
            yield TrainRecord(
                state.images, train.total_images, loss.item(), rate, speed, stage="latent"
            )
            if now - saved > train.checkpoint_seconds:
                state.save(checkpoint)
                saved = now
    finally:
        state.save(checkpoint)
    return state.ema  # type: ignore[return-value]
