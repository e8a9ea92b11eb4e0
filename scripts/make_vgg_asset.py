"""Cut the VGG16 and LPIPS weights down to what the package ships.

Usage: python scripts/make_vgg_asset.py INPUT.safetensors OUTPUT.safetensors

INPUT holds the thirteen VGG16 convolutions under torchvision's names and LPIPS' five heads.
OUTPUT keeps the ten convolutions up to conv4_3 and the four heads that go with them, in float16.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from osasis.files import atomic_path
from osasis.perception.vgg import vgg_shapes

METADATA = {
    "format": "pt",
    "source": "torchvision VGG16 IMAGENET1K_V1 convolutions and LPIPS v0.1 linear heads",
    "licence": "BSD-3-Clause (torchvision), BSD-2-Clause (LPIPS)",
    "layers": "relu1_2 relu2_2 relu3_3 relu4_3",
}


def make_asset(source: Path, target: Path) -> None:
    """Write the reduced file.

    Raises:
        KeyError: the source lacks a tensor.
        ValueError: a tensor has an unexpected shape.
    """
    weights = load_file(source)
    kept = {}
    for name, shape in vgg_shapes(4).items():
        if tuple(weights[name].shape) != shape:
            raise ValueError(f"{name}: expected {shape}, got {tuple(weights[name].shape)}")
        kept[name] = weights[name].to(torch.float16).contiguous()
    with atomic_path(target) as temporary:
        save_file(kept, temporary, metadata=METADATA)


def main() -> None:
    """Read the two paths from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("source", type=Path, help="safetensors with the full weights")
    parser.add_argument("target", type=Path, help="safetensors to write")
    arguments = parser.parse_args()
    make_asset(arguments.source, arguments.target)


if __name__ == "__main__":
    main()
