"""The five losses against values worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from osasis.config.presets import LossWeights
from osasis.learn.losses import CriticFeatures, style_losses, style_targets

ONE = LossWeights(1.0, 1.0, 1.0, 1.0, 1.0)


class MeanColour:
    """Embeds a picture as its mean colour; the distance is that of the means."""

    def embed(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))

    def features(self, x: Tensor) -> CriticFeatures:
        return CriticFeatures(self.embed(x), [self.embed(x)])

    def lpips(self, x: Sequence[Tensor], y: Sequence[Tensor]) -> Tensor:
        return (x[0] - y[0]).norm(dim=1)


def plain(*rgb: float) -> Tensor:
    return torch.tensor(rgb)[None, :, None, None].expand(1, 3, 4, 4)


def losses(content: Tensor, style: Tensor) -> dict[str, float]:
    critic = MeanColour()
    targets = style_targets(plain(0.0, 0.1, 0.1), plain(1.0, 0.1, 0.1), critic)  # redder
    seen = critic.embed(plain(-0.5, 0.6, 0.1))
    parts = style_losses(content, style, seen, targets, critic, ONE)
    return {name: float(value) for name, value in parts.items()}


def test_nothing_to_learn() -> None:
    """The content moved as the style did, and the style image is met: every loss is 0."""
    perfect = losses(plain(0.5, 0.6, 0.1), plain(1.0, 0.1, 0.1))
    assert perfect == pytest.approx(dict.fromkeys(perfect, 0.0), abs=1e-6)


def test_opposite_and_orthogonal_directions() -> None:
    assert losses(plain(-1.5, 0.6, 0.1), plain(1, 0.1, 0.1))["cross_domain"] == pytest.approx(2)
    assert losses(plain(-0.5, 0.6, 0.9), plain(1, 0.1, 0.1))["cross_domain"] == pytest.approx(1)


def test_in_domain_asks_for_the_same_difference_to_the_style() -> None:
    # photo - twin = (-0.5, 0.5, 0); result - style image = (0.5, 0.5, 0): orthogonal
    assert losses(plain(1.5, 0.6, 0.1), plain(1, 0.1, 0.1))["in_domain"] == pytest.approx(1)


def test_reconstruction_terms() -> None:
    parts = losses(plain(0.5, 0.6, 0.1), plain(0.7, 0.1, 0.1))
    assert parts["l1"] == pytest.approx(0.1)
    assert parts["lpips"] == pytest.approx(0.3)
    a, b = torch.tensor([0.7, 0.1, 0.1]), torch.tensor([1.0, 0.1, 0.1])
    assert parts["embedding"] == pytest.approx(float(1 - a @ b / (a.norm() * b.norm())), abs=1e-6)
