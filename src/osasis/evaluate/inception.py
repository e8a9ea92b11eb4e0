"""Inception-v3 as feature extractor of FID and ArtFID."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from osasis.evaluate.networks import read_weights
from osasis.models.state import load_strict

FEATURES = 2048
INPUT_SIZE = 299
Variant = Literal["fid", "art"]
Size = int | tuple[int, int]
Branch = list[Any]
"""Stages of a branch, see `Mixed`."""
# parts of published files that features do not need
_NOT_NEEDED = re.compile(r"^(fc|AuxLogits)[12]?\.|\.num_batches_tracked$")


class ConvBN(nn.Module):
    """Convolution, batch normalisation (eps 0.001), ReLU.

    Without `padding` a convolution of stride 1 keeps height and width, and any other has none.
    """

    def __init__(
        self, channels: int, out: int, kernel: Size, stride: int = 1, padding: int | None = None
    ) -> None:
        super().__init__()
        sides = (kernel, kernel) if isinstance(kernel, int) else kernel
        kept = (sides[0] // 2, sides[1] // 2) if stride == 1 else (0, 0)
        around = kept if padding is None else padding
        self.conv = nn.Conv2d(channels, out, kernel, stride, around, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


class Mixed(nn.Module):
    """Branches side by side, joined along the channels.

    Args:
        channels: of its input.
        branches: each a row of stages; a stage is a convolution (its published name without
            "branch", channels, kernel, stride if not 1), or several side by side.
        pool: how the last branch is pooled, which is where FID's network and torchvision's differ:
            "max", "mean" without the zeros around, "mean with padding" (all 3 x 3, stride 1), or
            "halve" (3 x 3, stride 2).
        pool_channels: channels that the pooled branch is brought to; 0 leaves it.
    """

    def __init__(
        self, channels: int, branches: Sequence[Branch], pool: str, pool_channels: int = 0
    ) -> None:
        super().__init__()
        self._pool, self._branches = pool, []
        for branch in branches:
            width, stages = channels, []
            for stage in branch:
                side_by_side = stage if isinstance(stage, list) else [stage]
                for name, out, kernel, *stride in side_by_side:
                    self.add_module(f"branch{name}", ConvBN(width, out, kernel, *stride))
                stages.append([f"branch{conv[0]}" for conv in side_by_side])
                width = sum(conv[1] for conv in side_by_side)
            self._branches.append(stages)
        self.branch_pool = ConvBN(channels, pool_channels, 1) if pool_channels else None

    def forward(self, x: Tensor) -> Tensor:
        found = []
        for stages in self._branches:
            y = x
            for names in stages:
                y = torch.cat([self.get_submodule(name)(y) for name in names], 1)
            found.append(y)
        y = self.pooled(x)
        return torch.cat([*found, y if self.branch_pool is None else self.branch_pool(y)], 1)

    def pooled(self, x: Tensor) -> Tensor:
        """What the last branch begins with."""
        if self._pool in ("max", "halve"):
            stride = 2 if self._pool == "halve" else 1
            return F.max_pool2d(x, 3, stride, padding=2 - stride)
        zeros = self._pool == "mean with padding"
        return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=zeros)


ROW, COLUMN = (1, 7), (7, 1)
BLOCK_A: list[Branch] = [  # 35 x 35
    [("1x1", 64, 1)],
    [("5x5_1", 48, 1), ("5x5_2", 64, 5)],
    [("3x3dbl_1", 64, 1), ("3x3dbl_2", 96, 3), ("3x3dbl_3", 96, 3)],
]
BLOCK_B: list[Branch] = [  # 35 x 35 to 17 x 17
    [("3x3", 384, 3, 2)],
    [("3x3dbl_1", 64, 1), ("3x3dbl_2", 96, 3), ("3x3dbl_3", 96, 3, 2)],
]
BLOCK_D: list[Branch] = [  # 17 x 17 to 8 x 8
    [("3x3_1", 192, 1), ("3x3_2", 320, 3, 2)],
    [("7x7x3_1", 192, 1), ("7x7x3_2", 192, ROW), ("7x7x3_3", 192, COLUMN), ("7x7x3_4", 192, 3, 2)],
]
BLOCK_E: list[Branch] = [  # 8 x 8
    [("1x1", 320, 1)],
    [("3x3_1", 384, 1), [("3x3_2a", 384, (1, 3)), ("3x3_2b", 384, (3, 1))]],
    [
        ("3x3dbl_1", 448, 1),
        ("3x3dbl_2", 384, 3),
        [("3x3dbl_3a", 384, (1, 3)), ("3x3dbl_3b", 384, (3, 1))],
    ],
]


def block_c(width: int) -> list[Branch]:
    """17 x 17, with factorised 7 x 7 convolutions."""
    double = [("7x7dbl_1", width, 1), ("7x7dbl_2", width, COLUMN), ("7x7dbl_3", width, ROW)]
    return [
        [("1x1", 192, 1)],
        [("7x7_1", width, 1), ("7x7_2", width, ROW), ("7x7_3", 192, COLUMN)],
        [*double, ("7x7dbl_4", width, COLUMN), ("7x7dbl_5", 192, ROW)],
    ]


class Inception(nn.Module):
    """Inception-v3 (Szegedy et al. 2015, 1512.00567) up to its 2048 pooled features.

    Parameters carry the names of pytorch-fid's `pt_inception-2015-12-05-6726825d.pth`, which are
    torchvision's. Variant "fid" is the TensorFlow graph of 2015 that FID is defined with: its
    average pooling leaves out the zeros around the image, and the last block pools by maximum.
    Variant "art" is ArtFID's (Wright and Ommer 2022, 2207.12280), built as in torchvision: it
    counts the zeros and averages everywhere.
    """

    def __init__(self, variant: Variant = "fid") -> None:
        super().__init__()
        mean = "mean" if variant == "fid" else "mean with padding"
        last = "max" if variant == "fid" else mean
        self.Conv2d_1a_3x3 = ConvBN(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = ConvBN(32, 32, 3, padding=0)
        self.Conv2d_2b_3x3 = ConvBN(32, 64, 3)
        self.Conv2d_3b_1x1 = ConvBN(64, 80, 1)
        self.Conv2d_4a_3x3 = ConvBN(80, 192, 3, padding=0)
        self.Mixed_5b = Mixed(192, BLOCK_A, mean, 32)
        self.Mixed_5c = Mixed(256, BLOCK_A, mean, 64)
        self.Mixed_5d = Mixed(288, BLOCK_A, mean, 64)
        self.Mixed_6a = Mixed(288, BLOCK_B, "halve")
        self.Mixed_6b = Mixed(768, block_c(128), mean, 192)
        self.Mixed_6c = Mixed(768, block_c(160), mean, 192)
        self.Mixed_6d = Mixed(768, block_c(160), mean, 192)
        self.Mixed_6e = Mixed(768, block_c(192), mean, 192)
        self.Mixed_7a = Mixed(768, BLOCK_D, "halve")
        self.Mixed_7b = Mixed(1280, BLOCK_E, mean, 192)
        self.Mixed_7c = Mixed(2048, BLOCK_E, last, 192)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, 2048) of (B, 3, 299, 299) pictures in [-1, 1]."""
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = F.max_pool2d(x, 3, stride=2)
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x))
        x = F.max_pool2d(x, 3, stride=2)
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        return x.mean(dim=(2, 3))


def load_inception(path: Path, variant: Variant = "fid") -> Inception:
    """Read a frozen network; every name and shape must be right.

    Raises:
        UserError: there is no such file, or it holds something else.
    """
    with torch.device("meta"):
        network = Inception(variant)
    network.to_empty(device=torch.empty(0).device)
    load_features(network, read_weights(path), str(path))
    return network.eval().requires_grad_(False)


def load_features(network: Inception, weights: Mapping[str, Tensor], what: str) -> None:
    """Load published weights: classifier heads and counters, which features skip, are dropped."""
    needed = {k: v.float() for k, v in weights.items() if not _NOT_NEEDED.search(k)}
    counters = {
        k: torch.zeros_like(v, device=torch.empty(0).device)
        for k, v in network.state_dict().items()
        if k.endswith(".num_batches_tracked")
    }
    load_strict(network, needed | counters, f"Inception-v3 ({what})")


def tensorflow_resize(pixels: Tensor, size: int = INPUT_SIZE) -> Tensor:
    """Resize (B, C, H, W) as TensorFlow 1 did: bilinear, no half-pixel centres, no antialiasing.

    Output pixel i is read at `i * H / size`; the last row and column are repeated. This is the
    rule FID was published with, and that of torch-fidelity and of NVIDIA's networks; pytorch-fid
    uses half-pixel centres instead.
    """

    def axis(n: int) -> tuple[Tensor, Tensor, Tensor]:
        at = torch.arange(size, dtype=torch.float32, device=pixels.device) * (n / size)
        low = at.floor().long().clamp(max=n - 1)
        return low, (low + 1).clamp(max=n - 1), at - low

    top, bottom, v = axis(pixels.shape[2])
    left, right, h = axis(pixels.shape[3])
    v = v[:, None]
    upper = pixels[:, :, top][..., left] * (1 - h) + pixels[:, :, top][..., right] * h
    lower = pixels[:, :, bottom][..., left] * (1 - h) + pixels[:, :, bottom][..., right] * h
    return upper * (1 - v) + lower * v


class InceptionFeatures:
    """Features of 8-bit pictures for the Frechet distance, FID's or ArtFID's.

    The way pictures get in is part of the metric: any other gives other numbers. FID's network
    sees them through TensorFlow's resize and `(x - 128) / 128`, ArtFID's at their own size in
    [0, 1].

    Args:
        path: weights, see `Inception`.
        variant: which network.
        device: where to compute.

    Raises:
        UserError: there is no such file, or it holds something else.
    """

    def __init__(self, path: Path, variant: Variant, device: torch.device) -> None:
        self.network = load_inception(path, variant).to(device)
        self.variant, self.device = variant, device
        self.resize = (
            f"bilinear to {INPUT_SIZE} x {INPUT_SIZE} as TensorFlow 1, (x - 128) / 128"
            if variant == "fid"
            else "none, x / 255"
        )

    @torch.no_grad()
    def __call__(self, pictures: Iterable[Image.Image]) -> np.ndarray:
        """Features (n, 2048) float32 of RGB pictures of any sizes."""
        found = [self.network(self._input(picture)).cpu().numpy() for picture in pictures]
        return np.concatenate(found) if found else np.zeros((0, FEATURES), np.float32)

    def _input(self, picture: Image.Image) -> Tensor:
        pixels = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)[None]
        x = pixels.to(self.device, torch.float32)
        return (tensorflow_resize(x) - 128) / 128 if self.variant == "fid" else x / 255
