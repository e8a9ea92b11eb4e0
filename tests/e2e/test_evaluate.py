"""Evaluating and ranking by the real command line, on the embedded base."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from osasis.config.catalogue import assets, list_styles

from .conftest import Osasis


@pytest.fixture(scope="module")
def pictures(workplace: Path) -> Path:
    """Two photos, two styles and the outputs of another program, as a user has them."""
    folder = workplace / "evaluation"
    for name in ("photos", "styles", "theirs"):
        (folder / name).mkdir(parents=True)
    with Image.open(assets() / "photos" / "astronaut.png") as image:
        face = image.convert("RGB").crop((126, 9, 322, 205))
    face.save(folder / "photos" / "front.png")
    face.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / "photos" / "mirrored.jpg")
    for style in list_styles()[:2]:
        shutil.copy(assets() / "styles" / f"{style.stem}.webp", folder / "styles")
        (folder / "theirs" / style.stem).mkdir()
        for name in ("front", "mirrored"):
            face.save(folder / "theirs" / style.stem / f"{name}.webp")
    (folder / "methods.toml").write_text("""
title = "A small comparison </script>"
size = 64
photos = "photos"
bootstrap = 50
[styles]
paintings = "styles"
[[methods]]
name = "shipped"
learned = "shipped"
[[methods]]
name = "colour"
peer = "colour"
[[methods]]
name = "theirs"
folder = "theirs"
[[methods]]
name = "rebuilt"
reconstruct = "full"
set = { steps = 2 }
""")
    return folder


def test_evaluate_and_go_on(osasis: Osasis, pictures: Path) -> None:
    done = osasis("evaluate", pictures / "methods.toml", "-o", "report")
    assert done.returncode == 0, done.stderr
    report = pictures.parent / "report"
    facts = json.loads((report / "report.json").read_text())
    with (report / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 4 + 2  # methods x photos x styles, and the reconstructions
    assert facts["metrics"]["lpips"]["samples"] == 14
    assert facts["metrics"]["style-vgg16"]["samples"] == 12
    assert len(facts["metrics"]["lpips"]["version"]) == 12
    # their "outputs" are one photo itself: nothing is nearer to it, and half of them are mirrored
    theirs = {r["photo"]: float(r["lpips"]) for r in rows if r["method"] == "theirs"}
    assert theirs["front"] < 0.02 < theirs["mirrored"]
    low, value, high = (
        facts["table"]["shipped"]["paintings"]["lpips"][k] for k in ("low", "value", "high")
    )
    assert low <= value <= high
    difference = facts["differences_to_the_first_method"]["colour"]["paintings"]["lpips"]["value"]
    colour = facts["table"]["colour"]["paintings"]["lpips"]["value"]
    assert difference == pytest.approx(colour - value, abs=1e-6)
    page = (report / "report.html").read_text()
    assert page.count("data:image/webp") == 2 + 2 + 14
    assert page.count("</script>") == 2 and "http" not in page
    assert "| shipped | " in (report / "table.md").read_text()

    outputs = sorted(report.glob("outputs/*/*/*.png"))
    assert len(outputs) == 4 + 4 + 2
    before = [p.stat().st_mtime_ns for p in outputs]
    outputs[0].unlink()
    again = osasis("evaluate", pictures / "methods.toml", "-o", "report")
    assert again.returncode == 0, again.stderr
    after = [p.stat().st_mtime_ns for p in outputs]
    assert after[1:] == before[1:] and after[0] != before[0]
    assert json.loads((report / "report.json").read_text())["table"] == facts["table"]
    assert not list(report.rglob(".*"))


def test_what_is_missing_is_said_before_the_work(osasis: Osasis, pictures: Path) -> None:
    def refused(*args: str | Path) -> str:
        done = osasis("evaluate", *args, "-o", "refused")
        assert done.returncode == 2 and "Traceback" not in done.stderr
        return done.stderr

    assert "experiment" in refused("table7")
    assert "--photos" in refused("table1", "--styles", pictures / "styles")
    assert "--styles" in refused("table1", "--photos", pictures / "photos")


def test_density_ranks_and_keeps_its_scores(osasis: Osasis, pictures: Path) -> None:
    (pictures / "mixed").mkdir()
    for photo in (pictures / "photos").iterdir():
        shutil.copy(photo, pictures / "mixed")
    (pictures / "mixed" / "text.png").write_text("no picture")
    hard = pictures / "styles"
    args = ("density", pictures / "mixed", "--hard", hard, "--draws", "2", "--steps", "2")
    done = osasis(*args, "-o", "ranking.csv")
    assert done.returncode == 1 and "1 photos could not be read" in done.stderr
    assert "AUC" in done.stdout
    with (pictures.parent / "ranking.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [r["rank"] for r in rows] == ["1", "2", "3", "4"]
    scores = [float(r["stochastic_lpips"]) for r in rows]
    assert scores == sorted(scores, reverse=True)
    assert all(float(r["full_lpips"]) < float(r["stochastic_lpips"]) for r in rows)
    assert sum(r["expected_hard"] == "1" for r in rows) == 2
    with Image.open(pictures.parent / "ranking.png") as sheet:
        assert sheet.width > 4 * 128
    alone = osasis("density", pictures / "photos", "-o", "alone.csv", *args[4:], "--top", "1")
    assert alone.returncode == 0, alone.stderr
    with (pictures.parent / "alone.csv").open() as file:
        again = {r["photo"].rpartition("/")[2]: r["stochastic_lpips"] for r in csv.DictReader(file)}
    first = {r["photo"].rpartition("/")[2]: r["stochastic_lpips"] for r in rows}
    assert again == {name: first[name] for name in again} and len(again) == 2
    assert not list(pictures.parent.glob(".*partial*"))
