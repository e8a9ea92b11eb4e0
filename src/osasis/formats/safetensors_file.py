"""Our files: safetensors with a manifest in the metadata, alone or in a folder with a card.

There is one reader, and `config.catalogue` says where the file of a folder is.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from osasis.config.catalogue import CONFIG, WEIGHTS
from osasis.errors import UserError

KEY = "osasis"  # of the metadata
MAX_NUMBER = 65536  # of a network's configuration


def read_weights(
    path: Path, expected: tuple[str, ...], kind: str
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Manifest and tensors of one of our files; floating-point ones become float32.

    Args:
        expected: what the manifest's "format" may be, the newest first.
        kind: what it should be, for messages, such as "an osasis base".

    Raises:
        UserError: it is damaged, something else, or holds numbers that are not finite.
    """
    try:
        with safe_open(path, framework="pt") as file:  # type: ignore[no-untyped-call]
            manifest = json.loads((file.metadata() or {})[KEY])
            stored = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, ValueError, OSError, RecursionError) as error:
        raise UserError(f"{path} is not {kind}: {error}") from error
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if found not in expected:
        what = expected[0].rpartition("-")[0].replace("-", " ")
        known = " or ".join(map(repr, expected))
        raise UserError(f"{path} is not an {what}: its format is {found!r}, expected {known}")
    tensors = {k: v.float() if v.is_floating_point() else v for k, v in stored.items()}
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise UserError(f"{path} is damaged: {name} holds numbers that are not finite")
    _check_config(path, manifest)
    return manifest, tensors


def _check_config(path: Path, manifest: dict[str, Any]) -> None:
    """Refuse a folder whose config.json tells another story than its weights."""
    config = path.with_name(CONFIG)
    if path.name != WEIGHTS or not config.is_file():
        return
    try:
        said = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{config} cannot be read: {error}") from error
    if said != manifest:
        raise UserError(
            f"{config} does not describe the {WEIGHTS} beside it", hint="download the folder again"
        )


def check_sizes(path: Path, manifest: Any, key: str = "") -> None:
    """Refuse a configuration that no network has, before anything is built from it.

    Raises:
        UserError: a number that is negative or too large, or a list that is too long.
    """
    if isinstance(manifest, dict):
        for name, value in manifest.items():
            check_sizes(path, value, str(name))
    elif isinstance(manifest, list):
        if len(manifest) > 16:
            raise UserError(f"{path} describes no network: {key} has {len(manifest)} entries")
        for value in manifest:
            check_sizes(path, value, key)
    elif isinstance(manifest, (int, float)) and not 0 <= manifest <= MAX_NUMBER:
        raise UserError(f"{path} describes no network: {key} is {manifest}")


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest in a file's metadata, without reading its tensors."""
    with safe_open(path, framework="numpy") as file:  # type: ignore[no-untyped-call]
        return dict(json.loads((file.metadata() or {})["osasis"]))
