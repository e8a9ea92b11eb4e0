"""Whole commands as a user runs them, start-up included: seconds, processor seconds, memory."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from osasis.base import Base
from osasis.bench.measure import Skipped
from osasis.config.catalogue import assets, paintings
from osasis.imaging.load import load_image
from osasis.stylize.demo import PHOTO, face_crop

FRAMES = 12
PHOTOS = 16
PORTRAIT = 1024


@dataclass(frozen=True)
class Command:
    """One command: what it is called, its arguments behind `osasis`, and what it makes so many of.

    Attributes:
        needs: a package it needs beside the core's; "" for none.
    """

    name: str
    args: tuple[str, ...]
    count: int = 1
    needs: str = ""


@dataclass(frozen=True)
class Ran:
    """What a command cost.

    Attributes:
        seconds: of the wall clock, once.
        cpu_seconds: of the process and those it waited for; Ray's workers are not among them.
        peak_memory: bytes of its largest process.
        count: pictures that it made.
    """

    name: str
    seconds: float
    cpu_seconds: float
    peak_memory: int
    count: int


def commands(base: Base, folder: Path) -> list[Command]:
    """Everyday commands on the shipped photo, their pictures written into `folder`."""
    _pictures(folder)
    one, two = sorted(paintings().values())[:2]
    on = ("--base", str(base.path or base.name), "--device", base.device.type)
    style = str(folder / "one.safetensors")
    draw = ("--style", style, *on, "-o", str(folder / "out"))
    faces = str(folder / "faces")
    film = ("film", str(folder / "film.mp4"), *draw[:-1], str(folder / "drawn.mp4"))
    whole = ("stylize", str(folder / "portrait.png"), "--fit", "whole", *draw)
    return [
        Command("start-up: osasis --version", ("--version",)),
        Command("learn, first style of a base", ("learn", str(one), "-o", style, *on)),
        Command(
            "learn, second style", ("learn", str(two), "-o", str(folder / "two.safetensors"), *on)
        ),
        Command("stylize one photo, 256 px", ("stylize", str(folder / "faces" / "0.png"), *draw)),
        Command(f"stylize {PHOTOS} photos", ("stylize", faces, *draw), PHOTOS),
        Command(f"stylize a portrait whole, {PORTRAIT} px", whole),
        Command(f"film of {FRAMES} frames", film, FRAMES, "av"),
        Command(
            f"batch, {PHOTOS} photos, 2 workers",
            ("batch", faces, "--workers", "2", *draw[:-1], str(folder / "tables")),
            PHOTOS,
            "ray",
        ),
    ]


def run_commands(planned: list[Command], folder: Path) -> Iterator[Ran | Skipped]:
    """Run each once, with an empty cache of its own, so that the first style draws its photos."""
    if not hasattr(os, "wait4"):
        yield from (
            Skipped(c.name, "this system does not tell what a command cost") for c in planned
        )
        return
    environment = os.environ | {"OSASIS_CACHE": str(folder / "cache")}
    for command in planned:
        if command.needs and importlib.util.find_spec(command.needs) is None:
            yield Skipped(command.name, f"needs the package {command.needs}")
            continue
        log = folder / "log.txt"
        whole = [sys.executable, "-m", "osasis", *command.args]
        done = subprocess.run(
            [sys.executable, "-I", str(Path(__file__).with_name("launch.py")), str(log), *whole],
            cwd=folder, env=environment, capture_output=True, text=True, check=True,
        )  # fmt: skip
        cost = json.loads(done.stdout)
        if cost.pop("status") != 0:
            lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            yield Skipped(command.name, f"it failed: {' '.join(lines[-2:])}")
            continue
        yield Ran(command.name, count=command.count, **cost)


def _pictures(folder: Path) -> None:
    photo = load_image(assets() / "photos" / PHOTO)
    (folder / "faces").mkdir()
    face = face_crop(photo).resize((256, 256), Image.Resampling.LANCZOS)
    for number in range(PHOTOS):  # each another picture: equal ones would be drawn once
        face.rotate(number / 4, Image.Resampling.BICUBIC).save(folder / "faces" / f"{number}.png")
    photo.resize((PORTRAIT, PORTRAIT), Image.Resampling.LANCZOS).save(folder / "portrait.png")
    if importlib.util.find_spec("av"):
        _film(photo, folder / "film.mp4")


def _film(photo: Image.Image, path: Path) -> None:
    import av

    with av.open(str(path), "w") as film:
        stream = film.add_stream("mpeg4", rate=12)
        stream.width, stream.height, stream.pix_fmt = photo.width, photo.height, "yuv420p"
        for number in range(FRAMES):
            frame = photo.rotate(number / 8, Image.Resampling.BICUBIC)
            film.mux(stream.encode(av.VideoFrame.from_image(frame)))
        film.mux(stream.encode())
