"""The five losses of a style (METHOD 2.5), on predicted images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from osasis.style.config import LossWeights


class Critic(Protocol):
    """What judges pictures while a style is learned: an embedder and a perceptual distance."""

    def embed(self, x: Tensor) -> Tensor:
        """(B, D) embeddings of pictures (B, 3, H, W) in [-1, 1], for directions."""
        ...

    def set_reference(self, reference: Tensor) -> None:
        """Keep the style image (1, 3, H, W), to which `compare` measures."""
        ...

    def compare(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine distances of embeddings (B,) and perceptual distances (B,) to the reference."""
        ...


@dataclass(frozen=True)
class StyleTargets:
    """Embeddings that do not depend on the prediction: computed once per style.

    Attributes:
        style_B: (1, 3, H, W) the style image.
        embedding_A: (1, D) of its photographic twin.
        embedding_B: (1, D) of the style image.
    """

    style_B: Tensor
    embedding_A: Tensor
    embedding_B: Tensor


def cosine_distance(x: Tensor, y: Tensor) -> Tensor:
    """`1 - cos(x, y)`, (B,); both (B, D) or (1, D)."""
    return 1 - F.cosine_similarity(x, y, dim=1)


def style_targets(style_A: Tensor, style_B: Tensor, critic: Critic) -> StyleTargets:
    """Embed the style image and its twin, each (1, 3, H, W), and set the critic's reference."""
    with torch.no_grad():
        critic.set_reference(style_B)
        return StyleTargets(style_B, critic.embed(style_A), critic.embed(style_B))


def style_losses(
    content: Tensor,
    style: Tensor,
    content_embedding: Tensor,
    targets: StyleTargets,
    critic: Critic,
    weights: LossWeights,
) -> dict[str, Tensor]:
    """Weighted losses of one update (the paper's Eqs. 15 to 18).

    Args:
        content: (B, 3, H, W) x0_hat of the content branch, I_B_in.
        style: (1, 3, H, W) x0_hat of the style branch.
        content_embedding: (B, D) of the photos I_A_in.

    Returns:
        Scalars "cross_domain", "in_domain", "embedding", "l1", "lpips"; their sum is the loss.
    """
    embedding_in = critic.embed(content)
    embedding_distance, perceptual_distance = critic.compare(style)
    across = targets.embedding_B - targets.embedding_A
    within = content_embedding - targets.embedding_A
    w = weights
    cross = cosine_distance(embedding_in - content_embedding, across)
    return {
        "cross_domain": w.cross_domain * cross.mean(),
        "in_domain": w.in_domain
        * cosine_distance(within, embedding_in - targets.embedding_B).mean(),
        "embedding": w.embedding * embedding_distance.mean(),
        "l1": w.l1 * F.l1_loss(style, targets.style_B),
        "lpips": w.lpips * perceptual_distance.mean(),
    }
