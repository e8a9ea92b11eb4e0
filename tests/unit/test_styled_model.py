"""Strength, mixes, swapped codes, t0: what the controls of `Stylizer` mean, exactly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from osasis.base import Base, load_base
from osasis.config.catalogue import assets, paintings
from osasis.config.presets import PRESETS
from osasis.diffusion.route import Route
from osasis.diffusion.sample import ddim
from osasis.errors import UserError
from osasis.formats.style_file import Style, load_style
from osasis.imaging.load import load_image
from osasis.imaging.tensors import fit_square, to_tensor
from osasis.learn.learner import StyleLearner
from osasis.learn.regions import PhotoRegions
from osasis.models.diffae import invert
from osasis.models.spn import spn_term
from osasis.stylize.model import common_route, normalised, styled_model
from osasis.stylize.model import student as student_of
from osasis.stylize.preview import preview_style
from osasis.stylize.stylizer import Stylizer

from ..conftest import picture, write_tiny_base
from .test_style import QUICK, run


def learn(base: Base, number: int) -> Style:
    learner = StyleLearner(base, picture(number), QUICK, name=f"style-{number}")
    run(learner)
    return learner.style()


@pytest.fixture(scope="module")
def styles(tiny_base: Base) -> tuple[Style, Style]:
    return learn(tiny_base, 1), learn(tiny_base, 7)


@pytest.fixture(scope="module")
def x0() -> Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


def reconstruction(base: Base, x0: Tensor, route: Route) -> Tensor:
    """Up and down with the base alone, written out."""
    z_sem = base.encode(x0)
    plain = base.diffae.plain(z_sem)
    x_t0 = invert(base.diffae, x0, z_sem, route)
    return ddim(lambda x, t: base.diffae.eps(x, t, plain), x_t0, route.decoding()).clamp(-1, 1)


def as_learned(base: Base, style: Style, x0: Tensor) -> Tensor:
    """Section 3.3 of the paper, written out."""
    config, student = style.manifest.config, student_of(style, base)
    z_sem = base.encode(x0)
    codes = student.diffae.mixed(style.tensors["z_style"], z_sem, style.manifest.style_levels)
    return ddim(
        lambda x, t: student.diffae.eps(x, t, codes),
        invert(base.diffae, x0, z_sem, config.stylize_route),
        config.stylize_route.decoding(),
        spn_term=lambda step: 0.1 * spn_term(student.spn, x0, step, index_time=False),
    ).clamp(-1, 1)


@pytest.mark.parametrize("swap", [False, True])
def test_strength_0_is_the_bases_own_reconstruction(
    tiny_base: Base, styles: tuple[Style, Style], x0: Tensor, swap: bool
) -> None:
    expected = reconstruction(tiny_base, x0, QUICK.stylize_route)
    for style in (styles[0], [(styles[0], 0.7), (styles[1], 0.3)]):
        got = Stylizer(tiny_base, style, strength=0, swap_codes=swap).redraw_squares(x0)
        assert torch.equal(got, expected)


def test_strength_1_is_the_style_as_learned(
    tiny_base: Base, styles: tuple[Style, Style], x0: Tensor
) -> None:
    expected = as_learned(tiny_base, styles[0], x0)
    for style in (styles[0], [(styles[0], 5.0)], [(styles[0], 1.0), (styles[1], 0.0)]):
        assert torch.equal(Stylizer(tiny_base, style, strength=1).redraw_squares(x0), expected)
    assert torch.equal(Stylizer(tiny_base, styles[0]).redraw_squares(x0), expected)


def test_strength_goes_on_beyond_1(
    tiny_base: Base, styles: tuple[Style, Style], x0: Tensor
) -> None:
    plain = reconstruction(tiny_base, x0, QUICK.stylize_route)
    far = [
        float((Stylizer(tiny_base, styles[0], strength=s).redraw_squares(x0) - plain).abs().mean())
        for s in (0.5, 1, 1.5)
    ]
    assert 0 < far[0] < far[1] < far[2]


def test_strength_moves_everything_that_was_learned(
    tiny_base: Base, styles: tuple[Style, Style]
) -> None:
    model = styled_model(tiny_base, styles[0], strength=1.5)
    name = next(n for n in styles[0].tensors if n.startswith("unet."))
    before = tiny_base.diffae.unet.state_dict()[name[5:]]
    change = model.diffae.unet.state_dict()[name[5:]] - before
    torch.testing.assert_close(change, 1.5 * styles[0].tensors[name])
    z = torch.zeros(1, 16)
    torch.testing.assert_close(model.conditioning(z).levels[0], 1.5 * styles[0].tensors["z_style"])


def test_a_mix_averages_changes_and_codes(tiny_base: Base, styles: tuple[Style, Style]) -> None:
    a, b = styles
    model = styled_model(tiny_base, [(a, 3.0), (b, 1.0)])
    names = [n for n in a.tensors if n.startswith("unet.")]
    before, after = tiny_base.diffae.unet.state_dict(), model.diffae.unet.state_dict()
    for name in names:
        expected = 0.75 * a.tensors[name] + 0.25 * b.tensors[name]
        torch.testing.assert_close(after[name[5:]] - before[name[5:]], expected)
    codes = model.conditioning(torch.randn(2, 16))
    expected = 0.75 * a.tensors["z_style"] + 0.25 * b.tensors["z_style"]
    torch.testing.assert_close(codes.levels[1], expected.expand(2, -1))
    assert [part.share for part in model.parts] == [0.75, 0.25]


def test_a_style_with_itself_is_itself(
    tiny_base: Base, styles: tuple[Style, Style], x0: Tensor
) -> None:
    alone = Stylizer(tiny_base, styles[0]).redraw_squares(x0)
    twice = Stylizer(tiny_base, [(styles[0], 0.3), (styles[0], 0.7)]).redraw_squares(x0)
    torch.testing.assert_close(alone, twice, atol=1e-4, rtol=0)


def test_swapped_codes(tiny_base: Base, styles: tuple[Style, Style]) -> None:
    """Fig. 8: the style's code on the deep levels and in the middle, the photo's above."""
    z, z_style = torch.randn(1, 16), styles[0].tensors["z_style"]
    plain = styled_model(tiny_base, styles[0]).conditioning(z)
    swapped = styled_model(tiny_base, styles[0], swap_codes=True).conditioning(z)
    assert styles[0].manifest.style_levels == (0, 1)
    for codes, on_top, below in ((plain, z_style, z), (swapped, z, z_style)):
        assert torch.equal(codes.levels[0], on_top) and torch.equal(codes.levels[1], on_top)
        assert torch.equal(codes.levels[2], below) and torch.equal(codes.middle, below)


def test_without_a_style_it_is_the_base(tiny_base: Base, x0: Tensor) -> None:
    stylizer = Stylizer(tiny_base, t0=500)
    expected = reconstruction(tiny_base, x0, stylizer._route)
    assert torch.equal(stylizer.redraw_squares(x0), expected)
    assert stylizer._route.t0 == 500


def test_less_t0_keeps_more(tiny_base: Base, styles: tuple[Style, Style], x0: Tensor) -> None:
    far = [
        float((Stylizer(tiny_base, styles[0], t0=t0).redraw_squares(x0) - x0).abs().mean())
        for t0 in (125, 500, 875)
    ]
    assert far[0] < far[1] < far[2]
    own = Stylizer(tiny_base, styles[0])
    assert torch.equal(
        Stylizer(tiny_base, styles[0], t0=500).redraw_squares(x0), own.redraw_squares(x0)
    )


@pytest.mark.parametrize("t0", [1, 20, 333, 480, 500, 580, 980])
def test_routes_until_t0(t0: int) -> None:
    """A shared grid ends where inversion ended; the release's two keep the width of their seam."""
    for preset in ("fast", "paper"):
        route = PRESETS[preset].stylize_route.until(t0)
        assert route.inversion()[-1].alpha_bar_s == route.decoding()[0].alpha_bar_t
        assert route.decoding()[0].t == t0
    release = PRESETS["release"].stylize_route
    if t0 < 20:
        with pytest.raises(UserError, match="t0 must lie in 20 .. 980"):
            release.until(t0)
        return
    cut = release.until(t0)
    assert cut.inversion()[-1].t + 10 - cut.decoding()[0].t == 20
    assert 0 <= t0 - (cut.inversion()[-1].t + 10) < 20


def test_the_releases_own_t0_is_what_it_was() -> None:
    release = PRESETS["release"].stylize_route
    assert (len(release.inversion()), len(release.decoding())) == (50, 25)
    assert release.until(500) == release


def test_variation_redraws_only_the_noise(
    tiny_base: Base, styles: tuple[Style, Style], x0: Tensor
) -> None:
    """Near the image there is hardly any noise to draw anew, at whatever variation."""

    def moved(t0: int) -> float:
        plain = Stylizer(tiny_base, styles[0], t0=t0).redraw_squares(x0)
        varied = Stylizer(tiny_base, styles[0], t0=t0, variation=1.0).redraw_squares(x0)
        return float((plain - varied).abs().mean())

    assert 0 < moved(5) < 0.1 < moved(500)


def test_wrong_mixes(tiny_base: Base, styles: tuple[Style, Style], tmp_path: Path) -> None:
    a, b = styles
    for shares in ((-1.0, 2.0), (0.0, 0.0), (float("nan"), 1.0), (float("inf"), 1.0)):
        with pytest.raises(UserError, match="shares"):
            normalised(list(zip(styles, shares, strict=True)))
    for wrong in ({"strength": -0.1}, {"strength": float("nan")}, {"lambda_spn": -1.0}):
        with pytest.raises(UserError, match="must be 0 or more"):
            Stylizer(tiny_base, a, **wrong)
    for t0 in (0, 1001):
        with pytest.raises(UserError, match="t0 must lie between 1 and 1000"):
            Stylizer(tiny_base, a, t0=t0)
    other = load_base(write_tiny_base(tmp_path / "other.safetensors", seed=9))
    with pytest.raises(UserError, match="was learned on base"):
        Stylizer(other, [(a, 1.0), (b, 1.0)])
    release = replace(a.manifest, config=PRESETS["release"], preset="release")
    with pytest.raises(UserError, match="different steps"):
        common_route([(replace(a, manifest=release), 0.4), (b, 0.6)], QUICK.stylize_route)


def test_a_preview_is_the_base_with_the_pictures_code(tiny_base: Base, x0: Tensor) -> None:
    preview = preview_style(tiny_base, picture(3), name="third")
    assert preview.manifest.preset == "preview" and preview.manifest.updates == 0
    z_sem, route = tiny_base.encode(x0), preview.manifest.config.stylize_route
    codes = tiny_base.diffae.mixed(preview.tensors["z_style"], z_sem, (0, 1))
    x_t0 = invert(tiny_base.diffae, x0, z_sem, route)
    expected = ddim(lambda x, t: tiny_base.diffae.eps(x, t, codes), x_t0, route.decoding())
    got = Stylizer(tiny_base, preview).redraw_squares(x0)
    assert torch.equal(got, expected.clamp(-1, 1))
    assert not torch.equal(got, reconstruction(tiny_base, x0, route))


def test_a_preview_on_a_base_with_regions_dresses_photos() -> None:
    base = load_base("faces-256", device="cpu")
    painting = load_image(paintings()["renoir_seashore"])
    photo = to_tensor(fit_square(load_image(assets() / "photos" / "astronaut.png"), 256))
    plain = Stylizer(base).redraw_squares(photo)
    there = to_tensor(fit_square(painting, 256))

    def far(result: Tensor) -> float:
        """How far the ground's colour is from the painting's."""
        return float((result[..., :40].mean((2, 3)) - there[..., :40].mean((2, 3))).norm())

    drawn = Stylizer(base, preview_style(base, painting)).redraw_squares(photo)
    assert far(drawn) < 0.8 * far(plain)


def test_strength_beyond_1_dresses_no_further() -> None:
    base, style = load_base("faces-256", device="cpu"), load_style("renoir_seashore")
    x0 = torch.randn(1, *base.x0_shape)
    regions = PhotoRegions.of(base.region_maps(x0), 64)
    once, most, half = (
        styled_model(base, style, strength=s).dressed(x0, regions)[0] for s in (1.0, 1.5, 0.5)
    )
    assert torch.equal(once, most)
    torch.testing.assert_close(half, (x0 + once) / 2)
