"""The five losses of a style (Eqs. 15 to 18), on predicted images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from osasis.config.presets import LossWeights
from osasis.learn.critic import CriticFeatures, DirectionCritic
from osasis.perception.similarity import cosine_distance


@dataclass(frozen=True)
class StyleTargets:
    """What does not depend on the prediction: computed once per style.

    Attributes:
        style_B: (1, 3, H, W) the style image.
        embedding_A: (1, D) of its photographic twin, where directions start.
        features_B: of the style image.
    """

    style_B: Tensor
    embedding_A: Tensor
    features_B: CriticFeatures


def style_targets(style_A: Tensor, style_B: Tensor, critic: DirectionCritic) -> StyleTargets:
    """What the critic sees in the style image and its twin, each (1, 3, H, W)."""
    with torch.no_grad():
        return StyleTargets(style_B, critic.embed(style_A), critic.features(style_B))


def style_losses(
    content: Tensor,
    style: Tensor,
    photos: Tensor,
    targets: StyleTargets,
    critic: DirectionCritic,
    weights: LossWeights,
    *,
    share: float = 1.0,
) -> dict[str, Tensor]:
    """Weighted losses of one update, or of a part of it (the paper's Eqs. 15 to 18).

    Args:
        content: (B, 3, H, W) x0_hat of the content branch, I_B_in; B may be 0.
        style: (1, 3, H, W) x0_hat of the style branch, or (0, 3, H, W).
        photos: (B, D) embeddings of the photos I_A_in.
        share: of the update's photos that are in `content`, so that the losses of its parts add
            up to its own.

    Returns:
        Scalars of the content branch, "cross_domain" and "in_domain", and of the style branch,
        "embedding", "l1" and "lpips". Their sum is the loss.
    """
    losses: dict[str, Tensor] = {}
    if len(content):
        embedding = critic.embed(content)
        across = targets.features_B.embedding - targets.embedding_A
        cross = cosine_distance(embedding - photos, across)
        inside = cosine_distance(
            photos - targets.embedding_A, embedding - targets.features_B.embedding
        )
        losses |= {
            "cross_domain": share * weights.cross_domain * cross.mean(),
            "in_domain": share * weights.in_domain * inside.mean(),
        }
    if len(style):
        found = critic.features(style)
        embedding_distance = cosine_distance(found.embedding, targets.features_B.embedding)
        perceptual_distance = critic.lpips(found.layers, targets.features_B.layers)
        losses |= {
            "embedding": weights.embedding * embedding_distance.mean(),
            "l1": weights.l1 * F.l1_loss(style, targets.style_B),
            "lpips": weights.lpips * perceptual_distance.mean(),
        }
    return losses
