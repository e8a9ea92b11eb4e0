"""Malformed inputs of every kind end in errors of ours, or are read. `make fuzz` tries more.

Seeded: the same inputs each time. `OSASIS_FUZZ=20` tries twenty times as many.
"""

from __future__ import annotations

import copy
import importlib.util
import io
import json
import os
import random
import struct
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from osasis.base import load_base
from osasis.config.artefacts import Lock, artefacts
from osasis.config.catalogue import configs
from osasis.config.controls import Controls
from osasis.config.tables import from_table
from osasis.errors import OsasisError
from osasis.evaluate.config import load_evaluation
from osasis.formats.records import MANIFEST, Manifest
from osasis.formats.style_file import Style, load_style
from osasis.imaging.find import find_photos
from osasis.imaging.load import decode_photo, load_photo
from osasis.pretrain.config import load_config

MORE = int(os.environ.get("OSASIS_FUZZ", "1"))
SLOWEST = 10.0  # seconds of processor for one input
JUNK: tuple[Any, ...] = (
    None, True, -1, 0, 10**9, 2**70, 1e300, float("nan"), float("inf"), "", "x", "\x1b[31m",
    "\ud800", [], [[]], {}, {"a": {}}, [1] * 40, [None], "9" * 4000, -0.5, "../../x", 65536,
)  # fmt: skip


def check(inputs: Iterator[tuple[str, Callable[[], object]]]) -> None:
    """Try each input; report all that end in another error, or take too long."""
    wrong, tried = [], 0
    for name, act in inputs:
        tried += 1
        start = time.process_time()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                act()
        except OsasisError:
            pass
        except Exception as error:  # noqa: BLE001 - what is looked for
            wrong.append(f"{name}: {type(error).__name__}: {str(error)[:100]}")
        if time.process_time() - start > SLOWEST:
            wrong.append(f"{name}: {time.process_time() - start:.0f} s of processor")
    assert not wrong, f"{len(wrong)} of {tried}:\n" + "\n".join(wrong[:40])


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Bytes changed as damage and malice change them."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(len(out)) if out else 0
        near = rng.randrange(min(len(out), 200)) if out else 0  # headers matter most
        place = rng.choice((at, near))
        what = rng.randrange(6)
        if what == 0:
            out[place : place + 1] = bytes([rng.randrange(256)])
        elif what == 1:
            out[place : place + 4] = struct.pack(">I", rng.choice((0, 1, 2**31, 2**32 - 1, 65535)))
        elif what == 2:
            del out[place:]
        elif what == 3:
            out[place:place] = bytes(out[at : at + rng.randrange(1, 64)])
        elif what == 4:
            out[place : place + rng.randrange(1, 32)] = b""
        else:
            out[place : place + 2] = struct.pack("<H", rng.randrange(65536))
    return bytes(out)


def pictures() -> dict[str, bytes]:
    noise = np.random.default_rng(0).integers(0, 256, (40, 32, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    deep = Image.fromarray(noise[..., 0].astype(np.uint16) << 8)
    exif = Image.Exif()
    exif[0x0110], exif[0x0112], exif[0x8769] = "camera", 6, {0x9003: "2020:01:01 00:00:00"}
    clear = image.copy()
    clear.putalpha(128)
    more = {"save_all": True, "append_images": [image.rotate(90)]}
    wanted: list[tuple[str, Image.Image, str, dict[str, Any]]] = [
        ("png", clear, "PNG", {"exif": exif}),
        ("palette", image.quantize(7), "PNG", {"transparency": 0}),
        ("jpeg", image, "JPEG", {"exif": exif}),
        ("progressive", image, "JPEG", {"progressive": True}),
        ("cmyk", image.convert("CMYK"), "JPEG", {}),
        ("webp", clear, "WEBP", more),
        ("gif", image, "GIF", more),
        ("bmp", image, "BMP", {}),
        ("ppm", image, "PPM", {}),
        ("tiff", image, "TIFF", {"compression": "tiff_lzw"}),
        ("deep", deep, "TIFF", {}),
    ]
    if features.check("avif"):
        wanted.append(("avif", image, "AVIF", {}))
    found = {}
    for name, picture, kind, options in wanted:
        buffer = io.BytesIO()
        picture.save(buffer, kind, **options)
        found[name] = buffer.getvalue()
    if importlib.util.find_spec("pillow_heif") is not None:
        buffer = io.BytesIO()
        importlib.import_module("pillow_heif").from_pillow(image).save(buffer)
        found["heic"] = buffer.getvalue()
    return found


def test_pictures() -> None:
    def inputs() -> Iterator[tuple[str, Callable[[], object]]]:
        for name, data in pictures().items():
            decode_photo(data)
            for seed in range(80 * MORE):
                bad = mutated(data, random.Random(f"{name} {seed}"))
                yield f"{name} {seed}", lambda bad=bad: decode_photo(bad)  # type: ignore[misc]

    check(inputs())


def spoiled(value: Any, rng: random.Random) -> Any:
    """A tree of tables and lists with something in it replaced, added or left out."""
    tree = copy.deepcopy(value)
    node, parent, key = tree, None, None
    while isinstance(node, (dict, list)) and node and (parent is None or rng.random() < 0.7):
        key = rng.choice(list(node)) if isinstance(node, dict) else rng.randrange(len(node))
        parent, node = node, node[key]
    if parent is None:
        return rng.choice(JUNK)
    what = rng.randrange(4)
    if what == 0:
        del parent[key]
    elif what == 1 and isinstance(parent, dict):
        parent[rng.choice(("x", "osasis", "\x1b"))] = rng.choice(JUNK)
    else:
        parent[key] = rng.choice(JUNK)
    return tree


def with_manifest(data: bytes, change: Callable[[Any], Any]) -> bytes:
    """A safetensors file with its manifest changed."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    manifest = change(json.loads(header["__metadata__"]["osasis"]))
    text = manifest if isinstance(manifest, str) else json.dumps(manifest)
    header["__metadata__"]["osasis"] = text
    changed = json.dumps(header).encode()
    return len(changed).to_bytes(8, "little") + changed + data[8 + length :]


def our_files(kind: str, data: bytes, load: Callable[[Path], object], folder: Path, count: int):  # type: ignore[no-untyped-def]
    file = folder / f"{kind}.safetensors"
    for seed in range(count * MORE):
        rng = random.Random(f"{kind} {seed}")
        if seed % 3 == 0:
            bad = mutated(data, rng)
        elif seed % 50 == 1:
            bad = with_manifest(data, lambda _: "[" * 5000)
        else:
            bad = with_manifest(data, lambda m, rng=rng: spoiled(m, rng))  # type: ignore[misc]
        file.write_bytes(bad)
        yield f"{kind} {seed}", lambda: load(file)


def test_style_files(tiny_style: Style, tmp_path: Path) -> None:
    tiny_style.save(tmp_path / "whole.safetensors")
    data = (tmp_path / "whole.safetensors").read_bytes()
    check(our_files("style", data, load_style, tmp_path, 120))


def test_base_files(tiny_base_path: Path, tmp_path: Path) -> None:
    data = tiny_base_path.read_bytes()

    def load(path: Path) -> object:
        return load_base(str(path), device="cpu")

    check(our_files("base", data, load, tmp_path, 90))


def toml(value: Any) -> str:
    """Nearly TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (dict, list)):
        return json.dumps(value) if isinstance(value, list) else "{}"
    return json.dumps(value)


def test_configurations(tmp_path: Path) -> None:
    lines = configs()["faces-256"].read_text(encoding="utf-8").splitlines()
    set_ = [i for i, line in enumerate(lines) if "=" in line and not line.startswith("#")]
    file = tmp_path / "mine.toml"

    def inputs() -> Iterator[tuple[str, Callable[[], object]]]:
        for seed in range(250 * MORE):
            rng, changed = random.Random(f"toml {seed}"), list(lines)
            for _ in range(rng.choice((1, 1, 3))):
                at = rng.choice(set_)
                name = changed[at].partition("=")[0]
                junk = toml(rng.choice(JUNK))
                changed[at] = rng.choice((f"{name}= {junk}", f"{name}_x = {junk}", "", name))
            text = "\n".join(changed)
            file.write_text(text, encoding="utf-8", errors="replace")
            yield f"toml {seed}", lambda: load_config(file, data=str(tmp_path))

    check(inputs())


def test_evaluations_registries_and_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluation = {
        "title": "t", "photos": "p", "size": 64, "bootstrap": 10, "styles": {"a": "a"},
        "methods": [{"name": "a", "peer": "gatys", "set": {"steps": 3}}],
    }  # fmt: skip
    entry = {"kind": "file", "licence": "x", "places": [{"url": "u"}], "files": {"a": {"bytes": 3}}}
    lock = {"version": 1, "pins": {"a": {"b": {"sha256": "0"}}}, "installed": {"a": {"hub": "x"}}}
    files = {name: tmp_path / name for name in ("a.toml", "r.toml", "lock.json")}
    monkeypatch.setenv("OSASIS_DATA", str(tmp_path))
    monkeypatch.setenv("OSASIS_REGISTRY", str(files["r.toml"]))

    def inputs() -> Iterator[tuple[str, Callable[[], object]]]:
        for seed in range(100 * MORE):
            rng = random.Random(f"tables {seed}")
            for file, text in (
                (files["a.toml"], nested(spoiled(evaluation, rng))),
                (files["r.toml"], nested(spoiled({"artefacts": {"mine": entry}}, rng))),
                (files["lock.json"], json.dumps(spoiled(lock, rng))),
            ):
                file.write_text(text, encoding="utf-8", errors="replace")
            os.utime(files["r.toml"], (seed, seed))  # what was read is kept until it changes
            yield f"evaluation {seed}", lambda: load_evaluation(files["a.toml"])
            yield f"registry {seed}", artefacts
            yield f"lock {seed}", Lock

    check(inputs())


def nested(value: Any) -> str:
    """A tree as TOML, in one line a key; what TOML lacks is left as it is."""

    def inline(part: Any) -> str:
        if isinstance(part, dict):
            return "{" + ", ".join(f"{json.dumps(k)} = {inline(v)}" for k, v in part.items()) + "}"
        if isinstance(part, list):
            return "[" + ", ".join(map(inline, part)) + "]"
        return toml(part)

    if not isinstance(value, dict):
        return inline(value)
    return "\n".join(f"{json.dumps(k)} = {inline(v)}" for k, v in value.items())


def test_manifests(tmp_path: Path) -> None:
    record = {"output": "a.png", "files": ["a.png", "crops/a-1.png"], "key": "k", "faces": 1}

    def inputs() -> Iterator[tuple[str, Callable[[], object]]]:
        for seed in range(150 * MORE):
            rng = random.Random(f"manifest {seed}")
            lines = [json.dumps(spoiled(record, rng)) for _ in range(3)] + [json.dumps(record)]
            if seed % 25 == 0:
                lines.append("[" * 20_000)
            data = "\n".join(lines).encode(errors="replace")
            (tmp_path / MANIFEST).write_bytes(mutated(data, rng) if seed % 2 else data)

            def act() -> None:
                manifest = Manifest(tmp_path)
                manifest.find(tmp_path / "a.png", "k")
                assert all(tmp_path in path.parents for path in manifest.outputs)

            yield f"manifest {seed}", act

    check(inputs())


def test_lists_and_controls(tmp_path: Path) -> None:
    names = ("strength", "t0", "variation", "seed", "tiles", "detail", "feather", "fit", "nothing")

    def inputs() -> Iterator[tuple[str, Callable[[], object]]]:
        for seed in range(250 * MORE):
            rng = random.Random(f"controls {seed}")
            table = {rng.choice(names): rng.choice(JUNK) for _ in range(2)}
            yield f"controls {table}", lambda table=table: from_table(Controls, table)  # type: ignore[misc]
        parts = ("a\0b", "~nobody", "x" * 5000, "\ud800", "*[", "a" * 300, "-", "\n", "**")
        for seed in range(60 * MORE):
            rng = random.Random(f"list {seed}")
            lines = [rng.choice(parts) for _ in range(3)]
            yield f"list {lines}", lambda lines=lines: find_photos(["-"], lines)  # type: ignore[misc]
            text = f"{tmp_path}/x{''.join(lines[:2])}"
            yield f"path {text!r:.60}", lambda text=text: find_photos([text])  # type: ignore[misc]

    assert from_table(Controls, {}) == Controls()
    check(inputs())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipes_and_devices(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    check(
        iter(
            [
                ("photo", lambda: load_photo(tmp_path / "pipe.png")),
                ("zero", lambda: load_photo("/dev/zero")),
            ]
        )
    )
