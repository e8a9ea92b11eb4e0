"""The networks that metrics need and that are too large, or not free enough, to be shipped."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from osasis.config import artefacts
from osasis.errors import UserError
from osasis.extras import need
from osasis.perception.clip import quiet


@dataclass(frozen=True)
class Network:
    """A network that judges, or that a peer needs.

    Attributes:
        title: its name in reports.
        artefact: what `osasis models fetch` calls it.
    """

    title: str
    artefact: str


NETWORKS = {
    "inception": Network("Inception-v3 of FID (TensorFlow 2015)", "inception-fid"),
    "art-inception": Network("Inception-v3 of ArtFID", "artfid-inception"),
    "lpips": Network(
        "VGG16 and LPIPS v0.1 heads, five layers (features.N.*, linN.*)", "lpips-vgg16"
    ),
    "sface": Network("SFace", "sface"),
    "arcface": Network("ArcFace MobileFaceNet (WebFace600K)", "arcface"),
    "dino": Network("DINO ViT-B/8", "dino-vitb8"),
    "clip": Network("CLIP", "clip-vit-b32"),
    "resnet18": Network("ResNet18 (ImageNet)", "resnet18"),
    "adain": Network("AdaIN, encoder and decoder (a peer, no judge)", "adain"),
}


def parse_networks(texts: Sequence[str]) -> dict[str, Path]:
    """Files of networks by name, from texts such as 'inception=weights/inception.safetensors'.

    Raises:
        UserError: not NAME=FILE, an unknown name, or no such file.
    """
    found = {}
    for text in texts:
        name, separator, file = text.partition("=")
        if not separator or name not in NETWORKS:
            raise UserError(
                f"{text!r} is not NAME=FILE with a known network",
                hint=f"networks are {', '.join(NETWORKS)}",
            )
        path = Path(file).expanduser()
        if not path.exists():
            raise UserError(f"the network {name} is not at {path}: no such file or folder")
        found[name] = path
    return found


def network_path(name: str, given: Mapping[str, Path]) -> Path:
    """Where the network `name` lies: as given, or as fetched.

    Raises:
        UserError: neither; the message says what fetches it.
    """
    if name in given:
        return given[name]
    return artefacts.path(NETWORKS[name].artefact)


def here(name: str, given: Mapping[str, Path]) -> Path | None:
    """Where the network `name` lies; None where it was neither given nor fetched."""
    return given.get(name) or artefacts.fetched(NETWORKS[name].artefact)


@lru_cache(maxsize=32)
def version_of(path: Path) -> str:
    """First 12 hexadecimal digits of the SHA-256 of a file, or of all files of a folder."""
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:12]


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file.

    Raises:
        UserError: there is no such file, or it holds something else.
    """
    if not path.is_file():
        raise UserError(f"the weights {path} do not exist")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path} is no safetensors file: {error}",
            hint=f"of a PyTorch checkpoint: osasis models fetch NAME --from {path}",
        ) from error


def load_hub_model(folder: Path, kind: str, artefact: str, **options: Any) -> Any:
    """A frozen network of transformers, float32, every tensor of it read from the folder.

    Args:
        folder: the hub's layout: config.json and model.safetensors.
        kind: its class, such as "ViTModel".
        artefact: what `osasis models fetch` calls it.
        options: of `from_pretrained`.

    Raises:
        UserError: `transformers` is not installed, or the folder holds no such network.
    """
    transformers = need("transformers", kind, "clip")
    try:
        with quiet(transformers):
            model, report = getattr(transformers, kind).from_pretrained(
                str(folder), local_files_only=True, output_loading_info=True, **options
            )
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{folder} holds no {kind}: {str(error).splitlines()[0]}",
            hint=f"osasis models fetch {artefact}",
        ) from error
    if report["missing_keys"] or report.get("mismatched_keys"):
        raise UserError(f"{folder} lacks {len(report['missing_keys'])} tensors of its network")
    return model.float().eval().requires_grad_(False)


def imagenet(x: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) in [-1, 1], normalised with ImageNet's mean and deviation."""
    mean = torch.tensor([0.485, 0.456, 0.406], device=x.device).view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225], device=x.device).view(1, 3, 1, 1)
    return ((x + 1) / 2 - mean) / std
