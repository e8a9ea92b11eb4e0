"""What of folders and lists is taken, and what is said of the rest."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from osasis.cli.main import main
from osasis.errors import UserError
from osasis.imaging.find import PassedOver, find_photos

from ..conftest import picture


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may enter."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def put(*names: str | Path) -> None:
    for name in map(Path, names):
        name.parent.mkdir(parents=True, exist_ok=True)
        if name.suffix in (".png", ".jpg"):
            picture(1).save(name)
        else:
            name.write_bytes(b"x")


def found(*given: str, listed: tuple[str, ...] = ()) -> tuple[list[str], PassedOver]:
    passed = PassedOver()
    photos = find_photos(given, listed, passed=passed)
    return [photo.name for photo in photos], passed


def test_a_photo_with_a_link_to_it_has_its_own_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    put("al/m.png", "al/z.png")
    for link in ("a.png", "n.png", "x.png"):
        Path("al", link).symlink_to("m.png")
    assert found("al")[0] == ["m.png", "z.png"]


def test_what_is_passed_over_is_counted_by_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    put("al/a.png", "al/b.dng", "al/c.CR3", "al/d.mp4", "al/e.jxl", "al/f.txt")
    put("al/@eaDir/a/x.jpg", "al/#recycle/y.jpg", "al/__MACOSX/z.jpg", "al/$RECYCLE.BIN/w.jpg")
    names, passed = found("al")
    assert names == ["a.png"]
    counts = {kind.name: len(paths) for kind, paths in passed.found.items()}
    assert counts == {
        "raw files of cameras": 2,
        "films": 1,
        "pictures of formats that are not read": 1,
        "folders of thumbnails or deleted files": 4,
    }
    assert passed.unread
    (tmp_path / "al/b.dng").rename("b.dng")
    (tmp_path / "al/c.CR3").rename("c.CR3")
    (tmp_path / "al/e.jxl").rename("e.jxl")
    assert not found("al")[1].unread  # a film and a recycle bin are no photos
    put("raw/a.dng")
    with pytest.raises(UserError) as refused:
        found("raw")
    assert "raw files of cameras: 1" in refused.value.hint


def test_unread_photos_of_a_folder_make_the_exit_status_1(
    tmp_path: Path, tiny_base_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    put("al/a.png", "style.png")
    base = ("--no-align", "--base", str(tiny_base_path), "--device", "cpu")
    assert main(["stylize", "al", "--style-image", "style.png", "-o", "out", *base]) == 0
    put("al/b.nef")
    assert main(["stylize", "al", "--style-image", "style.png", "-o", "out", *base]) == 1
    said = capsys.readouterr()
    assert "left out, raw files of cameras: 1" in said.err and "al/b.nef" in said.err
    assert "0 photos redrawn into out, 1 done before" in said.out


def test_linked_folders_are_searched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    put("al/a.png", "al/own/b.png", "real/c.png")
    for link, target in (("linked", "../real"), ("again", "../real"), ("also", "own")):
        Path("al", link).symlink_to(target)
    Path("al/loop").symlink_to("..")
    Path("real/back").symlink_to("../al")
    names, passed = found("al")
    assert names == ["a.png", "again/c.png", "own/b.png"]
    assert [kind.name for kind in passed.found] == ["links to a folder around them"]


def test_folders_that_may_not_be_read_are_named(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not hasattr(os, "geteuid"):
        pytest.skip("needs POSIX")
    monkeypatch.chdir(open_folder)
    put("al/a.png", "al/sub/b.png")
    Path("al/sub").chmod(0)
    was_root = os.geteuid() == 0
    if was_root:
        os.seteuid(65534)
    try:
        names, passed = found("al")
    finally:
        if was_root:
            os.seteuid(0)
        Path("al/sub").chmod(0o755)
    assert names == ["a.png"] and passed.unread
    assert "folders that may not be read: 1" in passed.lines()[0]
    assert "al/sub" in passed.lines()[0]


def test_brackets_in_the_name_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    put("trip [2019]/a.jpg", "trip [2019]/x/b.jpg")
    assert found("trip [2019]/*.jpg")[0] == ["a.jpg"]
    assert found(str(tmp_path / "trip [2019]/**/*.jpg"))[0] == ["a.jpg", "b.jpg"]
    with pytest.raises(UserError, match="no file matches"):
        found("trip [2019]/*.gif")


def test_lines_that_can_be_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    put("a.png")
    bad = ("a\0b.png\n", "~nobody-here/x.png\n")
    names, passed = found("-", listed=("\ufeffa.png\n", *bad))
    assert names == ["a.png"] and passed.unread
    assert "lines of the list that can be no file's name: 2" in passed.lines()[0]
    for text in ("a\0b.png", "~nobody-here/x.png"):
        with pytest.raises(UserError, match="can be no path"):
            found(text)


def test_a_dangling_link_in_a_pattern_is_one_photo_that_fails(tmp_path: Path) -> None:
    picture(1).save(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("nowhere")
    found = [photo.path.name for photo in find_photos([str(tmp_path / "*.png")])]
    assert (
        found == [photo.path.name for photo in find_photos([str(tmp_path)])] == ["a.png", "b.png"]
    )
    (tmp_path / "c").symlink_to("nowhere")  # whatever its suffix, as a file that is there
    assert [photo.path.name for photo in find_photos([str(tmp_path / "c*")])] == ["c"]
