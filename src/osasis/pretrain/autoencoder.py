"""Training an autoencoder, and the file that says what bases it is for."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from osasis.diffusion.schedule import IMAGE_SCHEDULE
from osasis.errors import UserError
from osasis.formats.base_file import save_autoencoder
from osasis.imaging.save import save_image
from osasis.imaging.sheet import contact_sheet
from osasis.imaging.tensors import to_images
from osasis.models.autoencoder import Autoencoder
from osasis.perception.judges import load_judges
from osasis.pretrain.config import AutoencoderRun
from osasis.pretrain.data import Entry, ImageStream, index_images, load_photos, spread
from osasis.pretrain.latents import check_finite, decoded
from osasis.pretrain.log import logged
from osasis.pretrain.processes import Processes, update_noise
from osasis.pretrain.state import TrainState, has_state
from osasis.pretrain.train import AutoencoderLoss, Stage, TrainRecord, run_updates

WHITEN_ON = 2000  # images whose latents the linear map is found from
SHEET_PHOTOS = 8


def train_autoencoder(
    config: AutoencoderRun, out: Path, *, processes: Processes | None = None
) -> Generator[TrainRecord, None, None]:
    """Train an autoencoder and write `<out>/<name>.safetensors`; continue an earlier run in `out`.

    Args:
        config: see `load_autoencoder_config`.
        out: folder of checkpoints, log, sheets and of the finished file.
        processes: who takes part; None is this process alone, on the best device.

    Yields:
        One record an update. Closing the generator saves a checkpoint.
    """
    joined = processes or Processes()
    kinds = [index_images(source) for source in config.data]
    entries = [entry for kind in kinds for entry in kind]
    torch.manual_seed(config.seed)
    lpips = load_judges(device=joined.device).lpips
    model = AutoencoderLoss(
        config.model, config.lpips, config.latents, lambda one, other: lpips(one, other)
    )
    model.to(joined.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    state, folder = TrainState(model, config.train), out / "autoencoder"
    if has_state(folder):
        state.load(folder)
    streams = _streams(config, kinds, (joined.rank, joined.count))
    for stream in streams:
        stream.position = state.batches
    stage = Stage("autoencoder", IMAGE_SCHEDULE, config.seed, set())
    records = run_updates(stage, state, _crops(config, state, streams, stage), folder, joined)
    averaged: Autoencoder = state.ema.autoencoder  # type: ignore[assignment]
    every = config.train.total_images / max(1, config.train.sheets)
    for record in logged(records, stage.name, state.images, out, joined):
        crossed = record.images // every > (record.images - config.train.batch_size) // every
        if joined.is_main and config.train.sheets and crossed:
            sheet = _sheet(averaged, load_photos(spread(entries, SHEET_PHOTOS), config.image_size))
            save_image(sheet, out / "sheets" / f"autoencoder-{record.images:09d}.png")
        yield record
    if joined.is_main:
        yield from whiten(averaged, spread(entries, WHITEN_ON), config.image_size)
        save_autoencoder(out / f"{config.name}.safetensors", config.name, averaged)


def _streams(
    config: AutoencoderRun, kinds: Sequence[Sequence[Entry]], part: tuple[int, int]
) -> list[ImageStream]:
    """One stream per kind of image, its batches as large as its share."""
    shares = config.shares or (1.0,) * len(config.data)
    whole, total = config.train.batch_size, sum(shares)
    ends = [round(whole * sum(shares[:count]) / total) for count in range(len(shares) + 1)]
    sizes = [end - start for start, end in pairwise(ends)]
    if min(sizes) < part[1]:
        raise UserError(
            f"batches of {whole} have no image of some kind: {sizes}",
            hint="raise batch_size or the smallest share in the configuration",
        )
    return [
        ImageStream(kind, config.image_size, size, config.seed, part=part)
        for kind, size in zip(kinds, sizes, strict=True)
    ]


def _crops(
    config: AutoencoderRun, state: TrainState, streams: Sequence[ImageStream], stage: Stage
) -> Iterator[Tensor]:
    """Batches of crops, one per image, at places that only the update and the seed decide."""
    for parts in zip(*streams, strict=True):
        pictures = torch.cat(parts)
        noise = update_noise(config.seed, state.batches, torch.device("cpu"), stream=2)
        room = config.image_size - config.crop + 1
        corners = torch.randint(0, room, (len(pictures), 2), generator=noise).tolist()
        for stream in streams:
            stage.bad.update(stream.bad)
        side = config.crop
        cut = [
            p[:, y : y + side, x : x + side] for p, (y, x) in zip(pictures, corners, strict=True)
        ]
        yield torch.stack(cut).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def whiten(autoencoder: Autoencoder, entries: Sequence[Entry], size: int) -> Iterator[TrainRecord]:
    """Find the linear map that makes the latents normal.

    Raises:
        UserError: none of the images can be read, or latents are not finite.
    """
    channels = autoencoder.latent_channels
    device = autoencoder.offset.device
    total = torch.zeros(channels, dtype=torch.float64)
    products, count = torch.zeros(channels, channels, dtype=torch.float64), 0
    for done, _, pictures in decoded(entries, size):
        raw = autoencoder.encoder(pictures.to(device)).double().cpu()
        check_finite(raw)
        flat = raw.permute(1, 0, 2, 3).flatten(1)
        total += flat.sum(1)
        products += flat @ flat.T
        count += flat.shape[1]
        yield TrainRecord("whiten", done, len(entries))
    if not count:
        raise UserError(f"none of {len(entries)} training images can be read")
    mean = total / count
    autoencoder.whiten(mean, products / count - torch.outer(mean, mean))


@torch.no_grad()
def _sheet(autoencoder: Autoencoder, photos: Tensor) -> Image.Image:
    """A row of photos and a row of what comes back."""
    photos = photos.to(autoencoder.offset.device)
    again = autoencoder.decode(autoencoder.encode(photos)).clamp(-1, 1)
    rows = {"photo": photos, "there and back": again}
    pictures = [to_images(row) for row in rows.values()]
    return contact_sheet(pictures, row_titles=list(rows), cell=photos.shape[-1])
