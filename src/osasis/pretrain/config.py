"""The configuration of a pretraining run, read from TOML."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from osasis.config.catalogue import configs
from osasis.config.tables import Checked, Range, from_table, read_toml
from osasis.errors import UserError
from osasis.formats.safetensors_file import MAX_NUMBER, check_sizes
from osasis.models.autoencoder import FACTOR, AutoencoderConfig
from osasis.models.diffae import DiffAEConfig
from osasis.models.encoder import encoder_config_class
from osasis.models.latent_net import LatentNetConfig
from osasis.models.unet import UNetConfig

_SECTIONS = ("unet", "encoder", "latent_net", "train", "latent")


@dataclass(frozen=True)
class TrainConfig(Checked):
    """How one network is trained.

    Attributes:
        total_images: images (or codes) to see before the run ends.
        batch_size: images per update.
        learning_rate: peak rate of the optimiser.
        optimizer: "adam", or "muon" for hidden convolutions and attention, and Adam for the rest.
        rest_rate: peak rate of Adam beside Muon.
        warmup_images: images over which the rate rises linearly from 0.
        anneal: last fraction of `total_images` over which the rate falls linearly to 0.
        ema_decay: decay of the averaged weights per update.
        grad_clip: largest norm of the gradient.
        null_probability: how often z_sem is replaced by the null code.
        compiled: compile the network; takes minutes at the start, pays in runs of an hour.
        mixed_precision: multiply in bfloat16 on CPUs too, where they do so themselves.
        checkpoint_seconds: time between checkpoints.
        sheets: how many sheets of samples and reconstructions are drawn over the run.
    """

    total_images: Annotated[int, Range(1, 10**12)]
    batch_size: Annotated[int, Range(1, 65536)]
    learning_rate: Annotated[float, Range(0, 10)]
    warmup_images: Annotated[int, Range(0, 10**12)] = 2000
    anneal: Annotated[float, Range(0, 1)] = 0.3
    ema_decay: Annotated[float, Range(0, 1)] = 0.999
    grad_clip: Annotated[float, Range(0, 1e9)] = 1.0
    null_probability: Annotated[float, Range(0, 1)] = 0.15
    compiled: bool = False
    mixed_precision: bool = False
    optimizer: Literal["adam", "muon"] = "adam"
    rest_rate: Annotated[float, Range(0, 10)] = 1e-3
    checkpoint_seconds: Annotated[float, Range(0, 1e9)] = 300.0
    sheets: Annotated[int, Range(0, 100_000)] = 0


@dataclass(frozen=True)
class PretrainConfig:
    """A whole run: what is trained, on what, how.

    Attributes:
        name: name of the base.
        data: folder of images, glob of tar shards, or data set; see `index_images`.
        seed: seed of initial weights, order, flips and noise.
        description: one line for `osasis models list`.
        attributes: table of labels whose directions go into the base; see `read_attributes`.
        domain: what the images show; "faces" has photos aligned before they are stylized.
        autoencoder: a base, or a file of `osasis pretrain autoencoder`, whose autoencoder, and
            regions where it has them, the new base works in; or "diffusers:" and a folder or
            repository of the hub, see `borrow`; empty trains in pixels.
    """

    name: str
    data: str
    seed: int
    model: DiffAEConfig
    latent_net: LatentNetConfig
    train: TrainConfig
    latent: TrainConfig
    description: str = ""
    attributes: Path | None = None
    domain: str = ""
    autoencoder: str = ""

    def __post_init__(self) -> None:
        _check_run(self.name, self.seed)


@dataclass(frozen=True)
class AutoencoderRun:
    """A run of `osasis pretrain autoencoder`.

    Attributes:
        name: of the file.
        seed: of initial weights, order, flips and crops.
        data: sources of images, see `index_images`.
        shares: of the sources in every batch; empty makes them equal.
        model: shape of the autoencoder.
        train: how it is trained.
        image_size: side of the images in pixels; of each a random crop is seen.
        crop: side of the crops in pixels, a multiple of 8.
        lpips: weight of LPIPS beside L1.
        latents: weight of the mean square of raw latents, which keeps their size.
    """

    name: str
    seed: int
    data: tuple[str, ...]
    model: AutoencoderConfig
    train: TrainConfig
    shares: tuple[float, ...] = ()
    image_size: int = 256
    crop: int = 128
    lpips: float = 0.8
    latents: float = 1e-3

    def __post_init__(self) -> None:
        _check_run(self.name, self.seed)
        if self.crop % FACTOR or not 0 < self.crop <= self.image_size <= MAX_NUMBER:
            raise UserError(
                f"crop must be a multiple of {FACTOR} and at most image_size, got {self.crop}"
            )
        if self.shares and (len(self.shares) != len(self.data) or min(self.shares) <= 0):
            raise UserError(
                f"shares must be above 0, one for each of {len(self.data)} sources in data"
            )


def _check_run(name: str, seed: int) -> None:
    """Refuse what cannot name a file or seed a generator."""
    if not re.fullmatch(r"[\w][\w. -]{0,99}", name):
        raise UserError(
            f"name = {name!r:.120} cannot be the name of a file",
            hint="use letters, digits, '-', '_' and '.'",
        )
    if not 0 <= seed < 2**63:
        raise UserError("seed must be a whole number from 0 to 2^63 - 1")


def _read(path: Path, *, nested: bool = False) -> dict[str, Any]:
    """A file's tables; `extends = "OTHER"` starts from OTHER.toml beside it."""
    if not path.is_file():
        raise UserError(f"no configuration at {path}")
    raw = read_toml(path)
    parent = raw.pop("extends", None)
    if parent is None:
        return raw
    if nested:
        raise UserError(f"{path} extends {parent}, but is itself extended: one step is the limit")
    merged = _read(_parent(path, str(parent)), nested=True)
    for key, value in raw.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = {**merged[key], **value} if both else value
    return merged


def _parent(path: Path, name: str) -> Path:
    """The file that `path` extends: beside it, else the shipped configuration of that name."""
    stem = Path(name).name.removesuffix(".toml")
    beside = path.with_name(f"{stem}.toml")
    return beside if beside.is_file() else configs().get(stem, beside)


def load_config(
    path: Path, *, data: str | None = None, attributes: Path | None = None
) -> PretrainConfig:
    """Read a run's configuration; `data` and `attributes` override what it says.

    Raises:
        UserError: the file is missing, is not TOML, or has missing or unknown settings.
    """
    raw = _read(path)
    known = {*_SECTIONS, "model", *(f.name for f in fields(PretrainConfig))}
    if unknown := sorted(set(raw) - known):
        raise UserError(f"{path} has unknown settings {unknown}", hint=f"known: {sorted(known)}")
    missing = [k for k in _SECTIONS if k not in raw]
    if missing:
        raise UserError(f"{path} lacks the sections {missing}")
    for section in ("unet", "encoder", "latent_net"):
        check_sizes(path, raw[section], section)
    encoder = raw["encoder"] if isinstance(raw["encoder"], dict) else {}
    parts: dict[str, Any] = {
        "model": from_table(
            DiffAEConfig,
            raw.get("model", {}),
            where="[model]",
            unet=from_table(UNetConfig, raw["unet"], where="[unet]"),
            encoder=from_table(encoder_config_class(encoder), raw["encoder"], where="[encoder]"),
        ),
        "latent_net": from_table(LatentNetConfig, raw["latent_net"], where="[latent_net]"),
        "train": from_table(TrainConfig, raw["train"], where="[train]"),
        "latent": from_table(TrainConfig, raw["latent"], where="[latent]"),
    }
    rest = {"name": path.stem, "seed": 0}
    rest |= {k: v for k, v in raw.items() if k not in (*_SECTIONS, "model")}
    if data:
        rest["data"] = data
    if attributes:
        rest["attributes"] = str(attributes)
    if not rest.get("data"):
        raise UserError(
            f"{path} does not say where the images are", hint="add data = ... or pass --data"
        )
    return from_table(PretrainConfig, rest, where=path.name, **parts)


def load_autoencoder_config(path: Path, *, data: str | None = None) -> AutoencoderRun:
    """Read a run of `osasis pretrain autoencoder`; `data` is one source in place of the file's.

    Raises:
        UserError: the file is missing, is not TOML, or has missing, unknown or wrong settings.
    """
    raw = _read(path)
    shape = raw.pop("autoencoder", {})
    check_sizes(path, shape, "autoencoder")
    parts: dict[str, Any] = {
        "model": from_table(AutoencoderConfig, shape, where="[autoencoder]"),
        "train": from_table(TrainConfig, raw.pop("train", {}), where="[train]"),
    }
    rest = {"name": path.stem, "seed": 0} | raw
    if data:
        rest |= {"data": [data], "shares": []}
    if not rest.get("data"):
        raise UserError(
            f"{path} does not say where the images are", hint="add data = [...] or pass --data"
        )
    return from_table(AutoencoderRun, rest, where=path.name, **parts)
