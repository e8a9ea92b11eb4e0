"""A whole pretraining run: DiffAE, then codes, then latent DPM, then the base file."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from osasis.base import save_base
from osasis.diffusion.schedule import IMAGE_SCHEDULE, LATENT_SCHEDULE
from osasis.imaging.save import save_image
from osasis.models.diffae import DiffAE
from osasis.models.latent_net import LatentNet
from osasis.pretrain.codes import encode_entries, fit_thumbnails
from osasis.pretrain.config import PretrainConfig
from osasis.pretrain.data import Entry, ImageStream, index_images, load_photos, spread
from osasis.pretrain.log import RunLog
from osasis.pretrain.losses import DiffAELoss, LatentLoss
from osasis.pretrain.probes import probe, read_attributes
from osasis.pretrain.processes import Processes, update_noise
from osasis.pretrain.sheets import training_sheet
from osasis.pretrain.state import TrainState, has_state
from osasis.pretrain.train import Stage, TrainRecord, run_updates

Records = Generator[TrainRecord, None, None]
Statistics = tuple[Tensor, Tensor]

MAX_CODES = 20_000  # images whose codes the latent DPM is trained on
SHEET_PHOTOS = 8


def pretrain(config: PretrainConfig, out: Path, *, processes: Processes | None = None) -> Records:
    """Train a base and write `<out>/<name>.safetensors`; continue an earlier run in `out`.

    Args:
        config: see `load_config`.
        out: folder of checkpoints, log, sheets and of the finished base.
        processes: who takes part; None is this process alone, on the best device.

    Yields:
        One record an update. Closing the generator saves a checkpoint.
    """
    joined = processes or Processes()
    entries = index_images(config.data)
    labels = read_attributes(config.attributes) if config.attributes else {}
    model = yield from _train_diffae(config, entries, out, joined)
    chosen, size = spread(entries, MAX_CODES), config.model.unet.image_size
    _, codes = yield from encode_entries(model.encode, chosen, size, joined.device, mirrored=True)
    mean, std = codes.mean(0), codes.std(0).clamp_min(1e-6)
    normalised = ((codes - mean) / std).to(joined.device)
    latent = yield from _train_latent(normalised, config, out, joined)
    known = set().union(*labels.values())
    labelled = [entry for entry in entries if Path(entry.name).stem in known]
    described = yield from encode_entries(model.encode, labelled, size, joined.device)
    if joined.is_main:
        save_base(
            out / f"{config.name}.safetensors",
            config.name,
            model,
            latent,
            mean,
            std,
            directions=_directions(*described, labels, (mean, std)),
            notes={
                "description": config.description,
                "domain": config.domain,
                "images_seen": config.train.total_images,
                "seed": config.seed,
            },
        )


def _train_diffae(
    config: PretrainConfig, entries: Sequence[Entry], out: Path, processes: Processes
) -> Generator[TrainRecord, None, DiffAE]:
    """Train the DiffAE; returns the averaged networks."""
    train, unet = config.train, config.model.unet
    folder = out / "diffae"
    torch.manual_seed(config.seed)
    model = DiffAELoss(config.model).to(processes.device)
    part = (processes.rank, processes.count)
    stream = ImageStream(entries, unet.image_size, train.batch_size, config.seed, part=part)
    continues = has_state(folder)
    if not continues:
        yield from fit_thumbnails(model.diffae, spread(entries, MAX_CODES), processes.device)
    state = TrainState(model, train)
    if continues:
        state.load(folder)
    stream.position = state.batches
    # channels_last is the faster layout for these convolutions on CPUs and GPUs alike
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    stage = Stage("diffae", IMAGE_SCHEDULE, config.seed, stream.bad)
    batches = (batch.to(memory_format=torch.channels_last) for batch in stream)
    records = run_updates(stage, state, batches, folder, processes)
    every = train.total_images / train.sheets if train.sheets else float("inf")
    averaged: DiffAE = state.ema.diffae  # type: ignore[assignment]
    for record in _logged(records, stage.name, state, out, processes):
        crossed = record.images // every > (record.images - train.batch_size) // every
        if processes.is_main and crossed:
            _save_sheet(averaged, entries, out, record.images)
        yield record
    return averaged


def _logged(
    records: Records, stage: str, state: TrainState, out: Path, processes: Processes
) -> Records:
    """Pass records on, writing the log on the way."""
    if not processes.is_main:
        yield from records
        return
    try:
        with RunLog(out, stage, state.images) as log:
            for record in records:
                log.add(record)
                yield record
    finally:
        records.close()


def _save_sheet(diffae: DiffAE, entries: Sequence[Entry], out: Path, images: int) -> None:
    size = diffae.config.unet.image_size
    photos = load_photos(spread(entries, SHEET_PHOTOS), size)
    device = next(diffae.parameters()).device
    sheet = training_sheet(diffae, photos.to(device))
    save_image(sheet, out / "sheets" / f"diffae-{images:09d}.png")


def _directions(
    names: list[str], codes: Tensor, labels: dict[str, dict[str, float]], statistics: Statistics
) -> dict[str, Tensor]:
    """Attribute directions of a base; attributes with too few labels have none."""
    named = dict(zip(names, codes, strict=True))
    probes = (probe(name, named, {}, values, statistics) for name, values in labels.items())
    return {found.name: found.direction for found in probes if found is not None}


def _train_latent(
    codes: Tensor, config: PretrainConfig, out: Path, processes: Processes
) -> Generator[TrainRecord, None, LatentNet]:
    """Train the latent DPM on normalised codes; returns the averaged network."""
    torch.manual_seed(config.seed)
    state = TrainState(LatentLoss(config.latent_net).to(processes.device), config.latent)
    folder = out / "latent"
    if has_state(folder):
        state.load(folder)

    def batches() -> Iterator[Tensor]:
        while True:
            source = update_noise(config.seed, state.batches, codes.device, stream=1)
            size = (config.latent.batch_size,)
            index = torch.randint(len(codes), size, generator=source, device=codes.device)
            yield codes[processes.part(index)]

    stage = Stage("latent", LATENT_SCHEDULE, config.seed)
    records = run_updates(stage, state, batches(), folder, processes)
    yield from _logged(records, stage.name, state, out, processes)
    averaged: LatentNet = state.ema.latent_net  # type: ignore[assignment]
    return averaged
