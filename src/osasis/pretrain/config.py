"""The configuration of a pretraining run, read from TOML."""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from osasis.errors import UserError
from osasis.models.diffae import DiffAEConfig
from osasis.models.encoder import encoder_config_class
from osasis.models.latent_net import LatentNetConfig
from osasis.models.unet import UNetConfig

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")
_SECTIONS = ("unet", "encoder", "latent_net", "train", "latent")


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
        compiled: compile the network; takes minutes at the start, pays in runs of an hour.
        checkpoint_seconds: time between checkpoints.
        sheets: how many sheets of samples and reconstructions are drawn over the run.
    """

    total_images: int
    batch_size: int
    learning_rate: float
    warmup_images: int = 2000
    anneal: float = 0.3
    ema_decay: float = 0.999
    grad_clip: float = 1.0
    null_probability: float = 0.15
    compiled: bool = False
    checkpoint_seconds: float = 300.0
    sheets: int = 0


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


def _read(path: Path, *, nested: bool = False) -> dict[str, Any]:
    """A file's tables; `extends = "OTHER"` starts from OTHER.toml beside it."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"no configuration at {path}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not TOML: {error}") from error
    parent = raw.pop("extends", None)
    if parent is None:
        return raw
    if nested:
        raise UserError(f"{path} extends {parent}, but is itself extended: one step is the limit")
    merged = _read(path.with_name(f"{Path(str(parent)).name}.toml"), nested=True)
    for key, value in raw.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = {**merged[key], **value} if both else value
    return merged


def load_config(
    path: Path, *, data: str | None = None, attributes: Path | None = None
) -> PretrainConfig:
    """Read a run's configuration; `data` and `attributes` override what it says.

    Raises:
        UserError: the file is missing, is not TOML, or has missing or unknown settings.
    """
    raw = _read(path)
    known = {*_SECTIONS, "model", "name", "data", "seed", "description", "domain", "attributes"}
    if unknown := sorted(set(raw) - known):
        raise UserError(f"{path} has unknown settings {unknown}", hint=f"known: {sorted(known)}")
    missing = [k for k in _SECTIONS if k not in raw]
    if missing:
        raise UserError(f"{path} lacks the sections {missing}")
    model = DiffAEConfig(
        unet=_build(UNetConfig, raw["unet"], "unet"),
        encoder=_build(encoder_config_class(raw["encoder"]), raw["encoder"], "encoder"),
        **raw.get("model", {}),
    )
    source = data or raw.get("data")
    if not source:
        raise UserError(
            f"{path} does not say where the images are", hint="add data = ... or pass --data"
        )
    labels = attributes or raw.get("attributes")
    return PretrainConfig(
        name=raw.get("name", path.stem),
        data=source,
        seed=raw.get("seed", 0),
        model=model,
        latent_net=_build(LatentNetConfig, raw["latent_net"], "latent_net"),
        train=_build(TrainConfig, raw["train"], "train"),
        latent=_build(TrainConfig, raw["latent"], "latent"),
        description=raw.get("description", ""),
        attributes=Path(labels).expanduser() if labels else None,
        domain=raw.get("domain", ""),
    )
