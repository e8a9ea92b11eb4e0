"""Photos come back as what they were: transparency, EXIF, format; what changed is said."""

from __future__ import annotations

import importlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from osasis.cli.main import main
from osasis.errors import UserError
from osasis.imaging.load import IMAGE_SUFFIXES, decode_photo, load_image, load_photo
from osasis.imaging.save import mark_of

from ..conftest import picture
from .test_imaging import swapped_profile


@pytest.fixture
def redraw(tmp_path: Path, tiny_base_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    picture(9).save("style.png")
    base = ("--fit", "tiles", "--tiles", "1", "--base", str(tiny_base_path), "--device", "cpu")

    def run(*given: str) -> int:
        return main(["stylize", *given, "--style-image", "style.png", "-o", "out", *base])

    return run


def exif() -> Image.Exif:
    block = Image.Exif()
    block[0x0110], block[0x0112], block[0x010E] = "Pocket 5", 6, "at the sea"
    block[0x8769] = {0x9003: "2019:07:14 18:03:22", 0xA001: 65535, 0xA002: 60, 0xA003: 40}
    block[0x8825] = {1: "N", 2: (52.0, 1.0, 2.0)}
    return block


def kept(path: str) -> tuple[Image.Exif, dict[int, object], dict[int, object]]:
    with Image.open(path) as image:
        block = image.getexif()
        return block, dict(block.get_ifd(0x8769)), dict(block.get_ifd(0x8825))


@pytest.mark.parametrize(
    ("given", "result"), [("a.jpg", "a.jpg"), ("a.webp", "a.webp"), ("a.png", "a.png")]
)
def test_exif_and_format_are_kept(redraw, given: str, result: str) -> None:  # type: ignore[no-untyped-def]
    picture(1).resize((60, 40)).save(given, exif=exif())
    before = Path(given).stat().st_mtime_ns
    assert redraw(given) == 0
    block, details, place = kept(f"out/{result}")
    assert block[0x0110] == "Pocket 5" and block[0x010E] == "at the sea"
    assert 0x0112 not in block  # it is upright now
    assert details == {0x9003: "2019:07:14 18:03:22", 0xA001: 1}
    assert place[1] == "N"
    with Image.open(f"out/{result}") as image:
        assert image.size == (40, 60) and image.format == Image.open(given).format
    assert mark_of(Path(f"out/{result}"))["photo"] == given
    assert Path(given).stat().st_mtime_ns == before
    assert redraw(given) == 0  # known again
    assert len(list(Path("out").glob("a*"))) == 1


def test_a_format_can_be_asked_for(redraw) -> None:  # type: ignore[no-untyped-def]
    picture(1).save("a.jpg")
    for kind in ("png", "webp", "jpg"):
        assert redraw("a.jpg", "--format", kind) == 0
        assert Path(f"out/a.{kind}").is_file()


@pytest.mark.parametrize("name", ["a.png", "a.webp"])
def test_transparency_is_kept(redraw, name: str) -> None:  # type: ignore[no-untyped-def]
    ramp = Image.fromarray(np.linspace(0, 255, 48 * 48).astype(np.uint8).reshape(48, 48))
    see_through = picture(1)
    see_through.putalpha(ramp)
    see_through.save(name, lossless=True)
    assert redraw(name) == 0
    with Image.open(f"out/{name}") as image:
        assert image.mode == "RGBA"
        assert (np.asarray(image)[..., 3] == np.asarray(ramp)).all()


def test_transparency_that_a_jpeg_cannot_hold_is_said(redraw, capsys) -> None:  # type: ignore[no-untyped-def]
    see_through = picture(1)
    see_through.putalpha(90)
    see_through.save("a.jpg", "PNG")  # as picture books and web pages have them
    assert redraw("a.jpg") == 0
    assert "a.jpg: JPEG has no transparency" in capsys.readouterr().err
    assert redraw("a.jpg", "--format", "png") == 0
    assert Image.open("out/a.png").mode == "RGBA"


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif"])
def test_dots_per_inch_are_kept(redraw, name: str) -> None:  # type: ignore[no-untyped-def]
    picture(1).save(name, dpi=(300, 200))
    assert redraw(name) == 0
    (result,) = Path("out").glob("a.*")
    with Image.open(result) as image:
        assert image.info["dpi"] == pytest.approx((300, 200), abs=0.01)
    picture(1).save("b.tif")  # Pillow says 1 of it
    assert load_photo("b.tif").kept.dpi is None


XMP = (
    b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description %b/></rdf:RDF></x:xmpmeta>"""
)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (b'xmp:Rating="5"', "ratings of photo programs"),
        (b'hdrgm:Version="1.0"', "HDR gain map"),
        (b'GCamera:MotionPhoto="1"', "motion photo"),
        (b'xmp:CreatorTool="camera"', ""),
    ],
)
def test_what_a_photo_also_holds_and_a_result_does_not_is_said(told: bytes, said: str) -> None:
    for kind in ("JPEG", "PNG", "WEBP"):
        buffer, options = io.BytesIO(), {"xmp": XMP % told}
        if kind == "PNG":
            chunks = PngInfo()
            chunks.add_itxt("XML:com.adobe.xmp", (XMP % told).decode())
            options = {"pnginfo": chunks}
        picture(1).save(buffer, kind, **options)
        notes = decode_photo(buffer.getvalue()).kept.notes
        assert [said in note for note in notes] == ([True] if said else [])


def test_a_damaged_exif_block_stops_nothing(redraw, capsys) -> None:  # type: ignore[no-untyped-def]
    bad = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x87\x69\0\x04\0\0\0\x01\xff\xff\xff\xf0"
    picture(1).save("a.jpg", exif=bad)
    assert redraw("a.jpg") == 0
    assert "Warning" not in capsys.readouterr().err
    Image.open("out/a.jpg").load()


def test_conversion_to_srgb_is_said(redraw, capsys) -> None:  # type: ignore[no-untyped-def]
    for name in ("a.png", "b.png"):
        picture(1 if name == "a.png" else 2).save(name, icc_profile=swapped_profile())
    assert redraw("a.png", "b.png") == 0
    said = capsys.readouterr().err
    assert "a.png and 1 more: colours were converted from" in said
    manifest = Path("out/manifest.jsonl").read_text().splitlines()
    notes = [json.loads(line)["notes"] for line in manifest]
    assert all("to sRGB" in note[0] for note in notes)
    with Image.open("out/a.png") as image:
        assert "icc_profile" not in image.info


def test_pages_and_animations_are_said(redraw, capsys) -> None:  # type: ignore[no-untyped-def]
    pages = [picture(n) for n in range(3)]
    pages[0].save("a.gif", save_all=True, append_images=pages[1:])
    pages[0].save("b.webp", save_all=True, append_images=pages[1:])
    pages[0].save("c.tif", save_all=True, append_images=pages[1:])
    assert redraw("a.gif", "b.webp", "c.tif") == 0
    said = capsys.readouterr().err
    for text in ("a.gif: the first of several pictures", "b.webp: the first of 3 pictures"):
        assert text in said
    assert "c.tif: the first of 3 pages" in said
    assert {p.name for p in Path("out").iterdir()} >= {"a.png", "b.webp", "c.png"}


def smooth(side: int) -> Image.Image:
    rows, columns = np.mgrid[:side, :side]
    values = np.stack([rows, columns, (rows * 7 + columns * 3) % side], axis=-1) * 255 // side
    return Image.fromarray(values.astype(np.uint8))


def test_a_jpeg_without_its_end_is_read_with_a_warning(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    smooth(256).save(buffer, "JPEG", quality=95)
    whole = buffer.getvalue()
    sound = np.asarray(smooth(256), int)
    for left, most in ((len(whole) - 2, 0.0), (len(whole) * 4 // 5, 0.3)):
        (tmp_path / "a.jpg").write_bytes(whole[:left])
        photo = load_photo(tmp_path / "a.jpg")
        assert any("is cut short" in note for note in photo.kept.notes)
        rows = int(256 * (1 - most)) - 16
        assert np.abs(np.asarray(photo.image, int)[:rows] - sound[:rows]).mean() < 12
    (tmp_path / "a.jpg").write_bytes(whole[: len(whole) // 4])
    with pytest.raises(UserError, match="damaged or cut short"):
        load_photo(tmp_path / "a.jpg")


def test_a_large_jpeg_is_read_smaller(tmp_path: Path) -> None:
    smooth(512).save(tmp_path / "a.jpg", quality=95)
    for limit, side in ((512 * 512, 512), (512 * 511, 256), (70_000, 256), (20_000, 128)):
        photo = load_photo(tmp_path / "a.jpg", max_pixels=limit)
        assert photo.image.size == (side, side)
        assert bool(photo.kept.notes) == (side < 512)
        small = np.asarray(smooth(512).resize((side, side)), int)
        assert np.abs(np.asarray(photo.image, int) - small).mean() < 12
    smooth(512).save(tmp_path / "a.png")
    with pytest.raises(UserError, match="too many pixels"):
        load_image(tmp_path / "a.png", max_pixels=512 * 511)


def test_a_photo_of_200_megapixels(tmp_path: Path) -> None:
    Image.new("L", (16_320, 12_240), 90).save(tmp_path / "a.jpg", quality=20)
    photo = load_photo(tmp_path / "a.jpg")
    assert photo.image.size == (8160, 6120)
    assert abs(np.asarray(photo.image)[3000, 4000, 0] - 90.0) < 4


def test_heic_is_read(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    assert ".heic" in IMAGE_SUFFIXES
    heif.from_pillow(smooth(128)).save(tmp_path / "a.heic", quality=95)
    found = load_photo(tmp_path / "a.heic")
    assert found.kept.kind == "HEIF" and found.image.size == (128, 128)
    assert np.abs(np.asarray(found.image, int) - np.asarray(smooth(128), int)).mean() < 12
    small = load_photo(tmp_path / "a.heic", max_pixels=4096)  # as a studio reads 48 megapixels
    assert small.image.size == (64, 64) and "was read smaller" in small.kept.notes[0]
    (tmp_path / "a.heic").write_bytes((tmp_path / "a.heic").read_bytes()[:400])
    with pytest.raises(UserError):
        load_photo(tmp_path / "a.heic")


def test_heic_without_its_decoder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = importlib.import_module("osasis.imaging.load")
    monkeypatch.setattr(load, "HAS_HEIC", False)
    (tmp_path / "a.jpg").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40))
    with pytest.raises(UserError, match="is a HEIC photo") as refused:
        load_image(tmp_path / "a.jpg")
    assert "[heic]" in refused.value.hint
