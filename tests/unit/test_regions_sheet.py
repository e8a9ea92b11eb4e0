"""The sheet of what is seen in photo and style."""

from __future__ import annotations

import pytest
from PIL import Image

from osasis.base import Base
from osasis.errors import UserError
from osasis.stylize.explore import regions_sheet
from osasis.stylize.preview import preview_style
from tests.conftest import picture


def test_a_sheet_shows_photo_and_styles_above_their_regions(latent_base: Base) -> None:
    style = preview_style(latent_base, picture(1))
    one = regions_sheet(latent_base, picture(2), [])
    two = regions_sheet(latent_base, picture(2), [(style, 1.0)])
    assert isinstance(two, Image.Image)
    assert two.width > one.width
    assert two.height == one.height


def test_a_base_without_regions_has_no_sheet(tiny_base: Base) -> None:
    with pytest.raises(UserError, match="sees no regions"):
        regions_sheet(tiny_base, picture(2), [])
