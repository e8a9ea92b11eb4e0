"""Networks that were published in two files as the one file that we read."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from osasis.errors import UserError
from osasis.evaluate.networks import read_weights
from osasis.evaluate.peers.adain import AdainNetworks
from osasis.formats.safetensors_file import write_tensors
from osasis.hub.unpickle import unpickle
from osasis.models.state import differences, shapes_of
from osasis.perception.vgg import vgg_shapes

LAYERS = 5


def build_lpips(vgg: Path, heads: Path, output: Path) -> None:
    """Write the convolutions of VGG16 and LPIPS' five heads, float32, as `load_vgg` reads them.

    Args:
        vgg: safetensors file with torchvision's names, `features.N.weight`; others are left out.
        heads: `vgg.pth` of LPIPS v0.1, names `linN.model.1.weight`.
        output: safetensors file to write.

    Raises:
        UserError: names or shapes are not those of VGG16 and LPIPS.
        OsasisError: a file is refused, or cannot be written.
    """
    with unpickle(heads, before_zip=True) as read:
        weights = {k.replace(".model.1.", "."): v for k, v in read_weights(read.path).items()}
    weights |= {k: v for k, v in read_weights(vgg).items() if k.startswith("features.")}
    what = f"{vgg.name} and {heads.name} are not VGG16 and LPIPS v0.1"
    _write(output, weights, vgg_shapes(LAYERS), what, torch.float32)


def build_adain(encoder: Path, decoder: Path, output: Path) -> None:
    """Write AdaIN's networks, float16, as `AdainNetworks.load` reads them.

    Args:
        encoder: `vgg_normalised.pth`, a sequence of layers named by number; it goes on behind
            relu4_1, which is left out.
        decoder: `decoder.pth`, the same.
        output: safetensors file to write.

    Raises:
        UserError: their tensors are not those of AdaIN.
        OsasisError: a file is refused, or cannot be written.
    """
    expected = shapes_of(AdainNetworks().state_dict())
    weights: dict[str, Tensor] = {}
    for part, path in (("encoder", encoder), ("decoder", decoder)):
        ours, theirs = [k for k in expected if k.startswith(part)], _in_order(path)
        if part == "encoder":
            theirs = theirs[: len(ours)]
        names = ours if len(ours) == len(theirs) else [f"{part}.{n}" for n in range(len(theirs))]
        weights |= dict(zip(names, theirs, strict=True))
    what = f"{encoder.name} and {decoder.name} are not AdaIN's networks"
    _write(output, weights, expected, what, torch.float16)


def _write(
    output: Path,
    weights: dict[str, Tensor],
    expected: dict[str, tuple[int, ...]],
    what: str,
    dtype: torch.dtype,
) -> None:
    found = differences(expected, shapes_of(weights))
    if found:
        raise UserError(f"{what}: {found}")
    write_tensors(output, {k: v.to(dtype) for k, v in weights.items()}, what="the network")


def _in_order(path: Path) -> list[Tensor]:
    """Weight and bias of every layer, first to last: names there are the layers' numbers."""
    with unpickle(path, before_zip=True) as read:
        tensors = read_weights(read.path)
    layers = {name: name.split(".")[0] for name in tensors}
    order = {name: int(layer) if layer.isdigit() else -1 for name, layer in layers.items()}
    return [tensors[k] for k in sorted(tensors, key=lambda k: (order[k], not k.endswith("weight")))]
