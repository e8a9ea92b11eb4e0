"""What tells a result's style and structure apart: networks that nothing learns with."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from osasis.errors import UserError
from osasis.evaluate.cache import picture_id, remembered
from osasis.evaluate.networks import imagenet, load_hub_model
from osasis.imaging.tensors import to_tensor
from osasis.perception.vgg import RELU4_1, VggTrunk

_KEPT = 64  # statistics of so many pictures are kept


class ResNetStatistics:
    """Channel means and deviations of ResNet18's five stages, 2048 numbers.

    The stages are the first convolution before its pooling and the four groups of blocks (He et
    al. 2016, 1512.03385). Means and deviations of a stage, side by side, have length one.

    Args:
        folder: a ResNet in the hub's layout: config.json and model.safetensors.
        device: where to compute.

    Raises:
        UserError: `transformers` is not installed, or the folder holds no such network.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        self._model = load_hub_model(folder, "ResNetModel", "resnet18").to(device)

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Statistics (B, 2048) of (B, 3, H, W) pictures in [-1, 1], at their own size."""
        y = self._model.embedder.embedder(imagenet(x.float()))
        parts = [_statistics(y)]
        y = self._model.embedder.pooler(y)
        for stage in self._model.encoder.stages:
            y = stage(y)
            parts.append(_statistics(y))
        return torch.cat(parts, dim=1)


def _statistics(y: Tensor) -> Tensor:
    return F.normalize(torch.cat([y.mean((2, 3)), y.std((2, 3), correction=0)], dim=1), dim=1)


class StyleNamer:
    """Names the style image that a result lies towards, seen from its photo.

    The named one is that whose direction from the photo has the largest cosine with the direction
    from the photo to the result.

    Args:
        statistics: the network.
        styles: the style images to choose from, squares of one size; equal ones count once.
        device: where to compute.

    Raises:
        UserError: fewer than two style images.
    """

    def __init__(
        self, statistics: ResNetStatistics, styles: Sequence[Image.Image], device: torch.device
    ) -> None:
        self._network, self._device = statistics, device
        self._of = remembered(self._statistics, _KEPT)
        lineup = {picture_id(style): style for style in styles}
        if len(lineup) < 2:
            raise UserError(
                f"a style can be named among two or more, not among {len(lineup)}",
                hint="--among FOLDER gives others to choose from",
            )
        self._places = {name: place for place, name in enumerate(lineup)}
        self._styles = torch.cat([self._of(style) for style in lineup.values()])
        self.lineup_id = hashlib.sha256("".join(sorted(lineup)).encode()).hexdigest()[:8]

    def __len__(self) -> int:
        return len(self._places)

    def named(self, output: Image.Image, photo: Image.Image, style: Image.Image) -> bool:
        """Whether `style`, one of the style images, is named; an unchanged photo names none."""
        before = self._of(photo)
        made = self._of(output) - before
        if not bool(made.any()):
            return False
        cosines = F.cosine_similarity(made, self._styles - before)
        return int(cosines.argmax()) == self._places[picture_id(style)]

    def travel(self, output: Image.Image, photo: Image.Image, style: Image.Image) -> float:
        """How far the result went from the photo (0) along the way to the style image (1)."""
        before = self._of(photo)
        way = self._of(style) - before
        return float(((self._of(output) - before) * way).sum() / way.square().sum())

    def _statistics(self, picture: Image.Image) -> Tensor:
        return self._network(to_tensor(picture).to(self._device))


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
