"""The five losses against values worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from osasis.config.presets import LossWeights
from osasis.learn.critic import SeparateCritic, VggCritic
from osasis.learn.losses import CriticFeatures, style_losses, style_targets
from osasis.perception.judges import load_judges
from osasis.perception.similarity import cosine_distance, structure_distance

ONE = LossWeights(1.0, 1.0, 1.0, 1.0, 1.0)


class MeanColour:
    """Embeds a picture as its mean colour; the distance is that of the means."""

    def embed(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))

    positions: Tensor | None = None

    def features(self, x: Tensor) -> CriticFeatures:
        return CriticFeatures(self.embed(x), positions=self.positions)

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
    seen = critic.features(plain(-0.5, 0.6, 0.1))
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


def test_directions_can_start_at_the_mean_of_photos() -> None:
    """The twin says 'redder'; from the photos' mean to the style image it is 'less green'."""
    critic = MeanColour()
    photos = CriticFeatures(torch.tensor([[0.9, 0.7, 0.1], [1.1, 0.5, 0.1]]))
    targets = style_targets(plain(0.0, 0.1, 0.1), plain(1.0, 0.1, 0.1), critic, photos)
    assert targets.embedding_A.tolist() == [pytest.approx([1.0, 0.6, 0.1])]
    photo = CriticFeatures(torch.tensor([[0.3, 0.4, 0.5]]))
    parts = style_losses(plain(0.3, -0.1, 0.5), plain(1.0, 0.1, 0.1), photo, targets, critic, ONE)
    assert {k: float(v) for k, v in parts.items()} == pytest.approx(
        dict.fromkeys(parts, 0), abs=1e-6
    )


def test_every_window_has_its_own_direction() -> None:
    """Two windows go the style's way, one goes back and one aside: (0 + 0 + 2 + 1) / 4."""
    critic = MeanColour()
    targets = style_targets(plain(0.0, 0.1, 0.1), plain(1.0, 0.1, 0.1), critic)
    before = torch.full((1, 4, 3), 0.2)
    moved = torch.tensor([[[0.3, 0, 0], [0.1, 0, 0], [-0.2, 0, 0], [0, 0.4, 0]]])
    x = plain(0.5, 0.6, 0.1)
    critic.features = lambda x: CriticFeatures(critic.embed(x), before + moved)  # type: ignore[method-assign]
    photos = CriticFeatures(critic.embed(x), before)
    parts = style_losses(x, plain(1.0, 0.1, 0.1), photos, targets, critic, ONE)
    assert float(parts["cross_domain"]) == pytest.approx(0.75, abs=1e-5)


def test_overshoot_counts_what_goes_beyond_the_style() -> None:
    """The style lies 1 away; going 0.5 or 1 costs nothing, going 1.5 costs 0.5 squared."""
    critic = MeanColour()
    targets = style_targets(plain(0.0, 0.1, 0.1), plain(1.0, 0.1, 0.1), critic)
    photos = critic.features(plain(-0.5, 0.6, 0.1))
    weights = LossWeights(overshoot=2.0)
    for red, expected in ((0.0, 0.0), (0.5, 0.0), (1.0, 0.5)):
        x = plain(red, 0.6, 0.1)
        parts = style_losses(x, plain(1.0, 0.1, 0.1), photos, targets, critic, weights)
        assert float(parts["overshoot"]) == pytest.approx(expected, abs=1e-5)
    assert "overshoot" not in style_losses(x, x, photos, targets, critic, ONE)


def test_windows_are_parts_of_the_picture() -> None:
    """Four windows of one colour each look as four pictures of that colour: the same if they are
    cut from the picture, more than like any other if they are cut from activations."""
    judges = load_judges()
    colours = [
        plain(*rgb)[..., :1, :1] for rgb in ((0.9, 0, 0), (0, 0.9, 0), (0, 0, 0.9), (0, 0, 0))
    ]
    big = [c.expand(1, 3, 64, 64) for c in colours]
    picture = torch.cat([torch.cat(big[:2], 3), torch.cat(big[2:], 3)], 2)
    vgg = VggCritic(judges, windows=2)
    separate = SeparateCritic(judges.statistics, judges, windows=2)
    assert VggCritic(judges).features(picture).windows is None
    for critic, limit in ((vgg, 0.5), (separate, 1e-5)):
        seen = critic.features(picture)
        assert seen.windows is not None and seen.windows.shape == (1, 4, 1920)
        for i, colour in enumerate(big):
            alone = critic.features(colour).embedding[0]
            others = [float(cosine_distance(alone, w)) for w in seen.windows[0]]
            assert min(others) == others[i] and others[i] < limit


def test_windows_are_no_more_than_there_are_places() -> None:
    seen = VggCritic(load_judges(), windows=8).features(torch.zeros(2, 3, 32, 32))
    assert seen.windows is not None and seen.windows.shape == (2, 16, 1920)


def test_structure_counts_only_where_it_has_a_weight() -> None:
    """Two places that were alike become orthogonal: the off-diagonal cosines fall from 1 to 0."""
    x = plain(0.1, 0.2, 0.3)
    targets = style_targets(x, x, critic := MeanColour())
    critic.positions = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])
    photos = CriticFeatures(critic.embed(x), positions=torch.tensor([[[3.0, 0.0], [1.0, 0.0]]]))
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
    seen = [critic.features(x).positions for x in (photo, 0.7 * photo + 0.1, photo.flip(3))]
    assert seen[0] is not None and seen[1] is not None and seen[2] is not None
    assert seen[0].shape == (1, 256, 256)
    darker, mirrored = (float(structure_distance(seen[0], s)) for s in (seen[1], seen[2]))
    assert 0 < 3 * darker < mirrored
    assert VggCritic(judges).features(photo).positions is None
