"""Grounds have neither blocks nor halos, and eyes, hats and glasses stay near the photo's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from osasis.base import Base, load_base
from osasis.config.catalogue import assets
from osasis.formats.style_file import load_style
from osasis.imaging.load import load_image
from osasis.imaging.tensors import fit_square, to_tensor
from osasis.models.regions import REGIONS
from osasis.stylize.decode import seen_small
from osasis.stylize.ground import without_halos
from osasis.stylize.light import region_light
from osasis.stylize.model import styled_model
from osasis.stylize.smooth import NOISE, smooth_flat_places, with_tones_of, without_lattice
from osasis.stylize.stylizer import Stylizer


@pytest.fixture(scope="module")
def base() -> Base:
    return load_base("faces-256", device="cpu")


@pytest.fixture(scope="module")
def face() -> Tensor:
    image = load_image(assets() / "photos" / "astronaut.png")
    return to_tensor(fit_square(image.crop((150, 20, 300, 170)), 256))


def blocks(height: float) -> Tensor:
    """A dark ground in squares of 16 pixels, (1, 3, 256, 256), whose levels differ by `height`."""
    levels = torch.randint(0, 2, (1, 1, 16, 16), generator=torch.Generator().manual_seed(0))
    return (
        (levels * height - 0.9).repeat_interleave(16, 2).repeat_interleave(16, 3).repeat(1, 3, 1, 1)
    )


def steps(pictures: Tensor) -> float:
    """The largest step from one pixel to its neighbour."""
    return float(pictures.diff(dim=3).abs().max())


def test_flat_places_become_flat_and_edges_stay() -> None:
    faint, strong = blocks(2 / 127.5), blocks(100 / 127.5)
    assert steps(smooth_flat_places(faint)) < 0.3 * steps(faint)
    assert steps(smooth_flat_places(strong)) > 0.98 * steps(strong)
    torch.testing.assert_close(smooth_flat_places(strong), strong, atol=NOISE / 2, rtol=0)
    assert smooth_flat_places(faint).mean() == pytest.approx(float(faint.mean()), abs=1e-3)


def test_a_lattice_goes_and_strokes_stay(face: Tensor) -> None:
    torch.manual_seed(0)
    lattice = 0.1 * torch.randn(1, 1, 8, 8).repeat(1, 3, 32, 32)
    flat = torch.full((1, 3, 256, 256), 0.2)
    assert (without_lattice(flat + lattice, 8) - flat).std() < 0.1 * lattice.std()
    strokes = 0.3 * torch.randn(1, 1, 256, 256).repeat(1, 3, 1, 1)
    kept = without_lattice(flat + strokes, 8) - flat
    assert torch.corrcoef(torch.stack([kept.flatten(), strokes.flatten()]))[0, 1] > 0.95
    # a photo has no lattice
    assert (without_lattice(face, 8) - face).abs().mean() < 0.002


def test_a_style_does_not_paint_the_blocks_of_a_compressed_ground(base: Base, face: Tensor) -> None:
    photo = face.clone()
    photo[..., :96] = blocks(3 / 127.5)[..., :96]  # 3 levels of 255: nobody sees them
    plain = photo.clone()
    plain[..., :96] = plain[..., :96].mean((2, 3), keepdim=True)
    stylizer = Stylizer(base, load_style("renoir_seashore"))
    with_blocks, without = stylizer.redraw_squares(torch.cat([photo, plain])).split(1)
    ground = (..., slice(8, 248), slice(8, 64))
    assert (with_blocks - without)[ground].std() < 0.06


def test_eyes_stay_near_the_photos_in_a_style_without_a_face(base: Base, face: Tensor) -> None:
    x0 = base.to_x0(face)
    maps = base.region_maps(x0)
    eyes = maps[:, REGIONS.index("eye")].argmax()
    row, column = int(eyes) // maps.shape[3] // 2, int(eyes) % maps.shape[3] // 2
    for name, held in (("hiroshige_rivers", True), ("renoir_seashore", False)):
        model = styled_model(base, load_style(name))
        drawn = model.held_to_photo(x0 + 1, x0, maps) - x0
        assert (float(drawn[0, 0, row, column]) < 0.5) is held, name
        assert float(drawn[0, 0, 0, 0]) == pytest.approx(1, abs=0.05)


def test_what_a_style_lacks_stays_near_the_photos(base: Base, face: Tensor) -> None:
    x0 = base.to_x0(face)

    def drawn(name: str, region: str) -> float:
        maps = torch.zeros(1, len(REGIONS), 64, 64)
        maps[:, REGIONS.index(region)] = 1
        model = styled_model(base, load_style(name))
        return float((model.held_to_photo(x0 + 1, x0, maps) - x0).mean())

    assert drawn("memling_maria", "glasses") == pytest.approx(0.2, abs=0.01)
    assert drawn("memling_maria", "hat") == pytest.approx(0.5, abs=0.01)
    assert drawn("memling_maria", "hair") == 1
    assert drawn("jacometto_nun", "hat") == 1  # she wears a veil


def test_eyes_stay_somewhat_near_the_photos_in_a_style_with_a_face(base: Base) -> None:
    x0, maps = torch.zeros(1, 32, 32, 32), torch.zeros(1, len(REGIONS), 64, 64)
    maps[:, REGIONS.index("skin")] = 1
    maps[:, :, 20:32, 20:32] = 0
    maps[:, REGIONS.index("eye"), 20:32, 20:32] = 1
    drawn = styled_model(base, load_style("renoir_seashore")).held_to_photo(x0 + 1, x0, maps)
    assert float(drawn[0, 0, 13, 13]) == pytest.approx(0.7)
    assert float(drawn[0, 0, 2, 2]) == 1


def test_a_wall_has_one_tone_up_to_the_hair() -> None:
    rim = torch.zeros(1, 1, 256, 256)
    rim[..., 88:, 72:184] = 1  # a wall that the result leaves pale beside a head
    head = torch.zeros(1, 1, 256, 256)
    head[..., 104:, 88:168] = 1
    thing = torch.zeros(1, 1, 256, 256)  # a grey lamp, which regions take for ground
    thing[..., 88:100, 100:112] = 1
    photo = (0.9 * (1 - head - thing) - 0.9 * head).repeat(1, 3, 1, 1)
    maps = torch.zeros(1, len(REGIONS), 64, 64)
    maps[:, REGIONS.index("hair")] = F.avg_pool2d(head, 4)[:, 0]
    maps[:, REGIONS.index("ground")] = 1 - maps[:, REGIONS.index("hair")]
    torch.manual_seed(0)
    strokes = 0.1 * torch.randn(1, 1, 256, 256)
    orange = torch.tensor([0.6, 0.0, -0.6])[None, :, None, None]
    drawn = torch.where(rim > 0, 0.5, orange) + strokes
    drawn = torch.where(head > 0, -0.7, torch.where(thing > 0, 0.3, drawn)).clamp(-1, 1)
    result = without_halos(photo, drawn, maps)

    def tone(pictures: Tensor, rows: slice, columns: slice) -> Tensor:
        return pictures[0, :, rows, columns].mean((1, 2))

    beside, wall = (slice(120, 240), slice(76, 84)), (slice(10, 60), slice(10, 240))
    assert (tone(drawn, *beside) - tone(drawn, *wall)).abs().max() > 1
    torch.testing.assert_close(tone(result, *beside), tone(drawn, *wall), atol=0.1, rtol=0)
    kept = (result - result.mean((2, 3), keepdim=True))[0, :, 120:240, 76:84].mean(0)
    pair = torch.stack([kept.flatten(), strokes[0, 0, 120:240, 76:84].flatten()])
    assert torch.corrcoef(pair)[0, 1] > 0.8
    for inside in ((slice(112, 250), slice(96, 160)), (slice(90, 98), slice(102, 110))):
        assert (result - drawn)[0, :, inside[0], inside[1]].abs().max() < 0.1
    assert torch.equal(without_halos(photo, drawn, maps, 0), drawn)


@pytest.mark.parametrize("name", ["renoir_seashore", "goya_josefa"])
def test_teeth_stay_lighter_than_lips(base: Base, face: Tensor, name: str) -> None:
    maps = base.region_maps(base.to_x0(face))
    teeth, lips = REGIONS.index("teeth"), REGIONS.index("mouth")
    assert maps[:, teeth].mean() > 0.002  # the astronaut smiles
    result = Stylizer(base, load_style(name)).redraw_squares(face)
    before, after = region_light(face, maps)[0], region_light(result, maps)[0]
    assert before[teeth] > before[lips]
    assert after[teeth] > after[lips]


def test_a_person_up_to_the_waist_keeps_teeth(base: Base) -> None:
    person = to_tensor(load_image(assets() / "photos" / "astronaut.png").resize((800, 800)))
    around_face = (..., slice(0, 256), slice(224, 480))
    maps = base.region_maps(base.to_x0(person[around_face]))
    result = Stylizer(base, load_style("renoir_seashore")).redraw_squares(person)
    light = region_light(result[around_face], maps)[0]
    assert light[REGIONS.index("teeth")] > light[REGIONS.index("mouth")] - 0.02


def test_strength_0_smooths_nothing(base: Base, face: Tensor) -> None:
    photo = blocks(3 / 127.5)
    style = load_style("renoir_seashore")
    assert styled_model(base, [(style, 1.0)], strength=0).dressing == 0
    stylizer = Stylizer(base, style, strength=0)
    expected = base.to_picture(base.to_x0(photo))
    assert (stylizer.redraw_squares(photo) - expected).abs().mean() < 0.01


def test_regions_of_a_person_up_to_the_waist_are_found(base: Base) -> None:
    person = to_tensor(load_image(assets() / "photos" / "astronaut.png").resize((800, 800)))
    x0 = base.to_x0(person)
    model = styled_model(base, load_style("renoir_seashore"))
    regions, z_sem = seen_small(base, model, person, x0)
    assert regions is not None and regions.maps.shape[2:] == (200, 200)
    assert z_sem is not None and z_sem.shape == (1, base.diffae.config.unet.z_dim)
    seen = regions.maps[0].argmax(0)
    # the face lies within these cells, the suit below
    eyes, hair = ((seen == REGIONS.index(name)).nonzero() for name in ("eye", "hair"))
    assert len(eyes) > 4 and int(eyes[:, 0].max()) < 60
    assert len(hair) > 300


def test_a_large_face_has_detail_that_a_small_one_has_not(base: Base) -> None:
    head = load_image(assets() / "photos" / "astronaut.png").crop((130, 0, 330, 200))
    small, large = (to_tensor(head.resize((side, side))) for side in (256, 512))
    stylizer = Stylizer(base, load_style("goya_josefa"))
    coarse, fine = stylizer.redraw_squares(small), stylizer.redraw_squares(large)
    detail = fine.diff(dim=3).abs().mean()
    assert detail > 1.3 * F.interpolate(coarse, 512, mode="bicubic").diff(dim=3).abs().mean()


def test_lips_of_a_large_face_are_not_cracked(base: Base) -> None:
    face = to_tensor(load_image(assets() / "styles" / "baciccio_woman.webp"))
    large = F.interpolate(face, 512, mode="bicubic")
    result = Stylizer(base, load_style("memling_maria")).redraw_squares(large)
    lips = F.interpolate(base.region_maps(base.to_x0(face))[:, [REGIONS.index("mouth")]], 512)

    def fine(picture: Tensor) -> float:
        return float(((picture - F.avg_pool2d(picture, 5, 1, 2)).abs() * lips).sum())

    assert fine(result) < 2 * fine(large)


def test_tones_of_a_small_picture_take_a_stain_away_and_leave_strokes(face: Tensor) -> None:
    places = torch.linspace(-1, 1, 256)
    stain = 0.2 * torch.exp(-8 * (places.square() + places[:, None].square())).expand_as(face)
    strokes = 0.1 * torch.sin(torch.arange(256.0)).expand_as(face)
    small = F.interpolate(0.5 * face, 128, mode="bicubic", antialias=True)
    result = with_tones_of(small, 0.5 * face + stain + strokes, face)
    left = result - 0.5 * face
    assert F.avg_pool2d(left, 32).abs().max() < 0.25 * stain.max()
    # what is left along a row goes with the strokes
    assert (left * strokes).mean() > 0.9 * strokes.square().mean()
