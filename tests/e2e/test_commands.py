"""What a new user does, and what a clumsy one does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import osasis as package
from osasis.config.catalogue import assets, list_styles
from osasis.formats.base_file import list_bases
from osasis.imaging.load import load_image
from osasis.imaging.tensors import fit_square, to_tensor
from osasis.stylize.model import check_base

from .conftest import Osasis

ASTRONAUT = assets() / "photos" / "astronaut.png"
PAINTING = assets() / "styles" / "goya_josefa.webp"


@pytest.fixture(scope="module")
def photo(workplace: Path) -> Path:
    """The astronaut's face."""
    path = workplace / "astronaut.png"
    with Image.open(ASTRONAUT) as image:
        image.convert("RGB").crop((126, 9, 322, 205)).save(path, quality=95)
    return path


def test_the_package_ships_a_base_and_styles() -> None:
    assert [base.name for base in list_bases()] == ["faces-256"]
    assert [base.image_size for base in list_bases()] == [package.load_base().image_size]
    assert len(list_styles()) >= 2
    base = package.load_base()
    for path in list_styles():
        check_base(package.load_style(path.stem), base)


def test_reconstruction_is_clean(photo: Path) -> None:
    """Up to t0 and back: what everything else stands on."""
    base = package.load_base("faces-256")
    x0 = to_tensor(fit_square(load_image(photo), base.image_size))
    z_sem = base.encode(x0)
    back = base.decode(base.invert(x0, z_sem, t0=500, steps=50), z_sem, t0=500, steps=50)
    with torch.no_grad():
        own = base.to_picture(base.to_x0(x0))  # the autoencoder's own picture
    assert float(((back - own) / 2).square().mean()) < 0.001


def test_stylize_with_a_shipped_style(osasis: Osasis, workplace: Path, photo: Path) -> None:
    style = list_styles()[0].stem
    done = osasis("stylize", photo, "--style", style, "-o", "out")
    assert done.returncode == 0, done.stderr
    with Image.open(workplace / "out" / "astronaut.png") as result:
        assert result.size == (196, 196)  # an aligned square keeps its size
        assert result.info["style"] == style
        redrawn = np.asarray(result.convert("RGB"), dtype=float)
    before = np.asarray(load_image(photo), dtype=float)
    assert np.abs(redrawn - before).mean() > 4  # it is another picture
    edges = [np.abs(np.diff(x.mean(2), axis=0)).ravel() for x in (redrawn, before)]
    assert np.corrcoef(*edges)[0, 1] > 0.3  # with its edges where they were


def test_bad_photos_do_not_stop_good_ones(osasis: Osasis, workplace: Path, photo: Path) -> None:
    folder = workplace / "mixed"
    folder.mkdir()
    (folder / "text.png").write_text("I am no picture")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "half.jpg").write_bytes(photo.read_bytes()[:2000])
    Image.open(photo).convert("L").save(folder / "grey.png")
    Image.open(photo).convert("RGBA").save(folder / "alpha.webp")
    done = osasis("stylize", folder, "--style", list_styles()[0].stem, "-o", "mixed-out")
    assert done.returncode == 1
    assert "3 of 5 photos failed" in done.stderr
    assert "Traceback" not in done.stderr
    assert {p.name for p in (workplace / "mixed-out").iterdir()} == {
        "grey.png",
        "alpha.webp",
        "manifest.jsonl",
    }


def test_a_group_photo_comes_back_whole_and_is_not_done_twice(
    osasis: Osasis, workplace: Path
) -> None:
    """Two faces, one photo; sub-folders; a second run does only what is new."""
    with Image.open(ASTRONAUT) as image:
        person = image.convert("RGB").crop((60, 0, 380, 400))
    group = Image.new("RGB", (700, 400), "gray")
    group.paste(person, (0, 0))
    group.paste(person.resize((240, 300)), (400, 60))
    folder = workplace / "party" / "evening"
    folder.mkdir(parents=True)
    group.save(folder / "group.jpg", quality=95)
    Image.new("RGB", (300, 200), "gray").save(folder / "wall.png")
    style = list_styles()[0].stem
    command = ("stylize", "party", "--style", style, "-o", "party-out", "--crops")
    command += ("--format", "png")
    done = osasis(*command)
    assert done.returncode == 1
    assert "1 of 2 photos failed" in done.stderr
    assert "wall.png: no face was found" in done.stderr
    out = workplace / "party-out"
    crops = sorted(p.name for p in (out / "crops" / "evening").iterdir())
    assert crops == ["group-1.png", "group-2.png"]
    with Image.open(out / "evening" / "group.png") as result:
        assert result.size == group.size
        record = json.loads(result.info["osasis"])
        difference = np.abs(np.asarray(result, int) - np.asarray(load_image(folder / "group.jpg")))
    assert difference[60:160, 100:220].mean() > 4  # a face
    assert not difference[:, 330:390].any()  # the wall between the two
    lines = (out / "manifest.jsonl").read_text().splitlines()
    assert [json.loads(line)["key"] for line in lines] == [record["key"]]
    assert [used["name"] for used in record["styles"]] == [style]
    assert record["photo"] == "evening/group.jpg"
    (folder / "wall.png").unlink()
    again = osasis(*command)
    assert again.returncode == 0
    assert "0 photos redrawn" in again.stdout and "1 done before" in again.stdout
    other = osasis(*command, "--detail", "1")
    assert "1 photo redrawn" in other.stdout


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("film", "nowhere.mp4", "--style", "memling_maria"), "nowhere.mp4"),
        (("film", ASTRONAUT, "--style", "no_such_style"), "no_such_style"),
        (("stylize", "nowhere.jpg", "--style", "memling_maria"), "nowhere.jpg"),
        (("stylize", ASTRONAUT, "--style", "no_such_style"), "no_such_style"),
        (("stylize", ASTRONAUT, "--style", ASTRONAUT), "not a style file"),
        (("learn", "nowhere.jpg"), "nowhere.jpg"),
        (("learn", PAINTING, "--base", "no_such_base"), "no_such_base"),
        (("learn", PAINTING, "--device", "no_such_device"), "no_such_device"),
        (("pretrain", "no_such_config"), "no_such_config"),
    ],
)
def test_wrong_use_is_said_plainly(osasis: Osasis, args: tuple[str, ...], said: str) -> None:
    done = osasis(*args)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_learn_stop_resume_and_use(osasis: Osasis, workplace: Path, photo: Path) -> None:
    """Ctrl-C in the middle keeps what is learned; the same command goes on and finishes."""
    command = ("learn", PAINTING, "-o", "goya.safetensors", "--iterations", "3")
    process = subprocess.Popen(
        [sys.executable, "-m", "osasis", *map(str, command)],
        cwd=workplace,
        env=os.environ | {"OSASIS_CACHE": str(workplace / "cache")},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    banks = workplace / "cache" / "banks"
    while process.poll() is None and len(list(banks.glob("*/00*.safetensors"))) < 3:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=300) in (0, 130), process.stderr
    assert not (workplace / "goya.safetensors").exists() or process.returncode == 0
    done = osasis(*command, "--force")
    assert done.returncode == 0, done.stderr
    style = package.load_style(workplace / "goya.safetensors")
    assert style.manifest.updates == 3 * len(style.manifest.config.learn_route.decoding())
    assert not list(workplace.glob(".*partial*"))
    assert osasis(*command).returncode == 2  # it exists now
    done = osasis("stylize", photo, "--style", "goya.safetensors", "-o", "own")
    assert done.returncode == 0, done.stderr


def test_preview_of_a_picture(osasis: Osasis, workplace: Path, photo: Path) -> None:
    done = osasis("stylize", photo, "--style-image", PAINTING, "-o", "preview")
    assert done.returncode == 0, done.stderr
    assert "nothing was learned" in done.stderr
    with Image.open(workplace / "preview" / "astronaut.png") as result:
        assert result.info["style"] == PAINTING.stem
        assert "nothing was learned" in result.info["note"]


def test_strength_and_mix(osasis: Osasis, workplace: Path, photo: Path) -> None:
    first, second = (path.stem for path in list_styles()[:2])
    shares = ("--style", f"{first}=3", "--style", f"{second}=1")
    done = osasis("stylize", photo, *shares, "--style-strength", "0", "-o", "mixed-styles")
    assert done.returncode == 0, done.stderr
    with Image.open(workplace / "mixed-styles" / "astronaut.png") as result:
        assert result.info["style"] == f"{first}=0.75 + {second}=0.25"
        redrawn = np.asarray(result.convert("RGB"), dtype=float)
    base = package.load_base("faces-256")
    styles = [(package.load_style(first), 3.0), (package.load_style(second), 1.0)]
    same = package.Stylizer(base, styles, strength=0)
    expected = np.asarray(same(photo), dtype=float)
    assert np.abs(redrawn - expected).mean() < 0.1
    before = np.asarray(load_image(photo), dtype=float)
    full = package.Stylizer(base, styles)(photo)
    changed = np.abs(np.asarray(full, dtype=float) - before).mean()
    assert np.abs(redrawn - before).mean() < changed / 2  # the photo, as the base reconstructs it


def test_edit(osasis: Osasis, workplace: Path, photo: Path, tiny_base_path: Path) -> None:
    base = ("--base", tiny_base_path)
    done = osasis("edit", photo, "--attribute", "smiling=2", *base, "--t0", "300")
    assert done.returncode == 0, done.stderr
    assert "smiling: " in done.stdout and "1 photo edited into edited" in done.stdout
    with Image.open(workplace / "edited" / "astronaut.png") as result:
        assert result.info["edit"] == "smiling=2" and result.info["base"] == "tiny"
    done = osasis("edit", photo, "--attribute", "grinning", *base, "-o", "not-made")
    assert done.returncode == 2 and "it has smiling" in done.stderr
    done = osasis("edit", photo, "--text", "a smile", "--clip", "no-such-folder", *base)
    assert done.returncode == 2 and "no CLIP folder" in done.stderr
    assert not (workplace / "not-made").exists()


def test_explore(osasis: Osasis, workplace: Path, photo: Path) -> None:
    style = list_styles()[0].stem
    done = osasis("explore", photo, "--style", style, "--rows", "codes", "-o", "sheets/one.png")
    assert done.returncode == 0, done.stderr
    with Image.open(workplace / "sheets" / "one.png") as sheet:
        assert sheet.height > 400
    for wrong in ("sheet.txt", photo):
        assert osasis("explore", photo, "--style", style, "-o", wrong).returncode == 2


def test_doctor_and_models(osasis: Osasis) -> None:
    assert osasis("doctor").returncode == 0
    listed = osasis("models", "list")
    assert listed.returncode == 0
    assert "faces-256" in listed.stdout


@pytest.mark.slow
def test_demo(osasis: Osasis, workplace: Path) -> None:
    done = osasis("demo", "-o", "demo")
    assert done.returncode == 0, done.stderr
    with Image.open(workplace / "demo" / "contact-sheet.png") as sheet:
        assert sheet.width > 600
    assert str(Path("demo") / "contact-sheet.png") in done.stdout
