"""Formats of cameras and scanners: read right, or refused by what they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from osasis.errors import UserError
from osasis.imaging.load import load_image

from ..conftest import picture


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_avif_is_read(tmp_path: Path) -> None:
    picture(1).save(tmp_path / "a.avif", quality=95)
    found = np.asarray(load_image(tmp_path / "a.avif"), int)
    assert np.abs(found - np.asarray(picture(1), int)).mean() < 6


def deep(path: Path, **tags: int) -> Path:
    ramp = np.linspace(0, 65535, 48 * 48).astype(np.uint16).reshape(48, 48)
    Image.fromarray(ramp).save(path, tiffinfo={int(k[1:]): v for k, v in tags.items()})
    return path


def test_deep_grey_in_which_white_is_zero(tmp_path: Path) -> None:
    whole = deep(tmp_path / "a.tif").read_bytes()
    at = whole.index(b"\x06\x01\x03\x00\x01\x00\x00\x00\x01\x00")  # photometric: black is 0
    (tmp_path / "b.tif").write_bytes(whole[: at + 8] + b"\x00" + whole[at + 9 :])
    black, white = (np.asarray(load_image(tmp_path / n), int) for n in ("a.tif", "b.tif"))
    assert np.abs(black + white - 255).max() <= 1


def test_raw_files_are_refused_by_what_they_are(tmp_path: Path) -> None:
    picture(1).save(tmp_path / "a.tif")
    (tmp_path / "a.cr2").write_bytes((tmp_path / "a.tif").read_bytes())
    with pytest.raises(UserError, match="raw file"):
        load_image(tmp_path / "a.cr2")
