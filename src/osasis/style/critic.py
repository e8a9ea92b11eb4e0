"""Critics: which embedder and which perceptual distance judge a style."""

from __future__ import annotations

import torch
from torch import Tensor

from osasis.perception.judges import VggJudges, load_judges
from osasis.perception.protocol import Embedder
from osasis.perception.registry import DEFAULT_EMBEDDER, get_embedder
from osasis.style.losses import Critic


class VggCritic:
    """VGG statistics and LPIPS from one pass through the shared trunk (engineering choice)."""

    def __init__(self, judges: VggJudges) -> None:
        self._judges = judges
        self._reference: list[Tensor] = []

    def embed(self, x: Tensor) -> Tensor:
        return self._judges.statistics.from_activations(self._judges.trunk(x))

    def set_reference(self, reference: Tensor) -> None:
        self._reference = self._judges.lpips.normalise(self._judges.trunk(reference))

    def embed_and_compare(self, x: Tensor) -> tuple[Tensor, Tensor]:
        activations = self._judges.trunk(x)
        features = self._judges.lpips.normalise(activations)
        distance = self._judges.lpips.distance(features, self._reference)
        return self._judges.statistics.from_activations(activations), distance


class SeparateCritic:
    """Any embedder beside LPIPS: the paper's CLIP and VGG LPIPS."""

    def __init__(self, embedder: Embedder, judges: VggJudges) -> None:
        self._embedder = embedder
        self._judges = judges
        self._reference: list[Tensor] = []

    def embed(self, x: Tensor) -> Tensor:
        return self._embedder(x)

    def set_reference(self, reference: Tensor) -> None:
        self._reference = self._judges.lpips.normalise(self._judges.trunk(reference))

    def embed_and_compare(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self._judges.lpips.normalise(self._judges.trunk(x))
        return self.embed(x), self._judges.lpips.distance(features, self._reference)


def load_critic(
    embedder: str | None, device: torch.device, *, release_preprocessing: bool = False
) -> Critic:
    """The critic for an embedder's name (see `get_embedder`); None is the embedded VGG one."""
    judges = load_judges(device=device)
    if embedder is None or embedder == DEFAULT_EMBEDDER:
        return VggCritic(judges)
    chosen = get_embedder(embedder, device, release_preprocessing=release_preprocessing)
    return SeparateCritic(chosen, judges)
