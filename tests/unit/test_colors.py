"""Colours of the photo on the light of the result."""

from __future__ import annotations

import torch

from osasis.imaging.colors import with_colors_of


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
