"""Critics: which embedder and which perceptual distance judge a style."""

from __future__ import annotations

import torch
from torch import Tensor

from osasis.perception.judges import VggJudges, load_judges
from osasis.perception.protocol import Embedder
from osasis.perception.registry import DEFAULT_EMBEDDER, get_embedder
from osasis.perception.vgg import shrink
from osasis.style.config import LearnConfig
from osasis.style.losses import Critic, cosine_distance


class VggCritic:
    """VGG statistics and LPIPS from one pass through the shared trunk (engineering choice).

    Args:
        judges: the trunk and what reads it.
        content_size: largest side in pixels at which pictures are embedded for directions; the
            style image is always compared at its own size.
    """

    def __init__(self, judges: VggJudges, content_size: int | None = None) -> None:
        self._judges, self._content_size = judges, content_size

    def embed(self, x: Tensor) -> Tensor:
        if self._content_size is not None:
            x = shrink(x, self._content_size)
        return self._judges.statistics.from_activations(self._judges.trunk(x))

    def set_reference(self, reference: Tensor) -> None:
        self._reference = self._look(reference)

    def compare(self, x: Tensor) -> tuple[Tensor, Tensor]:
        embedding, features = self._look(x)
        return (
            cosine_distance(embedding, self._reference[0]),
            self._judges.lpips.distance(features, self._reference[1]),
        )

    def _look(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        activations = self._judges.trunk(x)
        statistics = self._judges.statistics.from_activations(activations)
        return statistics, self._judges.lpips.normalise(activations)


class SeparateCritic:
    """Any embedder beside LPIPS: the paper's CLIP and VGG LPIPS."""

    def __init__(self, embedder: Embedder, judges: VggJudges) -> None:
        self._embedder, self._judges = embedder, judges

    def embed(self, x: Tensor) -> Tensor:
        return self._embedder(x)

    def set_reference(self, reference: Tensor) -> None:
        self._reference = self.embed(reference), reference

    def compare(self, x: Tensor) -> tuple[Tensor, Tensor]:
        embedding, reference = self._reference
        return cosine_distance(self.embed(x), embedding), self._judges.lpips(x, reference)


def load_critic(embedder: str | None, config: LearnConfig, device: torch.device) -> Critic:
    """The critic for an embedder's name (see `get_embedder`); None is the embedded VGG one."""
    judges = load_judges(device=device)
    if embedder is None or embedder == DEFAULT_EMBEDDER:
        return VggCritic(judges, config.content_judge_size)
    chosen = get_embedder(embedder, device, release_preprocessing=config.release_preprocessing)
    return SeparateCritic(chosen, judges)
