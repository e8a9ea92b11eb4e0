"""A whole pretraining run: DiffAE, then codes, then latent DPM, then the base file."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from osasis.base import Base
from osasis.config.catalogue import find_base
from osasis.diffusion.schedule import IMAGE_SCHEDULE, LATENT_SCHEDULE
from osasis.errors import UserError
from osasis.formats.base_file import load_autoencoder, save_autoencoder, save_base
from osasis.formats.borrowed import PREFIX, borrow
from osasis.imaging.save import save_image
from osasis.models.autoencoder import FACTOR, Autoencoder
from osasis.models.diffae import DiffAE
from osasis.models.latent_net import LatentNet, LatentNetConfig
from osasis.models.regions import RegionNet
from osasis.pretrain.autoencoder import WHITEN_ON, whiten
from osasis.pretrain.config import PretrainConfig
from osasis.pretrain.data import Entry, ImageStream, index_images, load_photos, spread
from osasis.pretrain.latents import (
    Batches,
    LatentCache,
    LatentStream,
    encode_batches,
    encode_entries,
    fit_thumbnails,
    with_mirrored,
)
from osasis.pretrain.log import logged, training_sheet
from osasis.pretrain.probes import probe, read_attributes
from osasis.pretrain.processes import Processes, update_noise
from osasis.pretrain.state import TrainState, has_state
from osasis.pretrain.train import DiffAELoss, LatentLoss, Stage, TrainRecord, run_updates

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
    space = yield from _space(config, joined.device, entries, out)
    cache = None
    if space.autoencoder is not None:
        cache = LatentCache(out / "latents", entries, space.autoencoder, space.pixels)
        yield from cache.fill(joined)

    def x0() -> Batches:
        if cache is not None:
            return cache.batches(MAX_CODES)
        return with_mirrored(spread(entries, MAX_CODES), space.pixels)

    images = min(MAX_CODES, len(entries))
    model = yield from _train_diffae(config, entries, out, joined, space, cache, x0)
    codes = yield from encode_batches(model, x0(), images, joined.device)
    mean, std = codes.mean(0), codes.std(0).clamp_min(1e-6)
    normalised = ((codes - mean) / std).to(joined.device)
    latent = yield from _train_latent(normalised, config, out, joined)
    known = set().union(*labels.values())
    labelled = [entry for entry in entries if Path(entry.name).stem in known]
    base = space.base(model)
    described = yield from encode_entries(base.encode, labelled, base.image_size)
    if joined.is_main:
        save_base(
            out / f"{config.name}.safetensors",
            config.name,
            model,
            latent,
            mean,
            std,
            directions=_directions(*described, labels, (mean, std)),
            autoencoder=space.autoencoder,
            regions=space.regions,
            notes={
                "description": config.description,
                "domain": config.domain,
                "images_seen": config.train.total_images,
                "seed": config.seed,
            },
        )


@dataclass(frozen=True)
class Space:
    """What a base is trained in: pixels, or an autoencoder's latents.

    Attributes:
        pixels: side of its pictures.
        autoencoder, regions: of a base in latents.
        device: where it is trained.
    """

    pixels: int
    autoencoder: Autoencoder | None
    regions: RegionNet | None
    device: torch.device

    def base(self, diffae: DiffAE) -> Base:
        """A base around a DiffAE in training; it cannot draw codes."""
        z_dim = diffae.config.encoder.z_dim
        with torch.random.fork_rng(devices=[]):
            unused = LatentNet(LatentNetConfig(z_dim, z_dim, 2))
        return Base(
            diffae,
            unused,
            torch.zeros(z_dim),
            torch.ones(z_dim),
            name="the base in training",
            file_hash="",
            device=self.device,
            autoencoder=self.autoencoder,
        )


def _space(
    config: PretrainConfig, device: torch.device, entries: Sequence[Entry], out: Path
) -> Generator[TrainRecord, None, Space]:
    """Where `config` trains."""
    unet, autoencoder, regions = config.model.unet, None, None
    channels, factor = 3, 1
    borrowed = config.autoencoder.startswith(PREFIX)
    if borrowed:
        autoencoder = borrow(config.autoencoder.removeprefix(PREFIX), download=True)
    elif config.autoencoder:
        autoencoder, regions = load_autoencoder(find_base(config.autoencoder))
    if autoencoder is not None:
        autoencoder.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        channels, factor = autoencoder.latent_channels, FACTOR
    if unet.in_channels != channels or unet.out_channels != channels:
        raise UserError(
            f"x0 has {channels} channels, but [unet] has in_channels {unet.in_channels} "
            f"and out_channels {unet.out_channels}",
            hint=f"set both to {channels} in the configuration",
        )
    pixels = unet.image_size * factor
    if borrowed and autoencoder is not None:
        yield from _fit_borrowed(autoencoder, out / "autoencoder.safetensors", entries, pixels)
    return Space(pixels, autoencoder, regions, device)


def _fit_borrowed(
    autoencoder: Autoencoder, file: Path, entries: Sequence[Entry], size: int
) -> Iterator[TrainRecord]:
    """Find a borrowed autoencoder's linear map, or take it from `file`, where it is kept.

    Raises:
        UserError: the file is of another autoencoder, or latents are not finite.
    """
    if not file.is_file():
        yield from whiten(autoencoder, spread(entries, WHITEN_ON), size)
        save_autoencoder(file, file.stem, autoencoder)
    kept, _ = load_autoencoder(file)  # rounded, as the base will hold it
    if kept.config != autoencoder.config:
        raise UserError(
            f"{file.parent} was begun with another autoencoder",
            hint="delete it, or start in a new folder with -o",
        )
    autoencoder.load_state_dict(kept.state_dict())


def _train_diffae(
    config: PretrainConfig,
    entries: Sequence[Entry],
    out: Path,
    processes: Processes,
    space: Space,
    cache: LatentCache | None,
    x0: Callable[[], Batches],
) -> Generator[TrainRecord, None, DiffAE]:
    """Train the DiffAE; returns the averaged networks."""
    train = config.train
    folder = out / "diffae"
    torch.manual_seed(config.seed)
    model = DiffAELoss(config.model).to(processes.device)
    part = (processes.rank, processes.count)
    stream = (
        ImageStream(entries, space.pixels, train.batch_size, config.seed, part=part)
        if cache is None
        else LatentStream(cache, train.batch_size, config.seed, part=part)
    )
    continues = has_state(folder)
    if not continues:
        images = min(MAX_CODES, len(entries))
        yield from fit_thumbnails(model.diffae, x0(), images, processes.device)
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
    for record in logged(records, stage.name, state.images, out, processes):
        crossed = record.images // every > (record.images - train.batch_size) // every
        if processes.is_main and crossed:
            _save_sheet(space.base(averaged), entries, out, record.images)
        yield record
    return averaged


def _save_sheet(base: Base, entries: Sequence[Entry], out: Path, images: int) -> None:
    photos = load_photos(spread(entries, SHEET_PHOTOS), base.image_size)
    save_image(training_sheet(base, photos), out / "sheets" / f"diffae-{images:09d}.png")


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
    yield from logged(records, stage.name, state.images, out, processes)
    averaged: LatentNet = state.ema.latent_net  # type: ignore[assignment]
    return averaged
