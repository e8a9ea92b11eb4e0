"""VGG16 and LPIPS' published weights as the one file that `load_vgg` reads."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from osasis.errors import OsasisError, UserError
from osasis.files import atomic_path
from osasis.hub.unpickle import unpickle
from osasis.models.state import differences, shapes_of
from osasis.perception.vgg import vgg_shapes

LAYERS = 5


def build_lpips(vgg: Path, heads: Path, output: Path) -> None:
    """Write the convolutions of VGG16 and LPIPS' five heads, float32.

    Args:
        vgg: safetensors file with torchvision's names, `features.N.weight`; others are left out.
        heads: `vgg.pth` of LPIPS v0.1, names `linN.model.1.weight`.
        output: safetensors file to write.

    Raises:
        UserError: names or shapes are not those of VGG16 and LPIPS.
        OsasisError: a file is refused, or cannot be written.
    """
    with unpickle(heads, before_zip=True) as read:
        weights = {k.replace(".model.1.", "."): v for k, v in _load(read.path).items()}
    weights |= {k: v for k, v in _load(vgg).items() if k.startswith("features.")}
    found = differences(vgg_shapes(LAYERS), shapes_of(weights))
    if found:
        raise UserError(f"{vgg.name} and {heads.name} are not VGG16 and LPIPS v0.1: {found}")
    try:
        with atomic_path(output) as temporary:
            save_file({k: v.float().contiguous() for k, v in weights.items()}, temporary)
    except (OSError, SafetensorError) as error:
        raise OsasisError(f"{output} cannot be written: {error}") from error


def _load(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise OsasisError(f"{path.name} is not a safetensors file: {error}") from error
