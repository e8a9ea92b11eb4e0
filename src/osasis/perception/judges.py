"""The two judges that share one VGG16."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import torch

from osasis.perception.lpips import Lpips
from osasis.perception.vgg import VggStatistics, VggTrunk, load_vgg

VGG_ASSET = "vgg16_lpips4.safetensors"


@dataclass(frozen=True)
class VggJudges:
    """A trunk and the two judges that read its activations, so that VGG runs once per picture.

    In a training step: `activations = judges.trunk(x)`, then
    `judges.statistics.from_activations(activations)` and `judges.lpips.normalise(activations)`.
    """

    trunk: VggTrunk
    statistics: VggStatistics
    lpips: Lpips


def load_judges(path: Path | None = None, device: torch.device | None = None) -> VggJudges:
    """Load VGG16 with LPIPS' heads once, frozen, float32, channels last (engineering choice).

    Args:
        path: a safetensors file with four or five stages; None takes the one in the package.
        device: where to put it; None leaves it on the CPU.

    Raises:
        UserError: there is no such file.
        OsasisError: the file is damaged or holds something else.
    """
    if path is None:
        with as_file(files("osasis") / "assets" / VGG_ASSET) as asset:
            trunk, heads = load_vgg(asset)
    else:
        trunk, heads = load_vgg(path)
    if device is not None:
        trunk = trunk.to(device)
        heads = [head.to(device) for head in heads]
    return VggJudges(trunk, VggStatistics(trunk), Lpips(trunk, heads))
