"""The five losses against values worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from osasis.perception.judges import load_judges
from osasis.perception.structure import structure_distance
from osasis.style.config import LossWeights
from osasis.style.critic import VggCritic
from osasis.style.losses import Seen, cosine_distance, style_losses, style_targets

ONE = LossWeights(1.0, 1.0, 1.0, 1.0, 1.0)


class MeanColour:
    """Embeds a picture as its mean colour; the distance is that of the means."""

    def embed(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))

    positions: Tensor | None = None

    def look(self, x: Tensor) -> Seen:
        return Seen(self.embed(x), self.positions)

    def set_reference(self, reference: Tensor) -> None:
        self.reference = reference

    def compare(self, x: Tensor) -> tuple[Tensor, Tensor]:
        ours, reference = self.embed(x), self.embed(self.reference)
        return cosine_distance(ours, reference), (ours - reference).norm(dim=1)


def plain(*rgb: float) -> Tensor:
    return torch.tensor(rgb)[None, :, None, None].expand(1, 3, 4, 4)


def losses(content: Tensor, style: Tensor) -> dict[str, float]:
    critic = MeanColour()
    targets = style_targets(plain(0.0, 0.1, 0.1), plain(1.0, 0.1, 0.1), critic)  # redder
    parts = style_losses(content, style, critic.look(plain(-0.5, 0.6, 0.1)), targets, critic, ONE)
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


def test_structure_counts_only_where_it_has_a_weight() -> None:
    """Two places that were alike become orthogonal: the off-diagonal cosines fall from 1 to 0."""
    x = plain(0.1, 0.2, 0.3)
    targets = style_targets(x, x, critic := MeanColour())
    critic.positions = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])
    photos = Seen(critic.embed(x), torch.tensor([[[3.0, 0.0], [1.0, 0.0]]]))
    weights = LossWeights(1.0, 1.0, 1.0, 1.0, 1.0, structure=4.0)
    assert style_losses(x, x, photos, targets, critic, weights)["structure"] == pytest.approx(2.0)
    critic.positions = None
    assert "structure" not in style_losses(x, x, photos, targets, critic, weights)


def test_structure_ignores_colour_and_sees_what_moved() -> None:
    """The photo's own structure is kept by a change of brightness, and lost by a mirror."""
    judges = load_judges()
    critic = VggCritic(judges, content_size=64, structure=True)
    photo = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    photo[..., :20] = -0.8
    seen = [critic.look(x).positions for x in (photo, 0.7 * photo + 0.1, photo.flip(3))]
    assert seen[0] is not None and seen[1] is not None and seen[2] is not None
    assert seen[0].shape == (1, 256, 256)
    darker, mirrored = (float(structure_distance(seen[0], s)) for s in (seen[1], seen[2]))
    assert 0 < 3 * darker < mirrored
    assert VggCritic(judges).look(photo).positions is None
