"""A disk that takes no more (the system's limit on a file's size): failures name their file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from osasis.cli.main import main
from osasis.errors import OsasisError
from osasis.files import write_text
from osasis.formats.records import Manifest
from osasis.imaging.video import FilmCopy, open_film

from ..conftest import picture

resource = pytest.importorskip("resource")


@contextmanager
def room_for(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_an_unwritten_text_is_called_by_its_own_name(tmp_path: Path) -> None:
    with room_for(100), pytest.raises(OSError, match="too large") as caught:
        write_text(tmp_path / "a.txt", "x" * 10_000)
    assert caught.value.filename == str(tmp_path / "a.txt")
    assert not list(tmp_path.iterdir())


def test_a_manifest_without_room_fails_the_photo_and_not_the_run(
    tmp_path: Path, tiny_base_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.png", "b.png", "style.png"):
        picture(1).save(tmp_path / name)
    out = tmp_path / "out"
    out.mkdir()
    (out / "manifest.jsonl").write_text("\n" * 100_000)
    photos = [str(tmp_path / name) for name in ("a.png", "b.png")]
    style = ["--style-image", str(tmp_path / "style.png"), "--no-align"]
    line = ["stylize", *photos, *style, "--base", str(tiny_base_path), "-o", str(out)]
    with room_for(100_000):
        assert main(line) == 1
    said = capsys.readouterr().err
    assert "2 of 2 photos failed" in said
    assert said.count(f"cannot write {out / 'manifest.jsonl'}: File too large") == 2
    assert main(line) == 0  # there is room again
    assert len(Manifest(out).outputs) == 2


def test_a_film_without_room_names_the_film(tmp_path: Path) -> None:
    pytest.importorskip("av")
    frames = [picture(i, 256) for i in range(8)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    film = tmp_path / "out.mp4"
    with (
        room_for(1000),
        pytest.raises(OsasisError) as caught,
        open_film(tmp_path / "a.gif") as opened,
        FilmCopy(opened, film) as copy,
    ):
        for frame, pixels in copy.frames():
            copy.write(np.asarray(pixels), frame)
    assert str(caught.value) == f"{film} cannot be written: File too large"
    assert "make room" in caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["a.gif"]
