"""The critic of the paper's losses: an embedder beside LPIPS, from one pass where both read VGG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from osasis.config.presets import EMBEDDED, LearnConfig
from osasis.device import compile_in_place, mixed_precision
from osasis.perception.judges import Embedder, VggJudges, get_embedder


@dataclass(frozen=True)
class CriticFeatures:
    """What a critic sees in pictures.

    Attributes:
        embedding: (B, D).
        layers: what the perceptual distance compares.
    """

    embedding: Tensor
    layers: Sequence[Tensor]


class DirectionCritic:
    """An embedder for directions, and LPIPS.

    Args:
        judges: LPIPS, VGG statistics and the trunk that both read.
        embedder: what directions are measured with (the paper's CLIP); None takes VGG statistics,
            from the pass that LPIPS reads (engineering choice).
        mixed: whether networks multiply in bfloat16, see `LearnConfig.mixed_precision`.
    """

    def __init__(
        self, judges: VggJudges, embedder: Embedder | None = None, *, mixed: bool = False
    ) -> None:
        self._judges, self._embedder, self._mixed = judges, embedder, mixed

    def embed(self, x: Tensor) -> Tensor:
        """Embeddings (B, D) float32 of pictures (B, 3, H, W) in [-1, 1]."""
        if self._embedder is None:
            return self._judges.statistics.from_activations(self._activations(x))
        with mixed_precision(x.device, wanted=self._mixed, on_cpu=True):
            embedding = self._embedder(x)
        return embedding.float()

    def features(self, x: Tensor) -> CriticFeatures:
        """Embeddings, and what LPIPS compares."""
        activations = self._activations(x)
        if self._embedder is None:
            embedding = self._judges.statistics.from_activations(activations)
        else:
            embedding = self.embed(x)
        return CriticFeatures(embedding, self._judges.lpips.normalise(activations))

    def lpips(self, x: Sequence[Tensor], y: Sequence[Tensor]) -> Tensor:
        """Perceptual distances (B,) of `CriticFeatures.layers`; `y` may have batch size 1."""
        return self._judges.lpips.distance(x, y)

    def _activations(self, x: Tensor) -> list[Tensor]:
        """Of bfloat16 where `mixed`: what reads them makes them float32."""
        with mixed_precision(x.device, wanted=self._mixed, on_cpu=True):
            activations: list[Tensor] = self._judges.trunk(x)
        return activations


def load_critic(
    config: LearnConfig, judges: VggJudges, device: torch.device, *, compiled: bool = False
) -> DirectionCritic:
    """The critic of a configuration.

    Args:
        judges: LPIPS with the configuration's layers, on `device`.
        compiled: whether to compile the trunk of VGG.

    Raises:
        UserError: an unknown embedder, or one that is not on this machine.
    """
    if compiled:
        compile_in_place(judges.trunk)
    embedder = None
    if config.embedder != EMBEDDED:
        embedder = get_embedder(
            config.embedder, device, release_preprocessing=config.release_preprocessing
        )
    return DirectionCritic(judges, embedder, mixed=config.mixed_precision)
