"""Features whose self-similarity is a picture's structure (Splice, 2201.00424)."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from osasis.errors import UserError
from osasis.perception.vgg import VggTrunk

DINO_SIZE = 224
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_RELU4_1 = 19  # layers of `VggTrunk.features` up to relu4_1


class VggStructure:
    """Features of VGG16 relu4_1 at 224 x 224: 784 positions. Not the paper's, but always here."""

    def __init__(self, trunk: VggTrunk) -> None:
        self._trunk = trunk
        self._layers = list(trunk.features.children())[:_RELU4_1]

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Features (B, 784, 512) of (B, 3, H, W) pictures in [-1, 1]."""
        y = (_resized(x) - self._trunk.shift) / self._trunk.scale
        for layer in self._layers:
            y = layer(y)
        return y.flatten(2).transpose(1, 2)


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
        self._model = _load_vit(folder).to(device)
        self._keys: list[Tensor] = []
        _last_key(self._model).register_forward_hook(lambda *call: self._keys.append(call[2]))
        self._mean = torch.tensor(_IMAGENET_MEAN, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(_IMAGENET_STD, device=device).view(1, 3, 1, 1)
        self._size = int(self._model.config.image_size)

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Keys (B, 1 + patches, width) of (B, 3, H, W) pictures in [-1, 1]."""
        self._keys.clear()
        unit = (_resized(x, self._size) + 1) / 2
        self._model(pixel_values=(unit - self._mean) / self._std)
        return self._keys[0]


def _resized(x: Tensor, size: int = DINO_SIZE) -> Tensor:
    if x.shape[-2:] == (size, size):
        return x.float()
    return F.interpolate(
        x.float(), (size, size), mode="bilinear", align_corners=False, antialias=True
    )


def _load_vit(folder: Path) -> Any:
    try:
        transformers = importlib.import_module("transformers")
    except ImportError as error:
        raise UserError(
            "DINO needs the package transformers", hint="pip install 'osasis[clip]'"
        ) from error
    try:
        model, report = transformers.ViTModel.from_pretrained(
            str(folder), local_files_only=True, output_loading_info=True, add_pooling_layer=False
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{folder} holds no vision transformer: {str(error).splitlines()[0]}",
            hint="osasis models fetch dino-vitb8",
        ) from error
    if report["missing_keys"] or report.get("mismatched_keys"):
        raise UserError(f"{folder} lacks {len(report['missing_keys'])} tensors of its network")
    return model.float().eval().requires_grad_(False)


def _last_key(model: Any) -> torch.nn.Module:
    """The linear layer that makes the keys of the last block."""
    keys = [m for name, m in model.named_modules() if name.rpartition(".")[2] in ("key", "k_proj")]
    return keys[-1]
