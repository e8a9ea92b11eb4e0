"""AdaIN's published encoder and decoder as the one file that `AdainNetworks.load` reads."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from osasis.errors import OsasisError, UserError
from osasis.evaluate.peers.adain import AdainNetworks
from osasis.files import atomic_path
from osasis.hub.unpickle import unpickle
from osasis.models.state import differences, shapes_of


def build_adain(encoder: Path, decoder: Path, output: Path) -> None:
    """Write both networks, float16; of the encoder what reaches relu4_1.

    Args:
        encoder: `vgg_normalised.pth`, a sequence of layers named by number.
        decoder: `decoder.pth`, the same.
        output: safetensors file to write.

    Raises:
        UserError: their tensors are not those of AdaIN.
        OsasisError: a file is refused, or cannot be written.
    """
    networks = AdainNetworks()
    weights: dict[str, Tensor] = {}
    for part, path in (("encoder", encoder), ("decoder", decoder)):
        ours, theirs = list(getattr(networks, part).state_dict()), _in_order(path)
        if part == "encoder":
            theirs = theirs[: len(ours)]  # the file goes on to relu5_4
        names = ours if len(ours) == len(theirs) else [str(n) for n in range(len(theirs))]
        weights |= {f"{part}.{k}": v for k, v in zip(names, theirs, strict=True)}
    found = differences(shapes_of(networks.state_dict()), shapes_of(weights))
    if found:
        raise UserError(f"{encoder.name} and {decoder.name} are not AdaIN's networks: {found}")
    try:
        with atomic_path(output) as temporary:
            save_file({k: v.half().contiguous() for k, v in weights.items()}, temporary)
    except (OSError, SafetensorError) as error:
        raise OsasisError(f"{output} cannot be written: {error}") from error


def _in_order(path: Path) -> list[Tensor]:
    """Weight and bias of every layer, first to last: names there are the layers' numbers."""
    with unpickle(path, before_zip=True) as read:
        tensors = load_file(read.path)
    names = sorted(tensors, key=lambda k: (_number(k), not k.endswith("weight")))
    return [tensors[name] for name in names]


def _number(name: str) -> int:
    first = name.split(".")[0]
    return int(first) if first.isdigit() else -1
