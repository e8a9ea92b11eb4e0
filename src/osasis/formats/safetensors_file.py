"""Our files: safetensors with a manifest in the metadata, alone or in a folder with a card.

There is one reader, and `config.catalogue` says where the file of a folder is.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from osasis.config.catalogue import CONFIG, WEIGHTS
from osasis.config.tables import parsed
from osasis.errors import OsasisError, UserError
from osasis.files import atomic_path

KEY = "osasis"  # of the metadata
MAX_NUMBER = 65536  # of a network's configuration, where nothing narrower is known
# lowest and highest number by name; of a list, of each entry
LIMITS = {
    "image_size": (1, 4096),
    "channels": (1, 2048),
    "channel_mult": (1, 64),
    "num_res_blocks": (0, 16),
    "num_layers": (1, 128),
    "widths": (1, 4096),
    "decoder_widths": (1, 4096),
    "blocks": (1, 16),
    "decoder_blocks": (1, 16),
    "latent_channels": (1, 512),
    "hidden": (1, 16384),
    "z_dim": (1, 8192),
    "time_dim": (1, 8192),
    "patch_size": (1, 64),
    "thumbnail_size": (1, 32),  # its principal components take the fourth power of it
    "invert_steps": (1, 1000),
    "decode_steps": (1, 1000),
}
MAX_ENTRIES = 8  # of a list: levels of a network
MAX_HEADER, MAX_TENSORS, MAX_AXES, MAX_NAME = 32_000_000, 20_000, 8, 256
# bytes of one number; other kinds cannot be checked for being finite
DTYPES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2}
DTYPES |= {"I8": 1, "U8": 1, "BOOL": 1}

_READ_ERRORS = (
    *(SafetensorError, LookupError, TypeError, ValueError, OSError),
    *(RecursionError, UserError),
)


class CutShort(ValueError):
    """A safetensors file lacks its end."""


def write_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: dict[str, str] | None = None,
    *,
    what: str,
    hint: str = "make room there, or choose another place",
) -> None:
    """Write a safetensors file, at once or not at all.

    Args:
        what: it is, for messages, such as "the style".

    Raises:
        OsasisError: the disk is full, or the folder cannot be written.
    """
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        with atomic_path(path) as temporary:
            save_file(stored, temporary, metadata)
    except (OSError, SafetensorError) as error:
        raise OsasisError(f"{what} cannot be written to {path}: {error}", hint=hint) from error


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
        check_header(path)
        with safe_open(path, framework="pt") as file:  # type: ignore[no-untyped-call]
            manifest = parsed((file.metadata() or {})[KEY], f"the manifest of {path}")
            stored = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    except _READ_ERRORS as error:
        raise _unread(path, kind, error) from error
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if found not in expected:
        what = expected[0].rpartition("-")[0].replace("-", " ")
        known = " or ".join(map(repr, expected))
        raise UserError(f"{path} is not an {what}: its format is {found!r}, expected {known}")
    _table(path, manifest)
    tensors = {k: v.float() if v.is_floating_point() else v for k, v in stored.items()}
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise UserError(f"{path} is damaged: {name} holds numbers that are not finite")
    _check_config(path, manifest)
    return manifest, tensors


_LOOKS = (
    (b"version https://git-lfs", "a Git LFS pointer to one", "get the file with `git lfs pull`"),
    (b"<!doctype html", "a web page", "download the file itself, not the page about it"),
    (b"<html", "a web page", "download the file itself, not the page about it"),
    (b"\xff\xd8\xff", "a picture", "learn it first: osasis learn PICTURE"),
    (b"\x89png", "a picture", "learn it first: osasis learn PICTURE"),
    (b"gif8", "a picture", "learn it first: osasis learn PICTURE"),
    (b"riff", "a picture or a film", "learn a picture with: osasis learn PICTURE"),
    (b"ii*\0", "a picture", "learn it first: osasis learn PICTURE"),
    (b"pk\x03\x04", "a checkpoint of PyTorch or a zip", "osasis models convert --help"),
    (b"\x80\x02", "a pickle", "osasis models convert --help"),
)


def _unread(path: Path, kind: str, error: Exception) -> UserError:
    """What is wrong with a file that should be `kind`, and what to do about it."""
    if isinstance(error, OSError) and error.strerror:
        return UserError(
            f"{path} cannot be read: {error.strerror}", hint="check who may read the file"
        )
    again = "copy or download it again" if isinstance(error, CutShort) else ""
    said, hint = _looks_like(path) or (str(error), again)
    hint = hint if "base" not in kind or "osasis learn" not in hint else ""
    return UserError(f"{path} is not {kind}: {said}", hint=hint)


def _looks_like(path: Path) -> tuple[str, str] | None:
    """What a file of another kind is, and what to do with it; None where that is unknown."""
    try:
        with path.open("rb") as file:
            head = file.read(512)
        start = head.lstrip().lower()
        for known, what, hint in _LOOKS:
            if start.startswith(known):
                return f"it is {what}", hint
        check_header(path)
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    return "it is a safetensors file of another program", "osasis reads files that osasis wrote"


def check_header(path: Path) -> None:
    """Refuse a file whose header no file of ours has, before any library reads it.

    Raises:
        CutShort: its end is missing, or all of it.
        ValueError: too large a header, too many tensors or axes, odd names, kinds or sizes.
        OSError: it cannot be read.
    """
    size = path.stat().st_size
    if not size:
        raise CutShort("it is empty (0 bytes)")
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size - 8 < length <= MAX_HEADER and file.read(2) == b'{"':
            raise CutShort(f"it is cut short: {size:,} bytes, and its header alone has {length:,}")
        if not 2 <= length <= min(MAX_HEADER, size - 8):
            raise ValueError("it does not begin as safetensors files do")
        file.seek(8)
        table = json.loads(file.read(length))
    if not isinstance(table, dict) or len(table) > MAX_TENSORS:
        raise ValueError(f"its header is no table of at most {MAX_TENSORS} tensors")
    table.pop("__metadata__", None)
    total = sum(_bytes_of(name, entry) for name, entry in table.items())
    if total > size - 8 - length:
        raise CutShort(
            f"it is cut short: {size:,} bytes, and its tensors end at {8 + length + total:,}"
        )
    if total != size - 8 - length:
        raise ValueError(f"its tensors take {total} bytes, and {size - 8 - length} are there")


def _bytes_of(name: str, entry: Any) -> int:
    """Bytes of a tensor that a header names."""
    if not (name.isprintable() and 0 < len(name) <= MAX_NAME):
        raise ValueError(f"a tensor has a name of {len(name)} characters, or not of letters")
    shape, dtype = entry["shape"], entry["dtype"]
    if dtype not in DTYPES:
        raise ValueError(f"{name} has numbers of the kind {dtype!r:.20}")
    if not isinstance(shape, list) or len(shape) > MAX_AXES:
        raise ValueError(f"{name} has more than {MAX_AXES} axes")
    if not all(isinstance(side, int) and 0 <= side < 2**40 for side in shape):
        raise ValueError(f"{name} has no shape")
    return math.prod(shape) * DTYPES[dtype]


def _check_config(path: Path, manifest: dict[str, Any]) -> None:
    """Refuse a folder whose config.json tells another story than its weights."""
    config = path.with_name(CONFIG)
    if path.name != WEIGHTS or not config.is_file():
        return
    try:
        said = parsed(config.read_text(encoding="utf-8"), str(config))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{config} cannot be read: {error}") from error
    if said != manifest:
        raise UserError(
            f"{config} does not describe the {WEIGHTS} beside it", hint="download the folder again"
        )


def check_sizes(path: Path, manifest: Any, key: str = "") -> None:
    """Refuse a configuration that no network has, before anything is built from it.

    Raises:
        UserError: a number that is too small or too large, or a list that is too long.
    """
    low, high = LIMITS.get(key, (0, MAX_NUMBER))
    if isinstance(manifest, dict):
        for name, value in manifest.items():
            check_sizes(path, value, str(name))
    elif isinstance(manifest, list):
        if not (key in LIMITS) <= len(manifest) <= MAX_ENTRIES:
            raise UserError(f"{path} describes no network: {key} has {len(manifest)} entries")
        for value in manifest:
            check_sizes(path, value, key)
    elif isinstance(manifest, (int, float)) and not low <= manifest <= high:
        raise UserError(f"{path} describes no network: {key} is {manifest}")


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest in a file's metadata, without reading its tensors.

    Raises:
        UserError: the file is damaged, or none of ours.
    """
    try:
        check_header(path)
        with safe_open(path, framework="numpy") as file:  # type: ignore[no-untyped-call]
            manifest = parsed((file.metadata() or {})[KEY], f"the manifest of {path}")
    except _READ_ERRORS as error:
        raise _unread(path, "a file of osasis", error) from error
    return _table(path, manifest)


def _table(path: Path, manifest: Any) -> dict[str, Any]:
    """A manifest as a table, whose notes are one too."""
    if not isinstance(manifest, dict) or not isinstance(manifest.get("notes", {}), dict):
        raise UserError(f"{path} is damaged: its manifest, or the notes in it, are no table")
    return manifest
