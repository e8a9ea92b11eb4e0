"""Faces in little light stay visible and do not glow; dark paintings take no face's light."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from osasis.base import Base, load_base
from osasis.config.catalogue import assets
from osasis.formats.style_file import load_style
from osasis.imaging.colors import darkened, exposure, lit
from osasis.imaging.load import load_image
from osasis.imaging.tensors import fit_square, to_images, to_tensor
from osasis.learn.regions import PhotoRegions
from osasis.models.regions import REGIONS
from osasis.stylize.light import LightFloor, keep_dark_skin, keep_relief, region_light
from osasis.stylize.preview import preview_style
from osasis.stylize.stylizer import Stylizer


@pytest.fixture(scope="module")
def base() -> Base:
    return load_base("faces-256", device="cpu")


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    image = load_image(assets() / "photos" / "astronaut.png")
    square = image.crop((150, 20, 300, 170)).resize((256, 256))
    return np.asarray(square)


def test_light_comes_back() -> None:
    levels = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    for gain in (1.0, 1.5, 4.0, 8.0):
        there = lit(levels, gain)
        assert (np.diff(there.reshape(-1, 3)[:, 0].astype(int)) >= 0).all()
        assert np.abs(darkened(there, gain).astype(int) - levels).max() <= 6
        dark = levels[levels < 25]
        assert np.abs(darkened(lit(dark, gain), gain).astype(int) - dark).max() <= 1
    assert exposure(np.full((32, 32, 3), 140, np.uint8)) == 1
    assert exposure(np.full((32, 32, 3), 51, np.uint8)) == pytest.approx(2, rel=0.01)
    assert exposure(np.zeros((32, 32, 3), np.uint8)) == 8


@pytest.mark.parametrize("style", ["renoir_seashore", "memling_maria"])
def test_a_face_in_the_dark_neither_glows_nor_goes(
    base: Base, face: np.ndarray, style: str
) -> None:
    painter = Stylizer(base, load_style(_style(style)), fit="crop")
    middle = (slice(80, 200), slice(80, 180))
    for light in (0.5, 0.2):
        square = np.rint(face * light).astype(np.uint8)
        result = painter.redraw([square], [0])[0]
        ratio = result[middle].mean() / square[middle].mean()
        assert 0.6 <= ratio <= 1.7, (style, light, ratio)


def test_a_microphone_stands_out_from_a_black_ground() -> None:
    photo = torch.full((1, 3, 96, 96), -0.6)
    photo[..., 40:52, 40:52] = 0.6
    sunk = torch.full_like(photo, -0.9)
    sunk[..., 40:52, 40:52] = -0.88
    ground = torch.zeros(1, len(REGIONS), 24, 24)
    ground[:, 0] = 1
    found = keep_relief(photo, sunk, ground)
    assert (found[..., 43:49, 43:49] - found[..., :9, :9].mean()).min() > 0.2
    torch.testing.assert_close(found[..., :9, :9], sunk[..., :9, :9])
    assert keep_relief(photo, sunk + 1, ground).equal(sunk + 1)  # not in a light one
    skin = torch.roll(ground, REGIONS.index("skin"), 1)
    torch.testing.assert_close(keep_relief(photo, sunk, skin), sunk)


def test_a_base_of_the_paper_sees_photos_as_they_are(tiny_base: Base, face: np.ndarray) -> None:
    dark = np.rint(face[:32, :32] * 0.2).astype(np.uint8)
    style = preview_style(tiny_base, Image.fromarray(face))
    stylizer = Stylizer(tiny_base, style, fit="crop")
    size = tiny_base.image_size
    square = np.asarray(Image.fromarray(dark).resize((size, size)))
    plain = to_images(stylizer.redraw_squares(to_tensor(Image.fromarray(square))))[0]
    np.testing.assert_array_equal(stylizer.redraw([square], [0])[0], np.asarray(plain))


def test_a_dark_painting_takes_no_more_than_two_fifths(base: Base, face: np.ndarray) -> None:
    maps_of = base.region_maps
    photo = torch.from_numpy(face.copy()).permute(2, 0, 1)[None] / 127.5 - 1
    maps = maps_of(base.to_x0(photo))
    night = (photo + 1) * 0.1 - 1
    bright = load_style(_style("renoir_seashore"))
    painting = to_tensor(fit_square(bright.thumbnail, base.image_size))
    kept = LightFloor(base, [(bright, 1.0)])(photo, night, maps)
    skin = maps[:, 1:2].repeat_interleave(4, 2).repeat_interleave(4, 3)
    assert skin.shape[2:] == photo.shape[2:]

    def light(x: torch.Tensor) -> float:
        return float((((x + 1) / 2).mean(1, keepdim=True) * skin).sum() / skin.sum())

    assert light(night) < 0.2 * light(photo)
    assert light(kept) > 0.33 * light(photo)  # four times is the most that is added
    assert light(LightFloor(base, [])(photo, (photo + 1) * 0.3 - 1, maps)) > 0.55 * light(photo)
    assert painting.mean() > -0.5  # a light one
    torch.testing.assert_close(LightFloor(base, [])(photo, photo, maps), photo)


def test_a_painting_without_a_hat_takes_no_hats_light(base: Base, face: np.ndarray) -> None:
    photo = torch.from_numpy(face.copy()).permute(2, 0, 1)[None] / 127.5 - 1
    maps = torch.zeros(1, len(REGIONS), 64, 64)
    maps[:, REGIONS.index("hat")] = 1
    floor = LightFloor(base, [(load_style(_style("memling_maria")), 1.0)])
    kept = floor(photo, (photo + 1) * 0.3 - 1, maps)
    assert float((kept + 1).mean() / (photo + 1).mean()) == pytest.approx(0.6, abs=0.02)


@pytest.mark.parametrize("style", ["renoir_seashore", "jacometto_nun"])
def test_dark_skin_stays_dark(base: Base, face: np.ndarray, style: str) -> None:
    fair = torch.from_numpy(face.copy()).permute(2, 0, 1)[None] / 127.5 - 1
    maps = base.region_maps(base.to_x0(fair))
    size = fair.shape[2:]
    skin = torch.nn.functional.interpolate(maps[:, [1, 3, 4, 5, 6, 7]].sum(1, keepdim=True), size)
    dark = (fair + 1) * (1 - 0.55 * skin) - 1
    results = Stylizer(base, load_style(_style(style))).redraw_squares(torch.cat([fair, dark]))
    light = region_light(results, maps.expand(2, -1, -1, -1))
    assert light[1, 1] < 0.7 * light[0, 1]
    assert light[1, 0] == pytest.approx(float(light[0, 0]), rel=0.1)  # the ground is as it was


def test_lights_on_dark_skin_are_no_pale_blotches() -> None:
    photo = torch.full((1, 3, 64, 64), 2 * 0.2 - 1)
    drawn = torch.full((1, 3, 64, 64), 2 * 0.4 - 1)
    drawn[..., :16] = 2 * 0.9 - 1
    maps = torch.zeros(1, len(REGIONS), 64, 64)
    maps[:, REGIONS.index("skin"), :32] = 1
    maps[:, REGIONS.index("teeth"), 32:] = 1
    regions = PhotoRegions.of(maps, 64)
    light = (keep_dark_skin(photo, drawn, regions) + 1) / 2
    on_paper = (keep_dark_skin(photo, drawn, regions, paper=1) + 1) / 2
    assert light[0, 0, 0, 0] < 0.9 * (0.2 / 0.57) ** 0.5 + 0.01  # as far down as the mean
    assert light[0, 0, 0, 60] < 0.3
    assert light[0, 0, 60, 0] > 0.75  # teeth stay white
    assert on_paper[0, 0, 0, 0] > 0.75


def _style(name: str):  # type: ignore[no-untyped-def]
    return assets() / "styles_learned" / f"{name}.safetensors"


def test_a_bright_forehead_under_lifted_hair_does_not_glow(base: Base) -> None:
    photo = torch.full((1, 3, 256, 256), 0.4)
    photo[:, :, :128] = 0.0
    drawn = photo.clone()
    drawn[:, :, :128] = -0.9
    maps = torch.zeros(1, len(REGIONS), 64, 64)
    hair = (torch.arange(64) < 34)[:, None].float()  # a region's edge is a few pixels off
    maps[:, REGIONS.index("hair")] = hair
    maps[:, REGIONS.index("skin")] = 1 - hair
    kept = (LightFloor(base, [])(photo, drawn, maps) + 1) / 2
    assert kept[:, :, :100].mean() > 2.5 * (drawn[:, :, :100].mean() + 1) / 2  # hair is lifted
    assert kept[:, :, 128:].max() < 2**0.25 * 0.7  # the forehead is not
