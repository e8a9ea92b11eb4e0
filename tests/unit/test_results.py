"""Results never replace what is not that very result: files, names, seeds, marks."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from osasis.cli.main import main
from osasis.formats.records import Results
from osasis.formats.style_file import Style
from osasis.imaging.save import mark_of
from osasis.imaging.squares import Redrawn

from ..conftest import picture


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two photos of other people, a style's picture, the working folder."""
    monkeypatch.chdir(tmp_path)
    for name, seed in (("me.png", 1), ("other.png", 2), ("style.png", 3), ("style2.png", 4)):
        picture(seed).save(tmp_path / name)
    return tmp_path


@pytest.fixture
def base(tiny_base_path: Path) -> tuple[str, ...]:
    return ("--base", str(tiny_base_path), "--device", "cpu")


def stylize(base: tuple[str, ...], *given: str, style: str = "style.png") -> int:
    return main(["stylize", *given, "--style-image", style, "--no-align", *base])


def digest(path: str | Path) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def names(folder: str) -> list[str]:
    return sorted(p.name for p in Path(folder).iterdir() if p.suffix == ".png")


def test_a_file_of_ones_own_stays(place: Path, base: tuple[str, ...], capsys) -> None:  # type: ignore[no-untyped-def]
    Path("out").mkdir()
    Path("out/me.png").write_bytes(Path("other.png").read_bytes())
    Path("out/me-2.png").symlink_to("nowhere")
    before = digest("out/me.png")
    assert stylize(base, "me.png", "-o", "out") == 0
    assert digest("out/me.png") == before
    assert Path("out/me-2.png").is_symlink() and Path("out/me-3.png").is_file()
    assert "out/me-3.png" in capsys.readouterr().out
    assert stylize(base, "me.png", "-o", "out") == 0
    assert "1 done before" in capsys.readouterr().out


def test_a_result_beside_its_photo(place: Path, base: tuple[str, ...]) -> None:
    Path("album").mkdir()
    picture(1).save("album/a.jpg")
    picture(2).save("album/a.png")
    before = digest("album/a.png")
    assert stylize(base, "album/a.jpg", "-o", "album") == 0
    assert digest("album/a.png") == before and Path("album/a-2.jpg").is_file()


def test_equal_names_and_other_options_keep_all(place: Path, base: tuple[str, ...]) -> None:
    for folder, source in (("a", "me.png"), ("b", "other.png")):
        Path(folder).mkdir()
        Path(folder, "me.png").write_bytes(Path(source).read_bytes())
        assert stylize(base, f"{folder}/me.png", "-o", "out") == 0
    first = {name: digest(f"out/{name}") for name in names("out")}
    assert list(first) == ["me-2.png", "me.png"]
    assert stylize(base, "a/me.png", "-o", "out", style="style2.png") == 0
    edit = ["edit", "a/me.png", "--attribute", "smiling=1", "--no-align", "-o", "out", *base]
    assert main(edit) == 0
    assert main(edit) == 0  # done before
    assert names("out") == ["me-2.png", "me-3.png", "me-4.png", "me.png"]
    assert stylize(base, "b/me.png", "-o", "out") == 0  # the list got shorter
    assert {name: digest(f"out/{name}") for name in first} == first
    lines = Path("out/manifest.jsonl").read_text().splitlines()
    assert [json.loads(line)["output"] for line in lines] == sorted(
        names("out"), key=lambda name: (len(name), name)
    )


def test_a_new_photo_changes_no_other_result(place: Path, base: tuple[str, ...]) -> None:
    chance = ("--variation", "0.5", "--seed", "7", "-o", "out")
    Path("al").mkdir()
    Path("al/b.png").write_bytes(Path("me.png").read_bytes())
    assert stylize(base, "al", *chance) == 0
    before = digest("out/b.png")
    Path("al/a.png").write_bytes(Path("other.png").read_bytes())
    Path("al/b.bmp").write_bytes(Path("other.png").read_bytes())
    assert stylize(base, "al", *chance) == 0
    assert names("out") == ["a.png", "b-2.png", "b.png"]
    assert digest("out/b.png") == before
    assert stylize(base, "me.png", *chance[:4], "-o", "again") == 0
    assert Path("again/me.png").stat().st_size > 0


def test_results_are_no_photos_wherever_they_lie(
    place: Path, base: tuple[str, ...], capsys
) -> None:  # type: ignore[no-untyped-def]
    assert main(["edit", "me.png", "--attribute", "smiling=1", "--no-align", *base]) == 0
    assert stylize(base, ".", "-o", "one") == 0
    assert "left out" in capsys.readouterr().err
    assert sorted(p.name for p in Path("one").rglob("*.png")) == sorted(
        ["me.png", "other.png", "style.png", "style2.png"]
    )
    assert stylize(base, "edited/me.png", "-o", "two") == 0  # named outright
    assert names("two") == ["me.png"]


def test_what_changes_no_result_repeats_none(place: Path, base: tuple[str, ...], capsys) -> None:  # type: ignore[no-untyped-def]
    """A seed of which nothing is drawn, and files called like an option's value."""
    line = ["stylize", "me.png", "--style-image", "style.png", *base]
    assert main(line) == 0
    for name in ("auto", "same", "crop"):
        Path(name).write_text("mine")
    assert main([*line, "--seed", "7"]) == 0
    assert "1 done before" in capsys.readouterr().out
    assert main([*line, "--seed", "7", "--variation", "0.5"]) == 0
    assert "done before" not in capsys.readouterr().out


def test_a_style_counts_by_what_its_file_holds(
    place: Path, base: tuple[str, ...], tiny_style: Style, capsys
) -> None:  # type: ignore[no-untyped-def]
    """Not by how its path was typed or what its file is called, alone, mixed and in an edit."""
    tiny_style.save(place / "a.safetensors")
    Path("else").mkdir()
    shutil.copy("a.safetensors", "else/b.safetensors")
    photo = ["me.png", "--no-align", "-o", "out", *base]
    commands = (
        ["stylize", *photo, "--style", "{}"],
        ["stylize", *photo, "--style", "{}=0.7", "--style", "a.safetensors=0.3"],
        ["edit", *photo, "--attribute", "smiling=1", "--style", "{}"],
    )

    def done_before(command: list[str], style: str) -> bool:
        assert main([word.format(style) for word in command]) == 0
        return "1 done before" in capsys.readouterr().out

    for command in commands:
        assert not done_before(command, "a.safetensors")
        for other in ("./a.safetensors", str(place / "a.safetensors"), "else/b.safetensors"):
            assert done_before(command, other)
    tensors = {**tiny_style.tensors, "z_style": tiny_style.tensors["z_style"] + 1}
    Style(tiny_style.manifest, tiny_style.thumbnail, tensors).save(place / "a.safetensors")
    assert not any(done_before(command, "a.safetensors") for command in commands)


def test_an_edits_clip_counts_by_what_it_holds(
    place: Path, base: tuple[str, ...], clip_folder: Path, capsys
) -> None:  # type: ignore[no-untyped-def]
    shutil.copytree(clip_folder, "clip")
    shutil.copytree(clip_folder, "same")

    def done_before(clip: str, *more: str) -> bool:
        what = more or ("--text", "abc", "--from", "def", "--iterations", "1")
        line = ["edit", "me.png", *what, "--clip", clip, "--no-align", "-o", "out", *base]
        assert main(line) == 0
        return "1 done before" in capsys.readouterr().out

    assert not done_before("clip")
    assert done_before("./clip") and done_before("same")
    weights = Path("clip/model.safetensors")
    changed = {name: tensor * 1.5 for name, tensor in load_file(weights).items()}
    save_file(changed, weights, {"format": "pt"})
    assert not done_before("clip")
    attribute = ("--attribute", "smiling=1")
    assert not done_before("clip", *attribute) and done_before("same", *attribute)


def test_one_file_for_one_photo(place: Path, base: tuple[str, ...], capsys) -> None:  # type: ignore[no-untyped-def]
    assert stylize(base, "me.png", "-o", "result.png") == 0
    assert Path("result.png").is_file() and not Path("manifest.jsonl").exists()
    assert stylize(base, "me.png", "-o", "result.png") == 0
    assert "1 done before" in capsys.readouterr().out
    before = digest("result.png")
    assert stylize(base, "other.png", "-o", "result.png") == 1
    assert digest("result.png") == before
    assert stylize(base, "me.png", "other.png", "-o", "more.png") == 2


def test_crops_sheets_and_manifests_of_ones_own(place: Path, base: tuple[str, ...]) -> None:
    Path("out/crops").mkdir(parents=True)
    Path("out/crops/me-1.png").write_bytes(Path("other.png").read_bytes())
    mine = digest("out/crops/me-1.png")
    assert stylize(base, "me.png", "--crops", "-o", "out") == 0
    assert digest("out/crops/me-1.png") == mine and Path("out/crops/me-1-2.png").is_file()
    Path("sheet.png").write_bytes(Path("other.png").read_bytes())
    sheet = ["explore", "me.png", "--style-image", "style.png", "--rows", "codes", *base]
    assert main(sheet) == 0
    assert digest("sheet.png") == mine and Path("sheet-2.png").is_file()
    assert main([*sheet, "-o", "sheet.png"]) == 2
    Path("theirs").mkdir()
    Path("theirs/manifest.jsonl").write_text('{"file": "a"}\n')
    assert stylize(base, "me.png", "-o", "theirs") == 2
    Path("ranking.png").write_bytes(Path("other.png").read_bytes())
    assert main(["density", "me.png", "other.png", *base]) == 2
    assert digest("ranking.png") == mine


def test_two_runs_into_one_folder_at_the_same_time(tmp_path: Path) -> None:
    together = threading.Barrier(2)

    def run(name: str) -> list[Path]:
        results, written = Results(tmp_path), []
        for number in range(6):
            key = f"{name} {number}"
            output = results.reserve(tmp_path / "me.png", key)
            together.wait()
            redrawn = Redrawn(picture(number), ())
            written.append(results.save(output, redrawn, {"key": key}, {}))
        return written

    with ThreadPoolExecutor(2) as pool:
        written = [path for paths in pool.map(run, ("one", "other")) for path in paths]
    assert len(set(written)) == 12
    assert sorted(mark_of(path)["key"] for path in written) == sorted(
        f"{name} {number}" for name in ("one", "other") for number in range(6)
    )
    assert len((tmp_path / "manifest.jsonl").read_text().splitlines()) == 12
