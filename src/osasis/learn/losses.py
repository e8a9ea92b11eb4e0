"""The five losses of a style (METHOD 2.5), on predicted images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from osasis.config.presets import LossWeights
from osasis.perception.similarity import cosine_distance, structure_distance


@dataclass(frozen=True)
class CriticFeatures:
    """What a critic sees in pictures.

    Attributes:
        embedding: (B, D).
        windows: (B, n, D) embeddings of n parts of the picture; None where it is taken whole.
        positions: (B, n, d) features of n places; None where the structure loss has no weight.
    """

    embedding: Tensor
    windows: Tensor | None = None
    positions: Tensor | None = None

    @property
    def parts(self) -> Tensor:
        """(B, n, D) embeddings of the windows, or of the whole picture as the only one."""
        return self.embedding[:, None] if self.windows is None else self.windows

    def __getitem__(self, rows: slice) -> CriticFeatures:
        """What was seen in some of the pictures."""
        windows = None if self.windows is None else self.windows[rows]
        positions = None if self.positions is None else self.positions[rows]
        return CriticFeatures(self.embedding[rows], windows, positions)


def split(seen: CriticFeatures) -> list[CriticFeatures]:
    """What was seen, picture by picture: the inverse of `join`."""
    return [seen[i : i + 1] for i in range(len(seen.embedding))]


def join(seen: Sequence[CriticFeatures]) -> CriticFeatures:
    """What was seen in several pictures as one batch."""
    windows = [s.windows for s in seen if s.windows is not None]
    positions = [s.positions for s in seen if s.positions is not None]
    return CriticFeatures(
        torch.cat([s.embedding for s in seen]),
        torch.cat(windows) if windows else None,
        torch.cat(positions) if positions else None,
    )


class Critic(Protocol):
    """What judges pictures while a style is learned: an embedder and a perceptual distance."""

    def features(self, x: Tensor) -> CriticFeatures:
        """What pictures (B, 3, H, W) in [-1, 1] are, for directions and structure."""
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
        embedding_A: (1, D) where directions start: of its photographic twin, or the photos' mean.
        embedding_B: (1, D) of the style image.
    """

    style_B: Tensor
    embedding_A: Tensor
    embedding_B: Tensor


def style_targets(
    style_A: Tensor, style_B: Tensor, critic: Critic, photos: CriticFeatures | None = None
) -> StyleTargets:
    """Embed the style image and its twin, each (1, 3, H, W), and set the critic's reference.

    Args:
        photos: photos from whose mean directions start in place of the twin.
    """
    with torch.no_grad():
        critic.set_reference(style_B)
        if photos is None:
            start = critic.features(style_A).embedding
        else:
            start = photos.embedding.mean(0, keepdim=True)
        return StyleTargets(style_B, start, critic.features(style_B).embedding)


def style_losses(
    content: Tensor,
    style: Tensor,
    photos: CriticFeatures,
    targets: StyleTargets,
    critic: Critic,
    weights: LossWeights,
    *,
    share: float = 1.0,
) -> dict[str, Tensor]:
    """Weighted losses of one update, or of a part of it (the paper's Eqs. 15 to 18).

    Args:
        content: (B, 3, H, W) x0_hat of the content branch, I_B_in; B may be 0.
        style: (1, 3, H, W) x0_hat of the style branch, or (0, 3, H, W).
        photos: what the critic sees in the photos I_A_in.
        share: of the update's photos that are in `content`, so that the losses of its parts add
            up to its own.

    Returns:
        Scalars of the content branch, "cross_domain", "in_domain" and, where they have a weight,
        "overshoot" and "structure"; of the style branch "embedding", "l1" and "lpips". Their sum is
        the loss.
    """
    losses: dict[str, Tensor] = {}
    if len(content):
        found = _content_losses(critic.features(content), photos, targets, weights)
        losses |= {name: share * loss for name, loss in found.items()}
    if len(style):
        embedding_distance, perceptual_distance = critic.compare(style)
        losses |= {
            "embedding": weights.embedding * embedding_distance.mean(),
            "l1": weights.l1 * F.l1_loss(style, targets.style_B),
            "lpips": weights.lpips * perceptual_distance.mean(),
        }
    return losses


def _content_losses(
    seen: CriticFeatures, photos: CriticFeatures, targets: StyleTargets, weights: LossWeights
) -> dict[str, Tensor]:
    """Weighted means over pictures of the losses that compare results (`seen`) with photos."""
    w = weights
    across = targets.embedding_B - targets.embedding_A
    within = photos.embedding - targets.embedding_A
    moved = seen.parts - photos.parts
    cross = cosine_distance(moved, across[:, None])
    inside = cosine_distance(within, seen.embedding - targets.embedding_B)
    losses = {
        "cross_domain": w.cross_domain * cross.mean(),
        "in_domain": w.in_domain * inside.mean(),
    }
    if w.overshoot:
        further = F.relu(moved.norm(dim=-1) / across.norm(dim=-1, keepdim=True) - 1)
        losses["overshoot"] = w.overshoot * further.square().mean()
    if seen.positions is not None and photos.positions is not None:
        distance = structure_distance(seen.positions, photos.positions)
        losses["structure"] = w.structure * distance.mean()
    return losses
