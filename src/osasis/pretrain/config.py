"""The configuration of a pretraining run, read from TOML."""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from osasis.errors import UserError
from osasis.models.diffae import DiffAEConfig
from osasis.models.encoder import EncoderConfig
from osasis.models.latent_net import LatentNetConfig
from osasis.models.unet import UNetConfig

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")


@dataclass(frozen=True)
class TrainConfig:
    """How one network is trained.

    Attributes:
        total_images: images (or codes) to see before the run ends.
        batch_size: images per update.
        learning_rate: peak rate of Adam.
        warmup_images: images over which the rate rises linearly from 0.
        anneal: last fraction of `total_images` over which the rate falls linearly to 0.
        ema_decay: decay of the averaged weights per update.
        grad_clip: largest norm of the gradient.
        null_probability: how often z_sem is replaced by the null code.
        checkpoint_seconds: time between checkpoints.
    """

    total_images: int
    batch_size: int
    learning_rate: float
    warmup_images: int = 2000
    anneal: float = 0.3
    ema_decay: float = 0.999
    grad_clip: float = 1.0
    null_probability: float = 0.15
    checkpoint_seconds: float = 300.0


@dataclass(frozen=True)
class PretrainConfig:
    """A whole run: what is trained, on what, how.

    Attributes:
        name: name of the base.
        data: folder of images, or a glob of tar shards.
        seed: seed of initial weights, order, flips and noise.
        description: one line for `osasis models list`.
    """

    name: str
    data: str
    seed: int
    model: DiffAEConfig
    latent_net: LatentNetConfig
    train: TrainConfig
    latent: TrainConfig
    description: str = ""


def _build(cls: type[T], table: dict[str, Any], where: str) -> T:
    known = {f.name for f in fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(table) - known)
    if unknown:
        raise UserError(
            f"[{where}] has unknown settings {unknown}", hint=f"known are {sorted(known)}"
        )
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in table.items()}
    try:
        return cls(**values)
    except TypeError as error:
        raise UserError(f"[{where}] is incomplete: {error}") from error


def load_config(path: Path, *, data: str | None = None) -> PretrainConfig:
    """Read a run's configuration; `data` overrides where its images are.

    Raises:
        UserError: the file is missing, is not TOML, or has missing or unknown settings.
    """
    try:
        raw = tomllib.loads(path.read_text())
    except FileNotFoundError as error:
        raise UserError(f"no configuration at {path}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not TOML: {error}") from error
    missing = [k for k in ("unet", "encoder", "latent_net", "train", "latent") if k not in raw]
    if missing:
        raise UserError(f"{path} lacks the sections {missing}")
    model = DiffAEConfig(
        unet=_build(UNetConfig, raw["unet"], "unet"),
        encoder=_build(EncoderConfig, raw["encoder"], "encoder"),
        **raw.get("model", {}),
    )
    source = data or raw.get("data")
    if not source:
        raise UserError(
            f"{path} does not say where the images are", hint="add data = ... or pass --data"
        )
    return PretrainConfig(
        name=raw.get("name", path.stem),
        data=source,
        seed=raw.get("seed", 0),
        model=model,
        latent_net=_build(LatentNetConfig, raw["latent_net"], "latent_net"),
        train=_build(TrainConfig, raw["train"], "train"),
        latent=_build(TrainConfig, raw["latent"], "latent"),
        description=raw.get("description", ""),
    )
