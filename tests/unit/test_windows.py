"""Large maps in tiles and in windows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from osasis.base import Base
from osasis.cli.main import main
from osasis.errors import OsasisError
from osasis.models.windows import blended, in_tiles, scaled
from osasis.stylize.decode import _without_lattice
from osasis.stylize.smooth import without_lattice
from osasis.stylize.stylizer import Stylizer

from ..conftest import picture


@pytest.mark.parametrize(("height", "width"), [(8, 8), (9, 40), (33, 21), (64, 12)])
@pytest.mark.parametrize("scale", [1, 4])
def test_what_looks_no_further_is_the_whole(height: int, width: int, scale: int) -> None:
    x = torch.rand(2, 3, scale * height, scale * width)

    def doubled(rows: slice, columns: slice) -> Tensor:
        return 2 * x[:, :, scaled(rows, scale), scaled(columns, scale)]

    torch.testing.assert_close(blended(doubled, height, width, 12, scale), 2 * x)
    torch.testing.assert_close(in_tiles(doubled, height, width, 12, 1, scale), 2 * x)


def test_windows_that_disagree_have_no_seam() -> None:
    """A step of 1 between two windows becomes a slope."""
    found = blended(
        lambda rows, columns: torch.full((1, 1, 16, 16), float(columns.start > 0)), 16, 28, 16
    )
    assert found.diff(dim=3).abs().max() < 0.5
    assert found[0, 0, 0, 0] == 0 and found[0, 0, 0, -1] == 1


def test_the_lattice_in_tiles_is_that_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    pictures = torch.rand(1, 3, 200, 136) * 0.2 + torch.rand(1, 1, 8, 8).repeat(1, 1, 25, 17) * 0.5
    whole = without_lattice(pictures, 8)
    assert (whole - pictures).abs().mean() > 0.01
    monkeypatch.setattr("osasis.stylize.decode.TILE", 6)
    torch.testing.assert_close(_without_lattice(pictures, 8), whole)


# a process of its own: one that has freed memory before takes that again, and shows no peak
_PEAKS = """
import torch
from osasis.device import peak_memory, reset_peak_memory
from osasis.stylize.decode import _without_lattice
cpu = torch.device("cpu")
for side in (1024, 1536):
    pictures = torch.zeros(1, 3, side, side)
    reset_peak_memory(cpu)
    before = peak_memory(cpu)
    _without_lattice(pictures, 8)
    print(peak_memory(cpu) - before)
"""


def test_the_lattice_of_a_large_picture_takes_the_memory_of_a_tile() -> None:
    run = subprocess.run(
        [sys.executable, "-c", _PEAKS], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    small, large = map(int, run.stdout.split())
    more = 12 * (1536**2 - 1024**2)  # bytes of what one picture has more than the other
    assert large < small + 3 * more  # all at once: 32 times


def test_a_picture_that_no_memory_suffices_for(
    latent_base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    side = 8_000_000  # 768 TB
    monkeypatch.setattr("osasis.models.autoencoder.TILE", side)
    x0 = torch.zeros(1, 3, 1, 1).expand(1, 3, side, side)
    with pytest.raises(OsasisError, match=f"too little memory for one photo of {side} x {side}"):
        Stylizer(latent_base).redraw_squares(x0)


@pytest.mark.slow
def test_a_photo_of_2000_by_3000_pixels(tmp_path: Path, latent_base: Base) -> None:
    """Redrawn at 1,024 x 1,536, and put back at its own size, through the command line."""
    picture(2, size=400).resize((2000, 3000)).save(tmp_path / "a.jpg")
    picture(1, size=64).save(tmp_path / "s.png")
    style = ("--style-image", tmp_path / "s.png", "--base", latent_base.path)
    options = ("-o", tmp_path / "o", "--fit", "whole", "--device", "cpu")
    assert main(["stylize", *map(str, (tmp_path / "a.jpg", *style, *options))]) == 0
    assert Image.open(tmp_path / "o" / "a.jpg").size == (2000, 3000)
