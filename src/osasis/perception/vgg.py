"""The convolutions of VGG16, and an embedder made of their channel statistics."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from osasis.errors import OsasisError, UserError

# (in channels, out channels) of the convolutions before each tap: relu1_2, relu2_2, relu3_3, ...
_STAGES: tuple[tuple[tuple[int, int], ...], ...] = (
    ((3, 64), (64, 64)),
    ((64, 128), (128, 128)),
    ((128, 256), (256, 256), (256, 256)),
    ((256, 512), (512, 512), (512, 512)),
    ((512, 512), (512, 512), (512, 512)),
)
STATISTICS_LAYERS = 4
RELU1_2, RELU2_2, RELU3_3, RELU4_1 = 3, 8, 15, 18  # numbers of layers
_STD_EPS = 1e-8


class VggTrunk(nn.Module):
    """VGG16 up to relu4_3 (four stages) or relu5_3 (five): Simonyan and Zisserman, 1409.1556.

    Parameters carry torchvision's names, `features.N.weight` and `features.N.bias`. Input is
    normalised with LPIPS' own shift and scale for both LPIPS and the statistics: they are
    ImageNet's mean and deviation rewritten for [-1, 1] and rounded, and one normalisation lets
    both judges share one pass.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, stages: int = 4) -> None:
        super().__init__()
        if not 1 <= stages <= len(_STAGES):
            raise ValueError(f"VGG16 has 1 to {len(_STAGES)} stages, got {stages}")
        self.stages = stages
        layers: list[nn.Module] = []
        taps: list[int] = []
        for stage in _STAGES[:stages]:
            if layers:
                layers.append(nn.MaxPool2d(2))
            for channels_in, channels_out in stage:
                layers += [nn.Conv2d(channels_in, channels_out, 3, padding=1), nn.ReLU(True)]
            taps.append(len(layers) - 1)
        self.features = nn.Sequential(*layers)
        self._taps = frozenset(taps)
        shift, scale = [-0.030, -0.088, -0.188], [0.458, 0.448, 0.450]
        self.register_buffer("shift", torch.tensor(shift).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(scale).view(1, 3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Give the activations of (B, 3, H, W) pictures in [-1, 1], sides of at least 16 pixels.

        Returns:
            One (B, C, H / 2**i, W / 2**i) tensor per stage i = 0, 1, ...: relu1_2, relu2_2,
            relu3_3, relu4_3 and, where the weights are there, relu5_3.

        Raises:
            ValueError: `x` has another shape or is too small.
        """
        return self.layers(x, sorted(self._taps))

    def layers(self, x: Tensor, wanted: Sequence[int]) -> list[Tensor]:
        """As `forward`, the activations after these layers of `features`, in rising order."""
        if x.ndim != 4 or x.shape[1] != 3 or min(x.shape[2:]) < 16:
            raise ValueError(f"expected (B, 3, H, W) of at least 16 pixels, got {tuple(x.shape)}")
        y = (x.to(self.shift.dtype) - self.shift) / self.scale
        y = y.contiguous(memory_format=torch.channels_last)
        activations = []
        for i, layer in enumerate(list(self.features)[: max(wanted) + 1]):
            y = layer(y)
            if i in wanted:
                activations.append(y)
        return activations


class VggStatistics:
    """Embedder: channel means and deviations of relu1_2 .. relu4_3, 1920 numbers.

    The means and deviations of one layer, side by side, are scaled to length one, so that every
    layer has the same say. Source: engineering choice, after style statistics in AdaIN
    (1703.06868); of the embedders compared it told styles apart best.
    """

    name = "vgg16-stats"
    dim = 2 * sum(stage[-1][1] for stage in _STAGES[:STATISTICS_LAYERS])

    def __init__(self, trunk: VggTrunk, max_size: int = 224) -> None:
        if trunk.stages < STATISTICS_LAYERS:
            raise ValueError(f"needs {STATISTICS_LAYERS} stages of VGG16, got {trunk.stages}")
        self.trunk = trunk
        self.max_size = max_size

    def __call__(self, x: Tensor) -> Tensor:
        """Embed (B, 3, H, W) pictures in [-1, 1] as (B, 1920) float32.

        Pictures are used at their own size; where a side is longer than `max_size` they are
        shrunk to it (bicubic, antialiased, shape kept).
        """
        return self.from_activations(self.trunk(shrink(x, self.max_size)))

    def from_activations(self, activations: Sequence[Tensor]) -> Tensor:
        """Embed what `VggTrunk` returned, at whatever size it was run: (B, 1920) float32.

        Equal to calling the embedder where the pictures are no larger than `max_size`.
        """
        parts = []
        for layer in activations[:STATISTICS_LAYERS]:
            variance, mean = torch.var_mean(layer.float(), dim=(2, 3), correction=0)
            # The constant keeps the gradient finite in a channel that is off everywhere.
            deviation = (variance + _STD_EPS).sqrt()
            parts.append(F.normalize(torch.cat([mean, deviation], dim=1), dim=1))
        return torch.cat(parts, dim=1)


def shrink(x: Tensor, max_size: int) -> Tensor:
    """Shrink (B, C, H, W) so that its longer side is `max_size`; smaller pictures are kept.

    Source: engineering choice. Bicubic, antialiased, differentiable; the shape is kept.
    """
    height, width = x.shape[-2:]
    longest = max(height, width)
    if longest <= max_size:
        return x
    size = (
        max(1, round(height * max_size / longest)),
        max(1, round(width * max_size / longest)),
    )
    return F.interpolate(x.float(), size, mode="bicubic", align_corners=False, antialias=True)


def vgg_shapes(stages: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a weight file for LPIPS with so many stages: convolutions and heads."""
    shapes: dict[str, tuple[int, ...]] = {}
    index = 0
    for i, stage in enumerate(_STAGES[:stages]):
        for channels_in, channels_out in stage:
            shapes[f"features.{index}.weight"] = (channels_out, channels_in, 3, 3)
            shapes[f"features.{index}.bias"] = (channels_out,)
            index += 2
        index += 1  # the pooling layer
        shapes[f"lin{i}.weight"] = (1, stage[-1][1], 1, 1)
    return shapes


def load_vgg(path: Path) -> tuple[VggTrunk, list[Tensor]]:
    """Read a frozen trunk and LPIPS' heads, each (C,) float32, from a safetensors file.

    Every name and shape must be right: four stages with lin0 .. lin3, or five with lin0 .. lin4.

    Raises:
        UserError: there is no such file.
        OsasisError: the file is damaged or holds something else.
    """
    if not path.is_file():
        raise UserError(
            f"the VGG16 weights {path} do not exist",
            hint="give an existing safetensors file, or none to use the one in the package",
        )
    try:
        weights = load_file(path)
    except (SafetensorError, OSError) as error:
        raise OsasisError(f"cannot read the VGG16 weights {path}: {error}") from error
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    stages = 5 if "lin4.weight" in found else 4
    wanted = vgg_shapes(stages)
    if found != wanted:
        wrong = sorted(k for k in found.keys() | wanted.keys() if found.get(k) != wanted.get(k))
        raise OsasisError(
            f"{path} does not hold VGG16 and LPIPS weights: {len(wrong)} tensors are missing, "
            f"unknown or of another shape, for example {', '.join(wrong[:4])}"
        )
    heads = [weights.pop(f"lin{i}.weight").float().flatten() for i in range(stages)]
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers do not depend on us
        trunk = VggTrunk(stages)
    trunk.load_state_dict(weights)  # strict; float16 on disk is widened to float32 here
    for parameter in trunk.parameters():
        parameter.data = parameter.data.contiguous(memory_format=_layout(parameter))
    return trunk.requires_grad_(False).eval(), heads


def _layout(parameter: Tensor) -> torch.memory_format:
    return torch.channels_last if parameter.ndim == 4 else torch.contiguous_format
