"""Colours of the photo on the light of the result."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from osasis.base import load_base
from osasis.formats.style_file import load_style
from osasis.imaging.colors import tint_of, with_colors_of
from osasis.stylize.model import styled_model
from osasis.stylize.stylizer import Stylizer


def luma(x: torch.Tensor) -> torch.Tensor:
    """BT.601, (B, H, W)."""
    return (x * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1)


def test_light_is_the_results_and_colour_the_photos() -> None:
    torch.manual_seed(0)
    photo = torch.tensor([0.4, 0.0, -0.2])[None, :, None, None].expand(1, 3, 4, 4)
    drawn = (torch.rand(1, 1, 4, 4) * 0.4 - 0.3).expand(1, 3, 4, 4)  # grey
    result = with_colors_of(photo, drawn)
    torch.testing.assert_close(luma(result), luma(drawn))
    assert (result[:, 0] > result[:, 1]).all()
    assert (result[:, 1] > result[:, 2]).all()
    torch.testing.assert_close(with_colors_of(photo, photo), photo)


def test_shadows_do_not_glow() -> None:
    photo = torch.tensor([0.8, -0.2, -0.8])[None, :, None, None]
    black = torch.full((1, 3, 1, 1), -1.0)
    torch.testing.assert_close(with_colors_of(photo, black), black)


def test_a_drawing_without_colours_leaves_none() -> None:
    base, style = load_base("faces-256", device="cpu"), load_style("renoir_seashore")
    assert tint_of(style.thumbnail) is None
    drawing = replace(style, thumbnail=style.thumbnail.convert("L").convert("RGB"))
    photo = torch.rand(1, 3, 256, 256) * 2 - 1
    grey = Stylizer(base, drawing).redraw_squares(photo)
    assert float((grey - luma(grey)[:, None]).abs().max()) < 1e-5
    mixed = styled_model(base, [(drawing, 1.0), (style, 3.0)])
    assert mixed.monochrome == pytest.approx(0.25)
    assert styled_model(base, drawing, strength=0.5).monochrome == 0.5


def test_a_drawing_on_tinted_paper_leaves_its_tint() -> None:
    base, style = load_base("faces-256", device="cpu"), load_style("renoir_seashore")
    grey = np.asarray(style.thumbnail.convert("L"), dtype=np.int16)[..., None]
    sepia = Image.fromarray((grey * 0.8 + [30, 18, 0]).astype(np.uint8))
    tint = np.array(tint_of(sepia))
    np.testing.assert_allclose(tint, np.array([30 - 19.5, 18 - 19.5, -19.5]) / 255, atol=0.004)
    photo = torch.rand(1, 3, 256, 256) * 2 - 1
    drawn = Stylizer(base, replace(style, thumbnail=sepia)).redraw_squares(photo)
    light = luma(drawn)[:, None]
    colour = ((drawn - light) / 2)[0][:, light[0, 0].abs() < 0.7]  # nothing is clipped there
    np.testing.assert_allclose(colour.mean(1), tint, atol=0.01)
    assert colour.std(1).max() < 0.01
