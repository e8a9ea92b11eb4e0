"""The style file: everything stylizing needs, in one safetensors file."""

from __future__ import annotations

import base64
import copy
import dataclasses
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from osasis.base import Base
from osasis.errors import OsasisError, UserError
from osasis.files import atomic_path
from osasis.hub.convert import with_prefix
from osasis.hub.registry import find_style
from osasis.models.diffae import DiffAE
from osasis.models.spn import SPN, SPNConfig
from osasis.style.config import LearnConfig, config_from_dict
from osasis.style.update import Student

FORMAT = "osasis-style-1"
THUMBNAIL = 128  # pixels


@dataclass(frozen=True)
class StyleManifest:
    """What a style file says about itself.

    Attributes:
        name: what the style is called.
        base_name, base_hash: the base it was learned on and only works with.
        preset: preset it was learned with.
        seed: seed of the bridge and of the order of photos.
        embedder: name of the embedder.
        lambda_spn: weight of the SPN when stylizing.
        style_levels: U-Net levels that see the style's code when stylizing.
        updates: updates made.
        version: version of osasis that wrote it.
        config: the whole configuration, grids included.
    """

    name: str
    base_name: str
    base_hash: str
    preset: str
    seed: int
    embedder: str
    lambda_spn: float
    style_levels: tuple[int, ...]
    updates: int
    version: str
    config: LearnConfig


@dataclass(frozen=True)
class Style:
    """A learned style.

    Attributes:
        manifest: what it is.
        thumbnail: the style image, small.
        tensors: "unet.*" changes of the base's U-Net, "spn.*", and "z_style" (1, z_dim).
    """

    manifest: StyleManifest
    thumbnail: Image.Image
    tensors: dict[str, Tensor]

    def save(self, path: str | Path) -> None:
        """Write one safetensors file, float16, at once or not at all.

        Raises:
            OsasisError: the file cannot be written.
        """
        described = dataclasses.asdict(self.manifest)
        described |= {"format": FORMAT, "thumbnail": _encode(self.thumbnail)}
        halves = {k: v.detach().half().cpu().contiguous() for k, v in self.tensors.items()}
        try:
            with atomic_path(Path(path)) as temporary:
                save_file(halves, temporary, metadata={"osasis": json.dumps(described)})
        except (OSError, SafetensorError) as error:
            raise OsasisError(f"the style cannot be written to {path}: {error}") from error

    def student(self, base: Base) -> Student:
        """eps_B and SPN: the base's networks with this style's changes.

        Raises:
            UserError: `base` is not the one the style was learned on.
        """
        self.check_base(base)
        diffae = _with_unet_changes(base.diffae, with_prefix(self.tensors, "unet."))
        settings = self.manifest.config.spn
        spn = SPN(SPNConfig(settings.channels, 512 if settings.timed else None))
        spn.load_state_dict({k: v.float() for k, v in with_prefix(self.tensors, "spn.").items()})
        return Student(diffae, spn.to(base.device).eval().requires_grad_(False))

    def check_base(self, base: Base) -> None:
        """Refuse a base other than the style's own.

        Raises:
            UserError: the hashes differ.
        """
        m = self.manifest
        if m.base_hash != base.hash:
            raise UserError(
                f"style {m.name!r} was learned on base {m.base_name!r} ({m.base_hash}), "
                f"and this is {base.name!r} ({base.hash})",
                hint="load that base, or learn the style again on this one",
            )


def copy_unet(diffae: DiffAE) -> DiffAE:
    """A DiffAE whose U-Net is a copy and whose encoder is shared."""
    # deepcopy takes what its memo already holds as it is
    return copy.deepcopy(diffae, {id(diffae.encoder): diffae.encoder})


def _with_unet_changes(diffae: DiffAE, changes: dict[str, Tensor]) -> DiffAE:
    copied = copy_unet(diffae)
    state = copied.unet.state_dict()
    for name, change in changes.items():
        state[name].add_(change.to(state[name].device, state[name].dtype))
    return copied.eval().requires_grad_(False)


def load_style(path: str | Path) -> Style:
    """Load a style file, or a shipped style by name.

    Raises:
        UserError: no such style, or a file that is none.
    """
    found = find_style(path)
    try:
        with safe_open(found, framework="pt") as file:  # type: ignore[no-untyped-call]
            raw: dict[str, Any] = json.loads((file.metadata() or {})["osasis"])
            tensors = {k: file.get_tensor(k).float() for k in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise UserError(
            f"{found} is not a style file: {error}",
            hint="learn one with: osasis learn PICTURE -o my.safetensors",
        ) from error
    if raw.pop("format", None) != FORMAT:
        raise UserError(f"{found} is a safetensors file, but not an osasis style ({FORMAT})")
    thumbnail = Image.open(io.BytesIO(base64.b64decode(raw.pop("thumbnail")))).convert("RGB")
    config = config_from_dict(raw.pop("config"))
    raw["style_levels"] = tuple(raw["style_levels"])
    return Style(StyleManifest(config=config, **raw), thumbnail, tensors)


def _encode(thumbnail: Image.Image) -> str:
    small = thumbnail.convert("RGB")
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=85)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
