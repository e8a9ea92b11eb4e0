"""Features whose self-similarity is a picture's structure (Splice, 2201.00424)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from osasis.evaluate.networks import imagenet, load_hub_model
from osasis.perception.vgg import RELU4_1, VggTrunk

DINO_SIZE = 224
FACE = (slice(7, 22), slice(6, 22))  # of 28 x 28: y .25 to .80, x .22 to .78 of the square


class VggStructure:
    """Features of VGG16 relu4_1 at 224 x 224: 784 positions. Not the paper's, but always here."""

    def __init__(self, trunk: VggTrunk) -> None:
        self._trunk = trunk

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Features (B, 784, 512) of (B, 3, H, W) pictures in [-1, 1]."""
        [y] = self._trunk.layers(_resized(x), [RELU4_1])
        return y.flatten(2).transpose(1, 2)


def face_only(features: Tensor) -> Tensor:
    """Of (B, 784, C) the 240 positions where a photo framed like FFHQ has its face."""
    square = features.unflatten(1, (28, 28))
    return square[:, FACE[0], FACE[1]].flatten(1, 2)


class DinoKeys:
    """Keys of the last layer of DINO ViT-B/8 (2104.14294), heads joined, class token included.

    As in Splice and in the paper: 224 x 224, ImageNet's mean and deviation, 785 x 768 numbers.

    Args:
        folder: a ViT in the hub's layout: config.json and model.safetensors.
        device: where to compute.

    Raises:
        UserError: `transformers` is not installed, or the folder holds no such network.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        model = load_hub_model(folder, "ViTModel", "dino-vitb8", add_pooling_layer=False)
        self._model = model.to(device)
        self._keys: list[Tensor] = []
        _last_key(self._model).register_forward_hook(lambda *call: self._keys.append(call[2]))
        self._size = int(self._model.config.image_size)

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Keys (B, 1 + patches, width) of (B, 3, H, W) pictures in [-1, 1]."""
        self._keys.clear()
        self._model(pixel_values=imagenet(_resized(x, self._size)))
        return self._keys[0]


def _resized(x: Tensor, size: int = DINO_SIZE) -> Tensor:
    if x.shape[-2:] == (size, size):
        return x.float()
    return F.interpolate(
        x.float(), (size, size), mode="bilinear", align_corners=False, antialias=True
    )


def _last_key(model: Any) -> torch.nn.Module:
    """The linear layer that makes the keys of the last block."""
    keys = [m for name, m in model.named_modules() if name.rpartition(".")[2] in ("key", "k_proj")]
    return keys[-1]
