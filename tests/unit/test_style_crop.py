"""Full-length portraits are used by their face, close ones and landscapes by their middle."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from osasis.config.catalogue import assets
from osasis.errors import UserError
from osasis.imaging.faces import FaceDetector
from osasis.imaging.load import load_image
from osasis.imaging.style_crop import checked_crop, cropped


@pytest.fixture(scope="module")
def bust() -> Image.Image:
    return load_image(assets() / "photos" / "astronaut.png").crop((140, 0, 310, 170))


def standing(bust: Image.Image) -> Image.Image:
    """Somebody at the top of a tall picture, blue cloth below."""
    canvas = Image.new("RGB", (400, 1100), (40, 60, 140))
    canvas.paste(bust.resize((240, 240)), (80, 20))
    return canvas


def test_the_face_of_a_full_length_portrait_is_used(bust: Image.Image) -> None:
    for crop in (None, "face"):
        picture, said = cropped(standing(bust), crop, faces=True)
        assert picture.width == picture.height and "the face in it is used" in said
        face = FaceDetector()(picture)[0]
        assert face.area > 0.1 * picture.width**2
    whole, said = cropped(standing(bust), None, faces=False)
    assert whole.size == (400, 1100) and not said
    assert cropped(standing(bust), "square", faces=True)[0].size == (400, 1100)


def test_close_portraits_and_pictures_without_faces_stay(bust: Image.Image) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    small = Image.new("RGB", (1400, 1000), (90, 120, 60))
    small.paste(bust.resize((90, 90)), (1200, 40))  # a figure in a landscape
    for picture in (bust, Image.fromarray(noise), small):
        assert cropped(picture, None, faces=True) == (picture, "")
    with pytest.raises(UserError, match="no face"):
        cropped(Image.fromarray(noise), "face", faces=True)


def test_boxes(bust: Image.Image) -> None:
    assert cropped(bust, "10,20,30,40", faces=True)[0].size == (30, 40)
    with pytest.raises(UserError, match="reaches out"):
        cropped(bust, "150,0,100,100", faces=True)
    for wrong in ("middle", "1,2,3", "1,2,0,4", "a,b,c,d", "-1,0,5,5", "1,2,3,4,5"):
        with pytest.raises(UserError, match="is no crop"):
            checked_crop(wrong)
