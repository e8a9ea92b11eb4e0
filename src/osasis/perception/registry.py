"""Embedders by name."""

from __future__ import annotations

import torch

from osasis.errors import UserError
from osasis.perception.clip import CLIP_MODEL, ClipEmbedder
from osasis.perception.judges import load_judges
from osasis.perception.protocol import Embedder
from osasis.perception.vgg import VggStatistics

DEFAULT_EMBEDDER = VggStatistics.name


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
    if name is None or name == VggStatistics.name:
        return load_judges(device=device).statistics
    kind, _, source = name.partition(":")
    if kind == "clip" and (source or name == "clip"):
        return ClipEmbedder(
            source or CLIP_MODEL, device=device, release_preprocessing=release_preprocessing
        )
    raise UserError(
        f"there is no embedder named '{name}'",
        hint=f"use {VggStatistics.name}, clip, or clip:FOLDER_OR_HUB_ID",
    )
