"""What a new user does, and what a clumsy one does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import osasis as package
from osasis.hub.registry import assets, list_bases, list_styles
from osasis.imaging.load import load_image
from osasis.imaging.tensors import fit_square, to_tensor

from .conftest import Osasis

ASTRONAUT = assets() / "photos" / "astronaut.png"
PAINTING = assets() / "styles" / "goya_josefa.webp"


@pytest.fixture(scope="module")
def photo(workplace: Path) -> Path:
    """The astronaut's face."""
    path = workplace / "astronaut.jpg"
    with Image.open(ASTRONAUT) as image:
        image.convert("RGB").crop((126, 9, 322, 205)).save(path, quality=95)
    return path


def test_the_package_ships_a_base_and_styles() -> None:
    assert [base.name for base in list_bases()] == ["faces-128"]
    assert len(list_styles()) >= 2
    base = package.load_base()
    for path in list_styles():
        package.load_style(path.stem).check_base(base)


def test_reconstruction_is_clean(photo: Path) -> None:
    """Up to t0 and back: what everything else stands on."""
    base = package.load_base("faces-128")
    x0 = to_tensor(fit_square(load_image(photo), base.image_size))
    z_sem = base.encode(x0)
    back = base.decode(base.invert(x0, z_sem, t0=500, steps=50), z_sem, t0=500, steps=50)
    assert float(((back - x0) / 2).square().mean()) < 0.001


def test_stylize_with_a_shipped_style(osasis: Osasis, workplace: Path, photo: Path) -> None:
    style = list_styles()[0].stem
    done = osasis("stylize", photo, "--style", style, "-o", "out")
    assert done.returncode == 0, done.stderr
    with Image.open(workplace / "out" / "astronaut.png") as result:
        assert result.size == (128, 128)
        assert result.info["style"] == style
        redrawn = np.asarray(result.convert("RGB"), dtype=float)
    before = np.asarray(fit_square(load_image(photo), 128), dtype=float)
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
    assert {p.name for p in (workplace / "mixed-out").iterdir()} == {"grey.png", "alpha.png"}


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("stylize", "nowhere.jpg", "--style", "goya_josefa"), "nowhere.jpg"),
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
    command = ("learn", PAINTING, "-o", "goya.safetensors", "--iterations", "2")
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
    assert style.manifest.updates == 2 * len(style.manifest.config.learn_route.decoding())
    assert not list(workplace.glob(".*partial*"))
    assert osasis(*command).returncode == 2  # it exists now
    done = osasis("stylize", photo, "--style", "goya.safetensors", "-o", "own")
    assert done.returncode == 0, done.stderr


def test_doctor_and_models(osasis: Osasis) -> None:
    assert osasis("doctor").returncode == 0
    listed = osasis("models", "list")
    assert listed.returncode == 0
    assert "faces-128" in listed.stdout


@pytest.mark.slow
def test_demo(osasis: Osasis, workplace: Path) -> None:
    done = osasis("demo", "-o", "demo")
    assert done.returncode == 0, done.stderr
    with Image.open(workplace / "demo" / "contact-sheet.png") as sheet:
        assert sheet.width > 600
    assert str(Path("demo") / "contact-sheet.png") in done.stdout
