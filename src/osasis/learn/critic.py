"""Critics: which embedder and which perceptual distance judge a style."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from osasis.compiled import compile_in_place
from osasis.config.presets import EMBEDDED, LearnConfig
from osasis.device import mixed_precision
from osasis.learn.losses import Critic, CriticFeatures
from osasis.perception.judges import VggJudges
from osasis.perception.protocol import Embedder
from osasis.perception.registry import get_embedder
from osasis.perception.similarity import cosine_distance
from osasis.perception.vgg import STATISTICS_LAYERS, VggTrunk, shrink

POSITIONS_SIDE = 16


class VggCritic:
    """VGG statistics and LPIPS from one pass through the shared trunk (engineering choice).

    Args:
        judges: the trunk and what reads it.
        content_size: largest side in pixels at which pictures are looked at for directions and
            structure; the style image is always compared at its own size.
        windows: windows a side that pictures are looked at in for directions, at most as many as
            relu4_3 has places; 1 is the whole picture.
        structure: whether the structure loss is wanted.
        mixed: whether the trunk multiplies in bfloat16, see `LearnConfig.mixed_precision`.
    """

    def __init__(
        self,
        judges: VggJudges,
        content_size: int | None = None,
        *,
        windows: int = 1,
        structure: bool = False,
        mixed: bool = False,
    ) -> None:
        self._judges, self._content_size = judges, content_size
        self._windows, self._structure, self._mixed = windows, structure, mixed

    def features(self, x: Tensor) -> CriticFeatures:
        if self._content_size is not None:
            x = shrink(x, self._content_size)
        activations = trunk_activations(self._judges.trunk, x, mixed=self._mixed)
        statistics = self._judges.statistics
        side = min(self._windows, *activations[STATISTICS_LAYERS - 1].shape[-2:])
        return CriticFeatures(
            statistics.from_activations(activations),
            statistics.of_windows(activations, side) if side > 1 else None,
            positions(activations) if self._structure else None,
        )

    def set_reference(self, reference: Tensor) -> None:
        self._reference = self._compared(reference)

    def compare(self, x: Tensor) -> tuple[Tensor, Tensor]:
        embedding, features = self._compared(x)
        return (
            cosine_distance(embedding, self._reference[0]),
            self._judges.lpips.distance(features, self._reference[1]),
        )

    def _compared(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        activations = trunk_activations(self._judges.trunk, x, mixed=self._mixed)
        statistics = self._judges.statistics.from_activations(activations)
        return statistics, self._judges.lpips.normalise(activations)


class SeparateCritic:
    """Any embedder beside LPIPS: the paper's CLIP and VGG LPIPS.

    Args:
        embedder: what directions are measured with.
        judges: LPIPS, and the trunk for the structure loss.
        content_size: largest side in pixels at which pictures are looked at for directions and
            structure.
        windows: windows a side, each embedded by itself; 1 is the whole picture.
        structure: whether the structure loss is wanted.
        mixed: whether embedder and trunk multiply in bfloat16.
    """

    def __init__(
        self,
        embedder: Embedder,
        judges: VggJudges,
        content_size: int | None = None,
        *,
        windows: int = 1,
        structure: bool = False,
        mixed: bool = False,
    ) -> None:
        self._embedder, self._judges, self._content_size = embedder, judges, content_size
        self._windows, self._structure, self._mixed = windows, structure, mixed

    def features(self, x: Tensor) -> CriticFeatures:
        if self._content_size is not None:
            x = shrink(x, self._content_size)
        return CriticFeatures(
            self._embed(x),
            self._of_windows(x) if self._windows > 1 else None,
            positions(self._activations(x)) if self._structure else None,
        )

    def _of_windows(self, x: Tensor) -> Tensor:
        height, width = (n // self._windows for n in x.shape[2:])
        windows = x.unfold(2, height, height).unfold(3, width, width)
        windows = windows[:, :, : self._windows, : self._windows].permute(0, 2, 3, 1, 4, 5)
        flat = self._embed(windows.reshape(-1, 3, height, width))
        return flat.reshape(len(x), self._windows**2, -1)

    def set_reference(self, reference: Tensor) -> None:
        self._reference = self._compared(reference)

    def compare(self, x: Tensor) -> tuple[Tensor, Tensor]:
        embedding, features = self._compared(x)
        return (
            cosine_distance(embedding, self._reference[0]),
            self._judges.lpips.distance(features, self._reference[1]),
        )

    def _compared(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        return self._embed(x), self._judges.lpips.normalise(self._activations(x))

    def _activations(self, x: Tensor) -> list[Tensor]:
        return trunk_activations(self._judges.trunk, x, mixed=self._mixed)

    def _embed(self, x: Tensor) -> Tensor:
        with mixed_precision(x.device, wanted=self._mixed, on_cpu=True):
            embedding = self._embedder(x)
        return embedding.float()


def trunk_activations(trunk: VggTrunk, x: Tensor, *, mixed: bool) -> list[Tensor]:
    """The trunk's activations, of bfloat16 where `mixed`: what reads them makes them float32."""
    with mixed_precision(x.device, wanted=mixed, on_cpu=True):
        activations: list[Tensor] = trunk(x)
    return activations


def positions(activations: Sequence[Tensor]) -> Tensor:
    """Features (B, n, 256) of relu3_3 at n <= 256 places, for the structure loss."""
    layer = activations[2].float()
    side = min(POSITIONS_SIDE, *layer.shape[-2:])
    return F.adaptive_avg_pool2d(layer, side).flatten(2).transpose(1, 2)


def load_critic(
    config: LearnConfig, judges: VggJudges, device: torch.device, *, compiled: bool = False
) -> Critic:
    """The critic of a configuration.

    Args:
        judges: LPIPS with the configuration's layers, on `device`.
        compiled: whether to compile the trunk of VGG.

    Raises:
        UserError: an unknown embedder, or one that is not on this machine.
    """
    if compiled:
        compile_in_place(judges.trunk)
    windows, mixed = config.direction_windows, config.mixed_precision
    structure = config.weights.structure > 0
    if config.embedder == EMBEDDED:
        return VggCritic(
            judges,
            config.content_judge_size,
            windows=windows,
            structure=structure,
            mixed=mixed,
        )
    chosen = get_embedder(
        config.embedder, device, release_preprocessing=config.release_preprocessing
    )
    return SeparateCritic(
        chosen,
        judges,
        config.content_judge_size,
        windows=windows,
        structure=structure,
        mixed=mixed,
    )
