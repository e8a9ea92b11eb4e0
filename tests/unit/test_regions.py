"""Statistics by region, the wardrobe, and the critic of `fast`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from osasis.base import Base
from osasis.config.presets import FAST, LearnConfig, RegionWeights
from osasis.diffusion.sample import follow
from osasis.errors import UserError
from osasis.formats.style_file import load_style
from osasis.learn.region_critic import RegionCritic
from osasis.learn.regions import (
    OWN_TONE,
    TEETH,
    Statistics,
    Wardrobe,
    dressed_by,
    has_face,
    mixture,
    region_statistics,
    wardrobe,
)
from osasis.learn.save import learn_style
from osasis.models.regions import REGIONS
from osasis.perception.judges import load_judges
from osasis.stylize.stylizer import Stylizer
from tests.conftest import picture


def brief() -> LearnConfig:
    """`fast` in two updates."""
    return replace(FAST, iterations=2, mixed_precision=False)


def halves(channels: int = 2, size: int = 8) -> Tensor:
    """Maps (1, channels, size, size): the first region left, the second one right."""
    maps = torch.zeros(1, channels, size, size)
    maps[:, 0, :, : size // 2] = 1
    maps[:, 1, :, size // 2 :] = 1
    return maps


def face_maps(size: int = 16, **shares: int) -> Tensor:
    """Maps of all regions; each named one takes so many rows from the top, the rest is ground."""
    maps = torch.zeros(1, len(REGIONS), size, size)
    row = 0
    for name, rows in shares.items():
        maps[:, REGIONS.index(name), row : row + rows] = 1
        row += rows
    maps[:, 0, row:] = 1
    return maps


def test_statistics_are_those_of_each_regions_places() -> None:
    torch.manual_seed(0)
    features = torch.randn(2, 5, 8, 8) * 3 + 1
    found = region_statistics(features, halves().expand(2, -1, -1, -1))
    left = features[1, :, :, :4].flatten(1)
    torch.testing.assert_close(found.mean[1, 0], left.mean(1))
    torch.testing.assert_close(found.std[1, 0], left.std(1, unbiased=False))
    pooled = region_statistics(features, halves().expand(2, -1, -1, -1), pooled=True)
    right = features[:, :, :, 4:].transpose(0, 1).flatten(1)
    torch.testing.assert_close(pooled.mean[1], right.mean(1))


def test_a_mixture_has_the_statistics_of_the_whole() -> None:
    torch.manual_seed(1)
    features = torch.randn(1, 4, 8, 8)
    features[..., 4:] = features[..., 4:] * 2 + 3
    parts = region_statistics(features, halves(), pooled=True)
    whole = region_statistics(features, torch.ones(1, 1, 8, 8), pooled=True)
    mixed = mixture(parts, torch.tensor([[0.5, 0.5]]))
    torch.testing.assert_close(mixed.mean, whole.mean)
    torch.testing.assert_close(mixed.std, whole.std, atol=1e-4, rtol=1e-4)
    # and a photo with more of the left looks more like the left
    assert (mixture(parts, torch.tensor([[0.9, 0.1]])).mean < mixed.mean).all()


def test_what_a_style_lacks_is_dressed_by_a_stand_in() -> None:
    maps = face_maps(skin=6, eye=1, nose=1, hair=4)
    sources = dict(zip(REGIONS, dressed_by(maps), strict=True))
    assert sources["hair"] == REGIONS.index("hair")
    assert sources["hat"] == REGIONS.index("hair")  # no hat: hair before cloth
    assert sources["mouth"] == REGIONS.index("skin")
    assert has_face(maps)
    assert not has_face(face_maps(skin=6, hair=4))
    assert not has_face(torch.ones(1, 1, 8, 8))  # a base without regions


def test_a_dressed_region_has_the_styles_mean_and_the_photos_shapes() -> None:
    torch.manual_seed(2)
    x0 = torch.randn(1, 3, 8, 8)
    style = Statistics(torch.tensor([[1.0, -2.0, 0.5]]), torch.full((1, 3), 0.8))
    clothes = Wardrobe(style, False, torch.zeros(1, 3), torch.zeros(1))
    dressed = clothes.dress(x0, torch.ones(1, 1, 16, 16))
    torch.testing.assert_close(dressed.mean((2, 3)), style.mean)
    assert torch.corrcoef(torch.stack([x0[0, 1].flatten(), dressed[0, 1].flatten()]))[0, 1] > 0.999
    # contrast goes towards the style's, but a flat channel is not blown up
    assert dressed.std((2, 3)).max() < x0.std((2, 3)).max()
    flat = clothes.dress(torch.zeros(1, 3, 8, 8), torch.ones(1, 1, 8, 8))
    torch.testing.assert_close(flat.std((2, 3)), torch.zeros(1, 3))


def test_each_region_is_dressed_by_its_own() -> None:
    torch.manual_seed(3)
    maps = torch.zeros(1, len(REGIONS), 16, 16)
    maps[:, 1, :, :8] = 1
    maps[:, 8, :, 8:] = 1
    mean = torch.zeros(len(REGIONS), 2)
    mean[1], mean[8] = 4.0, -4.0
    usual = torch.zeros(len(REGIONS), 2)
    clothes = Wardrobe(Statistics(mean, torch.ones(len(REGIONS), 2)), True, usual, usual[:, 0])
    dressed = clothes.dress(torch.randn(1, 2, 16, 16), maps)
    assert dressed[..., :7].mean() > 3.5
    assert dressed[..., 9:].mean() < -3.5
    assert -3 < dressed[..., 7:9].mean() < 3  # the border is soft


def test_dark_skin_stays_darker_than_fair_skin() -> None:
    torch.manual_seed(5)
    maps = face_maps(skin=10)
    usual = torch.ones(len(REGIONS), 2)
    style = Statistics(torch.full_like(usual, 3.0), usual * 0.5)
    clothes = Wardrobe(style, True, usual, torch.zeros(len(REGIONS)))
    grain = torch.randn(1, 2, 16, 16) * 0.3
    fair, dark = (clothes.dress(grain + tone, maps) for tone in (1.0, -2.0))
    assert fair[:, :, 2:8].mean() == pytest.approx(3.0, abs=0.1)
    assert dark[:, :, 2:8].mean() == pytest.approx(3.0 - OWN_TONE * 3, abs=0.1)


def test_teeth_go_with_skin_and_not_with_a_styles_lips() -> None:
    torch.manual_seed(6)
    maps = face_maps(skin=6, mouth=3, teeth=4, eye=1, nose=1)
    x0 = torch.randn(1, 1, 16, 16) * 0.1
    x0[:, :, 9:13] += 2  # white beside skin
    style = torch.zeros(1, 1, 16, 16)
    style[:, :, 6:9] = -5  # red lips
    style = style + torch.randn_like(style) * 0.1
    clothes, sources = wardrobe(style, maps, torch.zeros(len(REGIONS), 1))
    assert sources[TEETH] == REGIONS.index("skin")
    dressed = clothes.dress(x0, maps)
    skin, teeth = dressed[:, :, 1:5].mean(), dressed[:, :, 10:12].mean()  # within borders
    assert teeth > skin + 0.5


def test_a_style_without_a_face_is_not_asked_about_eyes() -> None:
    maps = face_maps(skin=6, eye=1, nose=1, hair=4)
    clothes, _ = wardrobe(
        torch.randn(1, 2, 16, 16), face_maps(hair=4), torch.zeros(len(REGIONS), 2)
    )
    assert not clothes.face
    judged = clothes.judged(maps)
    assert judged.shape == (1, 1, 16, 16)
    assert judged[0, 0, :, 0].tolist() == [1.0] * 6 + [0.0] * 2 + [1.0] * 8


@pytest.fixture(scope="module")
def critic() -> RegionCritic:
    trunk = load_judges().trunk
    return RegionCritic(trunk, lambda x0: x0, 1, RegionWeights(), mixed=False)


def test_the_style_itself_is_right_and_the_photo_is_like_itself(critic: RegionCritic) -> None:
    torch.manual_seed(4)
    photo, style = torch.rand(1, 3, 64, 64) * 2 - 1, torch.rand(1, 3, 64, 64).pow(3) * 2 - 1
    maps = halves(len(REGIONS), 64)
    sources = tuple(range(len(REGIONS)))
    known, kept = critic.style(style, maps, sources), critic.photo(photo, maps)
    of_style = critic.whole(style, maps, kept, known)
    of_photo = critic.whole(photo, maps, kept, known)
    assert float(of_style["region"]) < 1e-4
    assert float(of_style["whole"]) < 1e-2  # regions are mixed, not placed
    assert float(of_photo["region"]) > 0.1
    assert float(of_photo["content"]) < 1e-4  # kept as float16
    assert float(of_photo["structure"]) < 1e-4
    assert float(of_style["content"]) > 0.05
    assert float(of_style["structure"]) > 1e-3


def test_a_crop_is_judged_at_full_size(critic: RegionCritic) -> None:
    torch.manual_seed(5)
    style = torch.rand(1, 3, 160, 160) * 2 - 1
    maps = halves(len(REGIONS), 160)
    known = critic.style(style, maps, tuple(range(len(REGIONS))))
    same = critic.crop(style, maps, known, (16, 16))
    other = critic.crop(style.pow(3), maps, known, (16, 16))
    assert float(same["region"]) < 0.5 * float(other["region"])
    corner = critic.corner(style, torch.Generator().manual_seed(0))
    assert all(0 <= c <= 32 for c in corner)


def test_fast_learns_on_a_base_in_latents(latent_base: Base, tmp_path: Path) -> None:
    phases = []
    style = learn_style(
        picture(1), base=latent_base, preset=brief(), photos=[picture(2), picture(3)],
        callback=lambda record: phases.append(record.phase),
    )  # fmt: skip
    assert set(phases) == {"bank", "learn"}  # no twin is made
    style.save(tmp_path / "style.safetensors")
    read = load_style(tmp_path / "style.safetensors")
    x0 = torch.rand(2, 3, 64, 64) * 2 - 1
    result = Stylizer(latent_base, read).redraw_squares(x0)
    assert result.shape == x0.shape
    assert result.abs().max() <= 1
    alone = Stylizer(latent_base, read).redraw_squares(x0[1:])
    torch.testing.assert_close(result[1:], alone, atol=1e-4, rtol=0)
    # strength 0 is the base's own reconstruction
    none = Stylizer(latent_base, read, strength=0.0).redraw_squares(x0)
    plain = Stylizer(latent_base, read, strength=0.0, lambda_spn=0.0).redraw_squares(x0)
    torch.testing.assert_close(none, plain)
    assert (none - result).abs().mean() > 5e-4


def test_latents_beyond_one_are_not_clipped(latent_base: Base) -> None:
    """Latents have no range: what learning and stylizing invert comes back as it was."""
    x0 = 4 * torch.randn(1, *latent_base.x0_shape, generator=torch.Generator().manual_seed(0))
    z_sem = latent_base.encode_x0(x0)
    route = replace(FAST.learn_route, invert_steps=400, decode_steps=400)
    x_t = latent_base.invert_x0(x0, z_sem, route)
    back = follow(
        lambda x, t: latent_base.diffae.eps(x, t, latent_base.diffae.plain(z_sem)),
        x_t, latent_base.unclipped(route), route.decoding(),
    )  # fmt: skip
    assert x0.abs().max() > 3
    torch.testing.assert_close(back, x0, atol=0.3, rtol=0)


def test_a_wardrobe_of_other_latents_is_refused(latent_base: Base) -> None:
    style = learn_style(picture(1), base=latent_base, preset=brief(), photos=[picture(2)])
    style.tensors["wardrobe.mean"] = style.tensors["wardrobe.mean"][:, :2]
    with pytest.raises(UserError, match="statistics of its regions"):
        Stylizer(latent_base, style)


def test_wardrobe_of_a_style_keeps_one_row_a_region(latent_base: Base) -> None:
    x0 = latent_base.to_x0(torch.rand(1, 3, 64, 64) * 2 - 1)
    usual = latent_base.usual_regions()
    clothes, sources = wardrobe(x0, face_maps(skin=6, eye=1, nose=1, hair=4), usual)
    assert clothes.face
    assert clothes.latents.mean.shape == (len(REGIONS), x0.shape[1])
    back = Wardrobe.from_tensors(clothes.tensors(), usual)
    torch.testing.assert_close(back.latents.std, clothes.latents.std)
    assert len(sources) == len(REGIONS)
