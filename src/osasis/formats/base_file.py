"""A base file: the networks of a base, written, read and checked; and the bases that are here."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from osasis.config.artefacts import artefacts, fetched
from osasis.config.catalogue import BASES_FOLDER, shipped_files
from osasis.config.tables import from_table, typed
from osasis.device import shapes_only
from osasis.errors import UserError
from osasis.formats.borrowed import lend
from osasis.formats.safetensors_file import (
    KEY,
    check_sizes,
    read_manifest,
    read_weights,
    write_tensors,
)
from osasis.models.autoencoder import FACTOR, Autoencoder, AutoencoderConfig, Borrowed
from osasis.models.diffae import DiffAE, DiffAEConfig
from osasis.models.encoder import encoder_config_class
from osasis.models.latent_net import LatentNet, LatentNetConfig
from osasis.models.regions import RegionConfig, RegionNet
from osasis.models.state import load_strict, with_prefix
from osasis.models.unet import UNet, UNetConfig

FORMAT, AUTOENCODER_FORMAT = "osasis-base-1", "osasis-autoencoder-1"
# what a base may have beside its DiffAE and latent net, and what describes it in the manifest
PARTS: dict[str, tuple[type, type]] = {
    "ddpm": (UNet, UNetConfig),
    "autoencoder": (Autoencoder, AutoencoderConfig),
    "regions": (RegionNet, RegionConfig),
}
_WRONG = (
    LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError, UserError,
)  # fmt: skip


@dataclass(frozen=True)
class BaseNetworks:
    """The networks and numbers of a base; `Base` says what each is for.

    Attributes:
        z_mean, z_std: (z_dim,).
        directions: (z_dim,) by attribute.
    """

    diffae: DiffAE
    latent_net: LatentNet
    z_mean: Tensor
    z_std: Tensor
    directions: Mapping[str, Tensor] = field(default_factory=dict)
    ddpm: UNet | None = None
    autoencoder: Autoencoder | None = None
    regions: RegionNet | None = None


def read_base(path: Path) -> tuple[BaseNetworks, dict[str, Any]]:
    """The networks in a file, on the CPU, and its manifest.

    Raises:
        UserError: it is no base, or its tensors are not those of the networks it describes.
    """
    manifest, tensors = read_weights(path, (FORMAT,), "an osasis base")
    networks = _described(path, manifest)
    parts = {
        "diffae": f"the network described in {path.name}",
        "latent_net": f"the latent DPM of {path.name}",
    } | {name: f"the {name} of {path.name}" for name in PARTS}
    for name, whose in parts.items():
        network = getattr(networks, name)
        if network is not None:
            load_strict(network, with_prefix(tensors, f"{name}."), whose)
    if networks.autoencoder is not None:
        lend(networks.autoencoder, path)
    z_dim = networks.diffae.config.encoder.z_dim
    statistics = [tensors.get(name) for name in ("z_mean", "z_std")]
    if any(s is None or s.shape != (z_dim,) for s in statistics):
        raise UserError(f"{path} is not an osasis base: z_mean or z_std is missing or misshapen")
    numbers = dataclasses.replace(
        networks,
        z_mean=tensors["z_mean"],
        z_std=tensors["z_std"],
        directions=with_prefix(tensors, "directions."),
    )
    return numbers, manifest


def _described(path: Path, manifest: dict[str, Any]) -> BaseNetworks:
    """The networks that a manifest describes, without numbers."""
    for table in ("model", "latent_net"):
        check_sizes(path, manifest.get(table, {}), table)
    try:
        typed(manifest["name"], str, "name")
        with shapes_only():
            return BaseNetworks(
                DiffAE(diffae_config_from_dict(manifest["model"])),
                LatentNet(from_table(LatentNetConfig, manifest["latent_net"])),
                torch.empty(0),
                torch.empty(0),
                **{name: _part(path, manifest, name) for name in PARTS},
            )
    except _WRONG as error:
        raise UserError(f"{path} is not an osasis base: its manifest is wrong: {error}") from error


def _part(path: Path, manifest: dict[str, Any], name: str) -> Any:
    """One of `PARTS` as a manifest describes it, without numbers; None where it has none."""
    network, config = PARTS[name]
    table = manifest.get(name)
    check_sizes(path, table or {}, name)
    if name == "autoencoder" and table and "source" in table:
        config = Borrowed
    return network(from_table(config, table)) if table else None


def load_autoencoder(path: Path) -> tuple[Autoencoder, RegionNet | None]:
    """The autoencoder, and the regions where there are some, of a base or of `save_autoencoder`.

    Raises:
        UserError: the file is neither, or has no autoencoder.
    """
    known = (FORMAT, AUTOENCODER_FORMAT)
    manifest, tensors = read_weights(path, known, "an osasis base or autoencoder")
    if "autoencoder" not in manifest:
        raise UserError(
            f"{path} works in pixels and has no autoencoder",
            hint="train one with: osasis pretrain autoencoder CONFIG",
        )
    found = []
    for name in ("autoencoder", "regions"):
        try:
            with shapes_only():
                part = _part(path, manifest, name)
        except _WRONG as error:
            raise UserError(f"{path} describes no {name}: {error}") from error
        if part is not None:
            load_strict(part, with_prefix(tensors, f"{name}."), f"the {name} of {path.name}")
            part.eval().requires_grad_(False)
        found.append(part)
    lend(found[0], path)
    return found[0], found[1]


def save_autoencoder(path: Path, name: str, autoencoder: Autoencoder) -> None:
    """Write an autoencoder as one safetensors file in float16, as a base holds it."""
    tensors = {f"autoencoder.{k}": v for k, v in autoencoder.stored().items()}
    config = dataclasses.asdict(autoencoder.config)
    manifest = {"format": AUTOENCODER_FORMAT, "name": name, "autoencoder": config}
    _write(path, tensors, manifest, torch.float16)


def _write(
    path: Path, tensors: Mapping[str, Tensor], manifest: dict[str, Any], dtype: torch.dtype
) -> None:
    stored = {name: tensor.to(dtype) for name, tensor in tensors.items()}
    described = {KEY: json.dumps(manifest, sort_keys=True)}
    write_tensors(path, stored, described, what=f"{manifest['name']}")


def diffae_config_from_dict(raw: dict[str, Any]) -> DiffAEConfig:
    """Inverse of `dataclasses.asdict`; lists of JSON become tuples."""
    rest = {k: v for k, v in raw.items() if k not in ("unet", "encoder")}
    unet = from_table(UNetConfig, raw["unet"])
    encoder = from_table(encoder_config_class(raw["encoder"]), raw["encoder"])
    return from_table(DiffAEConfig, rest, unet=unet, encoder=encoder)


def save_base(
    path: Path,
    name: str,
    diffae: DiffAE,
    latent_net: LatentNet,
    z_mean: Tensor,
    z_std: Tensor,
    *,
    directions: Mapping[str, Tensor] | None = None,
    ddpm: UNet | None = None,
    autoencoder: Autoencoder | None = None,
    regions: RegionNet | None = None,
    notes: dict[str, Any] | None = None,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write a base as one safetensors file, its configuration in the metadata."""
    tensors = {f"diffae.{k}": v for k, v in diffae.state_dict().items()}
    tensors |= {f"latent_net.{k}": v for k, v in latent_net.state_dict().items()}
    tensors |= {"z_mean": z_mean, "z_std": z_std}
    tensors |= {f"directions.{k}": v for k, v in (directions or {}).items()}
    manifest = {
        "format": FORMAT,
        "name": name,
        "model": dataclasses.asdict(diffae.config),
        "latent_net": dataclasses.asdict(latent_net.config),
        "notes": notes or {},
    }
    for name_of, part in zip(PARTS, (ddpm, autoencoder, regions), strict=True):
        if part is not None:
            state = part.stored() if isinstance(part, Autoencoder) else part.state_dict()
            tensors |= {f"{name_of}.{k}": v for k, v in state.items()}
            manifest[name_of] = dataclasses.asdict(part.config)  # type: ignore[call-overload]
    _write(path, tensors, manifest, dtype)


@dataclass(frozen=True)
class BaseInfo:
    """One base: its name, what it is, image size in pixels, bytes on disk, file, origin."""

    name: str
    description: str
    image_size: int
    bytes: int
    path: Path
    source: str


def list_bases() -> list[BaseInfo]:
    """The bases that `load_base` knows by name and that are here."""
    known = artefacts()
    here = {
        name: (path, "comes with the package") for name, path in shipped_files(BASES_FOLDER).items()
    }
    for name, entry in known.items():
        path = fetched(name) if entry.kind == "base" else None
        if path is not None:
            here[name] = (path, "fetched")
    found = []
    for name, (path, source) in here.items():
        manifest = read_manifest(path)
        factor = FACTOR if manifest.get("autoencoder") else 1  # pixels of a place of x0
        found.append(
            BaseInfo(
                name=name,
                description=str(manifest["notes"].get("description") or known[name].about),
                image_size=factor * int(manifest["model"]["unet"]["image_size"]),
                bytes=path.stat().st_size,
                path=path,
                source=source,
            )
        )
    return found
