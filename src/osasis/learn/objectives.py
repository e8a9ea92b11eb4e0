"""What a style is learned by: the paper's directions, or statistics by region."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from osasis.config.presets import LossWeights
from osasis.learn.content import PART
from osasis.learn.context import LearningContext
from osasis.learn.critic import DirectionCritic
from osasis.learn.losses import StyleTargets, style_losses, style_targets
from osasis.learn.region_critic import CROP, PhotoFeatures
from osasis.learn.regions import wardrobe
from osasis.learn.update import Branch, Judge, Prediction


class Objective(Protocol):
    """Photos to learn on, and their losses."""

    def batch(self, indices: Sequence[int], noise: torch.Generator) -> tuple[Branch, Branch, Judge]:
        """Photos of these indices, the style image (or an empty branch), and who judges."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """What the style file keeps of it beside weights."""
        ...


class DirectionObjective:
    """The paper's losses (Eqs. 15 to 18).

    Args:
        style_A, style_B: (1, C, H, W) x0 of the style image's twin and of the style image.
    """

    def __init__(self, context: LearningContext, style_A: Tensor, style_B: Tensor) -> None:
        self._context, base, config = context, context.base, context.config
        pictures = (base.to_picture(style_A), base.to_picture(style_B))
        self._targets = style_targets(*pictures, context.critic)
        z_style = base.encode_x0(style_A)
        x_t0 = base.invert_x0(style_A, z_style, config.learn_route)
        self._style = Branch(style_A, z_style, x_t0)

    def batch(self, indices: Sequence[int], noise: torch.Generator) -> tuple[Branch, Branch, Judge]:
        context = self._context
        content, seen = context.bank.photos(indices), context.embeddings(indices)
        judge = direction_judge(
            seen, self._targets, context.critic, context.config.weights, context.base.to_picture
        )
        return content, self._style, judge

    def tensors(self) -> dict[str, Tensor]:
        return {}


def direction_judge(
    photos: Tensor,
    targets: StyleTargets,
    critic: DirectionCritic,
    weights: LossWeights,
    to_picture: Callable[[Tensor], Tensor],
) -> Judge:
    """Who judges by the paper's losses what `to_picture` makes of predictions.

    Args:
        photos: (B, D) embeddings of the photos.
    """
    count = len(photos)

    def judge(predicted: Prediction, rows: slice) -> dict[str, Tensor]:
        content = predicted.content_x0_hat
        return style_losses(
            to_picture(content),
            to_picture(predicted.style_x0_hat),
            photos[rows],
            targets,
            critic,
            weights,
            share=len(content) / count,
        )

    return judge


class RegionObjective:
    """Statistics by region of what predicted latents decode to: no twin, no directions.

    Args:
        style_B: (1, C, H, W) latents of the style image.
        maps: (1, R, h, w) its regions, see `Base.region_maps`.
    """

    def __init__(self, context: LearningContext, style_B: Tensor, maps: Tensor) -> None:
        self._context = context
        base, critic = context.base, context.region_critic
        self.wardrobe, sources = wardrobe(style_B, maps, base.usual_regions())
        seen = self.wardrobe.maps(maps)
        self._style = critic.style(base.to_picture(style_B), seen, sources)
        self._known: dict[int, tuple[Branch, Tensor, PhotoFeatures]] = {}

    def batch(self, indices: Sequence[int], noise: torch.Generator) -> tuple[Branch, Branch, Judge]:
        context = self._context
        self._dress([i for i in dict.fromkeys(indices) if i not in self._known])
        rows = [self._known[i] for i in indices]
        content = Branch.cat([branch for branch, _, _ in rows])
        maps = torch.cat([m for _, m, _ in rows])
        features = PhotoFeatures.cat([f for _, _, f in rows])
        critic, weights = context.region_critic, context.config.region_weights
        closely = context.base.image_size > CROP
        closely = closely and float(torch.rand((), generator=noise)) < weights.crops
        corner = critic.corner(content.x_t, noise) if closely else None

        def judge(predicted: Prediction, part: slice) -> dict[str, Tensor]:
            x0_hat = predicted.content_x0_hat
            share = len(x0_hat) / len(content.x0)
            if corner is not None:
                losses = critic.crop(x0_hat, maps[part], self._style, corner)
            else:
                losses = critic.whole(x0_hat, maps[part], features[part], self._style)
            return {name: share * loss for name, loss in losses.items()}

        return content, content[:0], judge

    def _dress(self, indices: Sequence[int]) -> None:
        """Dress and invert photos, each once a style."""
        context, base = self._context, self._context.base
        for first in range(0, len(indices), PART):
            part = indices[first : first + PART]
            x0 = context.bank.x0(part)
            maps = base.region_maps(x0)
            seen, judged = self.wardrobe.maps(maps), self.wardrobe.judged(maps)
            dressed = self.wardrobe.dress(x0, seen) if context.config.dress else x0
            z_sem = base.encode_x0(dressed)
            x_t = base.invert_x0(dressed, z_sem, context.config.learn_route)
            photo = context.region_critic.photo(base.to_picture(x0), maps)
            inputs = self.wardrobe.spn_input(x0, dressed if context.config.dress else None, seen)
            for k, i in enumerate(part):
                rows = slice(k, k + 1)
                branch = Branch(inputs[rows], z_sem[rows], x_t[rows])
                self._known[i] = (branch, judged[rows], photo[rows])

    def tensors(self) -> dict[str, Tensor]:
        return self.wardrobe.tensors()
