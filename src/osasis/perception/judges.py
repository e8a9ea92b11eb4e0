"""Frozen judges of pictures: embedders and LPIPS, by name, and what of them is missing."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from osasis.config import artefacts
from osasis.config.presets import EMBEDDED, SHIPPED_LAYERS
from osasis.errors import UserError
from osasis.perception.clip import CLIP_MODEL, ClipEmbedder, clip_is_missing, locate
from osasis.perception.lpips import Lpips
from osasis.perception.vgg import VggStatistics, VggTrunk, load_vgg

VGG_ASSET = "vgg16_lpips4.safetensors"
WHOLE_VGG = "lpips-vgg16"  # what is fetched for the fifth layer


@runtime_checkable
class Embedder(Protocol):
    """A frozen map from pictures to vectors, differentiable with respect to the pictures.

    Attributes:
        name: what `get_embedder` takes, and what is recorded in style files.
        dim: length of one vector.
    """

    name: str
    dim: int

    def __call__(self, x: Tensor) -> Tensor:
        """Embed (B, 3, H, W) float pictures in [-1, 1] as (B, dim) float32 vectors."""
        ...


@dataclass(frozen=True)
class VggJudges:
    """A trunk and the two judges that read its activations, so that VGG runs once per picture.

    In a training step: `activations = judges.trunk(x)`, then
    `judges.statistics.from_activations(activations)` and `judges.lpips.normalise(activations)`.
    """

    trunk: VggTrunk
    statistics: VggStatistics
    lpips: Lpips


def load_judges(path: Path | None = None, device: torch.device | None = None) -> VggJudges:
    """Load VGG16 with LPIPS' heads once, frozen, float32, channels last (engineering choice).

    Args:
        path: a safetensors file with four or five stages; None takes the one in the package.
        device: where to put it; None leaves it on the CPU.

    Raises:
        UserError: there is no such file.
        OsasisError: the file is damaged or holds something else.
    """
    if path is None:
        with as_file(files("osasis") / "assets" / VGG_ASSET) as asset:
            trunk, heads = load_vgg(asset)
    else:
        trunk, heads = load_vgg(path)
    if device is not None:
        trunk = trunk.to(device)
        heads = [head.to(device) for head in heads]
    return VggJudges(trunk, VggStatistics(trunk), Lpips(trunk, heads))


def get_embedder(
    name: str | None = None,
    device: torch.device | None = None,
    *,
    release_preprocessing: bool = False,
) -> Embedder:
    """Load an embedder: 'vgg16-stats' (default), 'clip', or 'clip:' and a folder or hub id.

    Args:
        name: which one; None takes the default, which is in the package.
        device: where to put it; None leaves it on the CPU.
        release_preprocessing: CLIP only, see `ClipEmbedder`.

    Raises:
        UserError: the name is unknown, or what it needs is not on this machine.
    """
    if name is None or name == EMBEDDED:
        return load_judges(device=device).statistics
    source = _clip_source(name)
    return ClipEmbedder(source, device=device, release_preprocessing=release_preprocessing)


def _clip_source(name: str) -> str:
    """Folder or hub id of the CLIP that `name` stands for."""
    kind, _, source = name.partition(":")
    if kind == "clip" and (source or name == "clip"):
        return source or CLIP_MODEL
    raise UserError(
        f"there is no embedder named '{name}'",
        hint=f"use {EMBEDDED}, clip, or clip:FOLDER_OR_HUB_ID",
    )


def judges_of(lpips_layers: int, device: torch.device) -> VggJudges:
    """VGG16 with LPIPS of so many layers: 4 in the package, 5 as published and fetched.

    Raises:
        UserError: the fifth is not on this machine.
        OsasisError: its file is damaged.
    """
    path = None if lpips_layers == SHIPPED_LAYERS else artefacts.path(WHOLE_VGG)
    return load_judges(path, device)


def check_judges(embedder: str, lpips_layers: int, *, whose: str) -> None:
    """Refuse judges that are not on this machine, all at once, before hours are spent.

    Args:
        embedder: see `get_embedder`.
        lpips_layers: see `judges_of`.
        whose: what asks for them, to be said in the message.

    Raises:
        UserError: one or both are missing, with their sizes and what fetches them; an embedder
            that does not exist.
    """
    missing, commands = [], []
    source = "" if embedder == EMBEDDED else locate(_clip_source(embedder))
    if source == CLIP_MODEL:
        what, how = clip_is_missing()
        missing += what
        commands += how
    if lpips_layers > SHIPPED_LAYERS and artefacts.fetched(WHOLE_VGG) is None:
        missing.append("LPIPS with five layers of VGG16 (553 MB to fetch, 59 MB kept)")
        commands.append(f"osasis models fetch {WHOLE_VGG}")
    if missing:
        raise UserError(
            f"{whose} judges pictures with {' and '.join(missing)}, which this machine lacks",
            hint=f"{' && '.join(commands)}\nor judge with what is in the package, which gives "
            f"other results and is written into the style: --embedder {EMBEDDED}",
        )
