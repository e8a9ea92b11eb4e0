"""The style file: everything stylizing needs, in one safetensors file."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from huggingface_hub import ModelHubMixin
from PIL import Image
from torch import Tensor

from osasis.config.catalogue import find_style
from osasis.config.presets import LearnConfig
from osasis.config.tables import Checked, Range, ValueRefused, from_table
from osasis.device import shapes_only
from osasis.errors import UserError
from osasis.formats.card import find_published, names_repository, style_card, write_folder
from osasis.formats.compress import MAX_ERROR, compress, decompress
from osasis.formats.safetensors_file import (
    KEY,
    MAX_ENTRIES,
    check_sizes,
    read_weights,
    write_tensors,
)
from osasis.models.spn import SPN, new_spn
from osasis.models.state import load_strict, with_prefix

FORMAT = "osasis-style-3"
THUMBNAIL = 128  # pixels
MAX_NAME = 255  # letters, as a file's name


def check_name(name: str) -> None:
    """Refuse a style's name that is too long.

    Raises:
        ValueRefused: it has more than `MAX_NAME` letters.
    """
    if len(name) > MAX_NAME:
        raise ValueRefused("name", f"may have {MAX_NAME} letters, got {len(name)}")


@dataclass(frozen=True)
class StyleManifest(Checked):
    """What a style file says about itself.

    Attributes:
        name: what the style is called.
        base_name, base_hash: the base it was learned on and only works with.
        preset: preset it was learned with, as `LearnConfig.title` calls it.
        seed: seed of the bridge and of the order of photos.
        embedder: name of the embedder.
        lambda_spn: weight of the SPN when stylizing.
        style_levels: U-Net levels that see the style's code when stylizing.
        updates: updates made.
        version: version of osasis that wrote it.
        config: the whole configuration, grids included.
        content: "drawn" (photos of the base), or how many photos were given and a hash of their
            pixels.
    """

    name: str
    base_name: str
    base_hash: str
    preset: str
    seed: Annotated[int, Range()]
    embedder: str
    lambda_spn: Annotated[float, Range()]
    style_levels: tuple[int, ...]
    updates: Annotated[int, Range()]
    version: str
    config: LearnConfig
    content: str

    def __post_init__(self) -> None:
        super().__post_init__()
        check_name(self.name)
        levels = Range(0, MAX_ENTRIES - 1)
        if problem := next(filter(None, map(levels.problem, self.style_levels)), ""):
            raise ValueRefused("style_levels", problem)


@dataclass(frozen=True, repr=False)
class Style(ModelHubMixin, library_name="osasis", tags=["osasis", "osasis-style"]):
    """A learned style.

    `save_pretrained`, `from_pretrained` and `push_to_hub` come from huggingface_hub.

    Attributes:
        manifest: what it is.
        thumbnail: the style image, small.
        tensors: "unet.*" changes of the base's U-Net, "spn.*", and "z_style" (1, z_dim).
    """

    manifest: StyleManifest
    thumbnail: Image.Image
    tensors: dict[str, Tensor]

    # set, so that the mixin does not make one up from the fields
    _hub_mixin_config: ClassVar[Any] = {"library": "osasis"}  # type: ignore[misc]

    def __repr__(self) -> str:
        m, numbers = self.manifest, sum(t.numel() for t in self.tensors.values())
        return "\n".join(
            (
                f"Style {m.name!r}",
                f"  base: {m.base_name} ({m.base_hash})",
                f"  preset: {m.preset}, {m.updates} updates, seed {m.seed}",
                f"  judged by: {m.embedder}",
                f"  learned on photos: {m.content}",
                f"  structure (lambda_spn): {m.lambda_spn:g}",
                f"  levels that see its code: {', '.join(map(str, m.style_levels)) or 'none'}",
                f"  picture: {self.thumbnail.width} x {self.thumbnail.height}, as .thumbnail",
                f"  tensors: {len(self.tensors)}, {numbers:,} numbers",
                f"  version: osasis {m.version}",
            )
        )

    def save(self, path: str | Path, max_error: float = MAX_ERROR) -> None:
        """Write one safetensors file, compressed, at once or not at all.

        Args:
            max_error: relative error that is allowed in each tensor, see `compress`; 0 stores
                float16.

        Raises:
            OsasisError: the file cannot be written.
        """
        stored, packed = compress(self.tensors, max_error)
        described = dataclasses.asdict(self.manifest)
        described |= {"format": FORMAT, "thumbnail": _encode(self.thumbnail), "packed": packed}
        write_tensors(Path(path), stored, {KEY: json.dumps(described)}, what="the style")

    def _save_pretrained(self, save_directory: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "style.safetensors"
            self.save(file)
            self.thumbnail.save(save_directory / "thumbnail.webp", quality=85)
            write_folder(save_directory, file, style_card(file))

    @property
    def name(self) -> str:
        """What it is called."""
        return self.manifest.name

    @property
    def base(self) -> str:
        """Name of the base that it was learned on."""
        return self.manifest.base_name

    @property
    def preset(self) -> str:
        """How it was learned."""
        return self.manifest.preset

    @property
    def picture(self) -> Image.Image:
        """The style image, small."""
        return self.thumbnail

    @classmethod
    def from_pretrained(cls, style: str | Path, **options: Any) -> Style:  # type: ignore[override]
        """A style by its name, file or folder, or from a repository of the Hugging Face hub.

        Args:
            options: of the repository, such as "revision" and "local_files_only".

        Raises:
            UserError: no such style, or a file that is none.
        """
        if not names_repository(style):
            return load_style(style)
        found: Style = super().from_pretrained(str(style), **options)
        return found

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **options: Any) -> Style:
        return load_style(find_published(model_id, options))

    def spn(self, device: torch.device) -> SPN:
        """The style's structure-preserving network, in evaluation mode, on `device`.

        Raises:
            UserError: the file's SPN is not what its configuration says.
        """
        with shapes_only():
            spn = new_spn(self.manifest.config.spn, *self._spn_channels())
        state = {
            k: v.to(device, torch.float32) for k, v in with_prefix(self.tensors, "spn.").items()
        }
        load_strict(spn, state, f"the style {self.manifest.name!r}")
        return spn.eval().requires_grad_(False)

    def _spn_channels(self) -> tuple[int, int]:
        """Channels that its SPN sees and gives."""
        first, last = (self.tensors.get(f"spn.conv_{n}.weight") for n in ("first", "last"))
        if first is None or last is None or first.ndim != 4 or last.ndim != 4:
            raise UserError(f"the style {self.manifest.name!r} has no SPN")
        return first.shape[1], last.shape[0]


def load_style(path: str | Path) -> Style:
    """Load a style file, or a shipped style by name.

    Raises:
        UserError: no such style, or a file that is none.
    """
    found = find_style(path)
    try:
        raw, stored = read_weights(found, (FORMAT,), "a style file")
    except UserError as error:
        error.hint = error.hint or "learn one with: osasis learn PICTURE -o my.safetensors"
        raise
    try:
        del raw["format"]
        tensors = _unpacked(found, stored, raw.pop("packed", {}))
        picture = base64.b64decode(raw.pop("thumbnail"), validate=True)
        thumbnail = _decode(picture)
        _check_names(tensors)
        for part in ("spn", "stylize_route", "learn_route"):
            check_sizes(found, raw["config"][part], part)
        config = from_table(LearnConfig, raw["config"], where=str(found))
        raw |= {"config": config, "preset": config.title}
        return Style(from_table(StyleManifest, raw, where=str(found)), thumbnail, tensors)
    except KeyError as error:
        raise UserError(f"{found} is not a style file: its manifest has no {error}") from error
    except (TypeError, ValueError, OverflowError, AttributeError, OSError) as error:
        raise UserError(f"{found} is not a style file: its manifest is wrong: {error}") from error


def _unpacked(path: Path, stored: dict[str, Tensor], packed: Any) -> dict[str, Tensor]:
    try:
        return decompress(stored, packed)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise UserError(f"{path} is damaged: {error}", hint="copy or download it again") from error


def _check_names(tensors: dict[str, Tensor]) -> None:
    others = ("z_style", "wardrobe.mean", "wardrobe.std", "wardrobe.borrowed")
    unknown = [n for n in tensors if not n.startswith(("unet.", "spn.")) and n not in others]
    if unknown:
        raise ValueError(f"it has {len(unknown)} unknown tensors ({', '.join(unknown[:3])})")
    if "z_style" not in tensors:
        raise ValueError("it has no z_style")


def _decode(picture: bytes) -> Image.Image:
    opened = Image.open(io.BytesIO(picture), formats=("WEBP",))
    if max(opened.size) > THUMBNAIL:  # a stranger's file must not ask for gigabytes
        raise ValueError(f"a thumbnail of {opened.width} x {opened.height} pixels")
    return opened.convert("RGB")


def _encode(thumbnail: Image.Image) -> str:
    small = thumbnail.convert("RGB")
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=85)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
