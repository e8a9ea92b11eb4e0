"""Inception-v3 as feature extractor of FID and ArtFID."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

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
# parts of published files that features do not need
_NOT_NEEDED = re.compile(r"^(fc|AuxLogits)[12]?\.|\.num_batches_tracked$")


class ConvBN(nn.Module):
    """Convolution, batch normalisation (eps 0.001), ReLU."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(channels_out, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


class Block(nn.Module):
    """A mixed block: branches side by side, joined along the channels.

    The subclasses name their convolutions as the published weights do; `pool` is how the pooled
    branch is pooled, which is where FID's network and torchvision's differ.
    """

    def __init__(self, pool: str) -> None:
        super().__init__()
        self._pool = pool

    def pooled(self, x: Tensor) -> Tensor:
        """3 x 3, stride 1: "max", "mean" without the zeros around, or "mean with padding"."""
        if self._pool == "max":
            return F.max_pool2d(x, 3, stride=1, padding=1)
        return F.avg_pool2d(
            x, 3, stride=1, padding=1, count_include_pad=self._pool == "mean with padding"
        )


class InceptionA(Block):
    """35 x 35 block."""

    def __init__(self, channels: int, pool_channels: int, pool: str) -> None:
        super().__init__(pool)
        self.branch1x1 = ConvBN(channels, 64, 1)
        self.branch5x5_1 = ConvBN(channels, 48, 1)
        self.branch5x5_2 = ConvBN(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = ConvBN(channels, 64, 1)
        self.branch3x3dbl_2 = ConvBN(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = ConvBN(96, 96, 3, padding=1)
        self.branch_pool = ConvBN(channels, pool_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        five = self.branch5x5_2(self.branch5x5_1(x))
        return torch.cat([self.branch1x1(x), five, double, self.branch_pool(self.pooled(x))], 1)


class InceptionB(nn.Module):
    """35 x 35 to 17 x 17."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch3x3 = ConvBN(channels, 384, 3, stride=2)
        self.branch3x3dbl_1 = ConvBN(channels, 64, 1)
        self.branch3x3dbl_2 = ConvBN(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = ConvBN(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, F.max_pool2d(x, 3, stride=2)], 1)


class InceptionC(Block):
    """17 x 17 block with factorised 7 x 7 convolutions."""

    def __init__(self, width: int, pool: str) -> None:
        super().__init__(pool)
        row: tuple[tuple[int, int], tuple[int, int]] = ((1, 7), (0, 3))
        column: tuple[tuple[int, int], tuple[int, int]] = ((7, 1), (3, 0))
        self.branch1x1 = ConvBN(768, 192, 1)
        self.branch7x7_1 = ConvBN(768, width, 1)
        self.branch7x7_2 = ConvBN(width, width, row[0], padding=row[1])
        self.branch7x7_3 = ConvBN(width, 192, column[0], padding=column[1])
        self.branch7x7dbl_1 = ConvBN(768, width, 1)
        self.branch7x7dbl_2 = ConvBN(width, width, column[0], padding=column[1])
        self.branch7x7dbl_3 = ConvBN(width, width, row[0], padding=row[1])
        self.branch7x7dbl_4 = ConvBN(width, width, column[0], padding=column[1])
        self.branch7x7dbl_5 = ConvBN(width, 192, row[0], padding=row[1])
        self.branch_pool = ConvBN(768, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), seven, double, self.branch_pool(self.pooled(x))], 1)


class InceptionD(nn.Module):
    """17 x 17 to 8 x 8."""

    def __init__(self) -> None:
        super().__init__()
        self.branch3x3_1 = ConvBN(768, 192, 1)
        self.branch3x3_2 = ConvBN(192, 320, 3, stride=2)
        self.branch7x7x3_1 = ConvBN(768, 192, 1)
        self.branch7x7x3_2 = ConvBN(192, 192, (1, 7), padding=(0, 3))
        self.branch7x7x3_3 = ConvBN(192, 192, (7, 1), padding=(3, 0))
        self.branch7x7x3_4 = ConvBN(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        three = self.branch3x3_2(self.branch3x3_1(x))
        return torch.cat([three, seven, F.max_pool2d(x, 3, stride=2)], 1)


class InceptionE(Block):
    """8 x 8 block."""

    def __init__(self, channels: int, pool: str) -> None:
        super().__init__(pool)
        self.branch1x1 = ConvBN(channels, 320, 1)
        self.branch3x3_1 = ConvBN(channels, 384, 1)
        self.branch3x3_2a = ConvBN(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3_2b = ConvBN(384, 384, (3, 1), padding=(1, 0))
        self.branch3x3dbl_1 = ConvBN(channels, 448, 1)
        self.branch3x3dbl_2 = ConvBN(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = ConvBN(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3dbl_3b = ConvBN(384, 384, (3, 1), padding=(1, 0))
        self.branch_pool = ConvBN(channels, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        branches = [
            self.branch1x1(x),
            self.branch3x3_2a(three),
            self.branch3x3_2b(three),
            self.branch3x3dbl_3a(double),
            self.branch3x3dbl_3b(double),
            self.branch_pool(self.pooled(x)),
        ]
        return torch.cat(branches, 1)


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
        self.Conv2d_2a_3x3 = ConvBN(32, 32, 3)
        self.Conv2d_2b_3x3 = ConvBN(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = ConvBN(64, 80, 1)
        self.Conv2d_4a_3x3 = ConvBN(80, 192, 3)
        self.Mixed_5b = InceptionA(192, 32, mean)
        self.Mixed_5c = InceptionA(256, 64, mean)
        self.Mixed_5d = InceptionA(288, 64, mean)
        self.Mixed_6a = InceptionB(288)
        self.Mixed_6b = InceptionC(128, mean)
        self.Mixed_6c = InceptionC(160, mean)
        self.Mixed_6d = InceptionC(160, mean)
        self.Mixed_6e = InceptionC(192, mean)
        self.Mixed_7a = InceptionD()
        self.Mixed_7b = InceptionE(1280, mean)
        self.Mixed_7c = InceptionE(2048, last)

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
