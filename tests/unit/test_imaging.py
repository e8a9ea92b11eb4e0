"""Reading, writing and laying out pictures."""

from __future__ import annotations

import errno
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from osasis.errors import OsasisError, UserError
from osasis.imaging.find import find_images
from osasis.imaging.load import IMAGE_SUFFIXES, load_image
from osasis.imaging.save import format_of, free_path, save_image, unique_paths
from osasis.imaging.sheet import contact_sheet
from osasis.imaging.tensors import fit_square, to_images, to_tensor

SIDE = 24


def noise(width: int = SIDE, height: int = SIDE, bands: int = 3) -> np.ndarray:
    shape = (height, width, bands) if bands > 1 else (height, width)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def pixels(image: Image.Image) -> np.ndarray:
    assert image.mode == "RGB"
    assert image.info == {}
    return np.asarray(image)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".tiff"])
def test_lossless_files_come_back_exactly(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(noise()).save(tmp_path / f"a{suffix}")
    assert np.array_equal(pixels(load_image(tmp_path / f"a{suffix}")), noise())
    assert np.array_equal(pixels(load_image(str(tmp_path / f"a{suffix}"))), noise())


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".webp", ".gif"])
def test_other_suffixes_are_read(tmp_path: Path, suffix: str) -> None:
    Image.new("RGB", (30, 20), (200, 100, 50)).save(tmp_path / f"a{suffix}")
    loaded = load_image(tmp_path / f"a{suffix}")
    assert loaded.size == (30, 20)
    assert np.abs(pixels(loaded).astype(int) - [200, 100, 50]).max() <= 3


def test_content_counts_not_the_name(tmp_path: Path) -> None:
    Image.fromarray(noise()).save(tmp_path / "a.dat", format="PNG")
    assert np.array_equal(pixels(load_image(tmp_path / "a.dat")), noise())


# How to turn an upright picture so that a viewer obeying the tag shows it upright again.
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_exif_rotation(tmp_path: Path, orientation: int, suffix: str) -> None:
    upright = noise(30, 20)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright)))
    stored.save(tmp_path / f"a{suffix}", exif=exif)
    assert np.array_equal(pixels(load_image(tmp_path / f"a{suffix}")), upright)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_is_ignored(tmp_path: Path) -> None:
    Image.fromarray(noise()).save(tmp_path / "a.png", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert np.array_equal(pixels(load_image(tmp_path / "a.png")), noise())


def test_transparency_is_on_white(tmp_path: Path) -> None:
    rgba = np.full((SIDE, SIDE, 4), (200, 0, 100, 255), dtype=np.uint8)
    rgba[:8, :, 3], rgba[8:16, :, 3] = 0, 51  # 51 is one fifth
    Image.fromarray(rgba).save(tmp_path / "rgba.png")
    out = pixels(load_image(tmp_path / "rgba.png"))
    assert (out[:8] == 255).all()
    assert np.abs(out[8:16].astype(int) - [244, 204, 224]).max() <= 1
    assert (out[16:] == [200, 0, 100]).all()

    Image.fromarray(rgba[..., 2:]).save(tmp_path / "la.png")
    assert Image.open(tmp_path / "la.png").mode == "LA"
    out = pixels(load_image(tmp_path / "la.png"))
    assert (out[:8] == 255).all()
    assert (out[16:] == 100).all()


def test_palette_and_key_transparency(tmp_path: Path) -> None:
    palette = Image.new("P", (SIDE, SIDE), 1)
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.paste(0, (0, 0, SIDE, 8))
    palette.save(tmp_path / "p.png", transparency=0)
    palette.save(tmp_path / "p.gif", transparency=0)
    for name in ("p.png", "p.gif"):
        out = pixels(load_image(tmp_path / name))
        assert (out[:8] == 255).all()
        assert (out[8:] == [40, 50, 60]).all()
    rgb = Image.new("RGB", (SIDE, SIDE), (1, 2, 3))
    rgb.save(tmp_path / "key.png", transparency=(1, 2, 3))
    assert (pixels(load_image(tmp_path / "key.png")) == 255).all()


def test_cmyk_grey_and_bilevel(tmp_path: Path) -> None:
    Image.new("CMYK", (SIDE, SIDE), (0, 255, 0, 0)).save(tmp_path / "cmyk.tif")
    assert (pixels(load_image(tmp_path / "cmyk.tif")) == [255, 0, 255]).all()
    Image.new("CMYK", (SIDE, SIDE), (0, 255, 0, 0)).save(tmp_path / "cmyk.jpg", quality=100)
    found = pixels(load_image(tmp_path / "cmyk.jpg")).astype(int)
    assert np.abs(found - [255, 0, 255]).max() <= 3
    Image.fromarray(noise(bands=1)).save(tmp_path / "grey.png")
    assert np.array_equal(pixels(load_image(tmp_path / "grey.png"))[..., 1], noise(bands=1))
    Image.new("1", (SIDE, SIDE), 1).save(tmp_path / "bits.png")
    assert (pixels(load_image(tmp_path / "bits.png")) == 255).all()


@pytest.mark.parametrize(
    ("kind", "suffix", "factor"),
    [("uint16", ".png", 257), ("uint16", ".tif", 257), ("int32", ".tif", 257),
     ("int32", ".tif", 1), ("int32", ".tif", (2**31 - 1) / 255), ("float32", ".tif", 1 / 255),
     ("float32", ".tif", 1.0), ("float32", ".tif", 257.0)],
)  # fmt: skip
def test_deep_pixels_are_scaled_not_clipped(
    tmp_path: Path, kind: str, suffix: str, factor: float
) -> None:
    ramp = np.arange(256, dtype=np.float64).reshape(16, 16)
    Image.fromarray((ramp * factor).astype(kind)).save(tmp_path / f"deep{suffix}")
    out = pixels(load_image(tmp_path / f"deep{suffix}"))
    assert np.array_equal(out, np.repeat(ramp.astype(np.uint8)[..., None], 3, axis=2))


def test_float_with_odd_values(tmp_path: Path) -> None:
    values = np.linspace(-1, 1, 256, dtype=np.float32).reshape(16, 16)
    Image.fromarray(values).save(tmp_path / "signed.tif")
    out = pixels(load_image(tmp_path / "signed.tif"))[..., 0]
    assert np.array_equal(out.ravel(), np.arange(256))
    values = np.full((16, 16), np.nan, dtype=np.float32)
    values[0] = 1
    Image.fromarray(values).save(tmp_path / "nan.tif")
    out = pixels(load_image(tmp_path / "nan.tif"))
    assert (out[0] == 255).all()
    assert (out[1:] == 0).all()


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_first_frame_of_an_animation(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (SIDE, SIDE), colour) for colour in ("red", "lime", "blue")]
    options: dict[str, Any] = {"lossless": True} if suffix == ".webp" else {}
    frames[0].save(tmp_path / f"a{suffix}", save_all=True, append_images=frames[1:], **options)
    assert (pixels(load_image(tmp_path / f"a{suffix}")) == [255, 0, 0]).all()


def swapped_profile() -> bytes:
    """An sRGB profile in which red and green have changed places."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    at = {}
    for i in range(int.from_bytes(data[128:132], "big")):
        entry = 132 + 12 * i
        at[bytes(data[entry : entry + 4])] = entry
    red, green = at[b"rXYZ"] + 4, at[b"gXYZ"] + 4
    data[red : red + 8], data[green : green + 8] = data[green : green + 8], data[red : red + 8]
    name = "sRGB".encode("utf-16-be")  # the description must not call itself sRGB
    return bytes(data.replace(name, "XXXX".encode("utf-16-be")).replace(b"sRGB", b"XXXX"))


def test_colour_profile_is_converted(tmp_path: Path) -> None:
    picture = Image.new("RGB", (SIDE, SIDE), (220, 30, 60))
    picture.save(tmp_path / "swapped.png", icc_profile=swapped_profile())
    out = pixels(load_image(tmp_path / "swapped.png")).astype(int)
    assert np.abs(out - [30, 220, 60]).max() <= 2
    picture.putalpha(255)
    picture.save(tmp_path / "alpha.png", icc_profile=swapped_profile())
    out = pixels(load_image(tmp_path / "alpha.png")).astype(int)
    assert np.abs(out - [30, 220, 60]).max() <= 2


def test_broken_or_foreign_profile_is_ignored(tmp_path: Path) -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (b"not a profile", swapped_profile()[:200], lab, srgb):
        Image.fromarray(noise()).save(tmp_path / "a.png", icc_profile=profile)
        assert np.array_equal(pixels(load_image(tmp_path / "a.png")), noise())


def test_an_opened_image_is_taken_and_kept() -> None:
    source = Image.new("RGBA", (SIDE, SIDE), (0, 0, 0, 0))
    assert (pixels(load_image(source)) == 255).all()
    assert source.mode == "RGBA"
    assert source.getpixel((0, 0)) == (0, 0, 0, 0)


def damaged(folder: Path) -> dict[str, Path]:
    (folder / "empty.png").touch()
    (folder / "text.png").write_text("dear diary\n" * 20, encoding="utf-8")
    Image.fromarray(noise(64, 64)).save(folder / "whole.png")
    Image.fromarray(noise(64, 64)).save(folder / "whole.jpg")
    Image.fromarray(noise(64, 64)).save(folder / "whole.webp")
    for name in ("whole.png", "whole.jpg", "whole.webp"):
        data = (folder / name).read_bytes()
        (folder / f"cut-{name}").write_bytes(data[: len(data) // 2])
    (folder / "head.png").write_bytes((folder / "whole.png").read_bytes()[:10])
    Image.new("RGB", (15, 400)).save(folder / "tiny.png")
    (folder / "folder.png").mkdir()
    return {path.name: path for path in folder.iterdir()} | {"gone.png": folder / "gone.png"}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gone.png", "does not exist"),
        ("folder.png", "is a folder"),
        ("empty.png", "is empty (0 bytes)"),
        ("text.png", "is not an image"),
        ("head.png", "is not an image"),
        ("cut-whole.png", "damaged or cut short"),
        ("cut-whole.jpg", "damaged or cut short"),
        ("cut-whole.webp", "damaged or cut short"),
        ("tiny.png", "too small: 15 x 400"),
    ],
)
def test_bad_files_are_named_and_explained(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        load_image(damaged(tmp_path)[name])
    assert said in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(("side", "said"), [(8200, "8200 x 8200"), (30000, "pixels")])
def test_bombs_are_refused_from_the_header(tmp_path: Path, side: int, said: str) -> None:
    # Only the header claims the size: decoding would report a damaged file instead.
    Image.new("L", (SIDE, SIDE)).save(tmp_path / "bomb.png")
    data = bytearray((tmp_path / "bomb.png").read_bytes())
    data[16:24] = side.to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    (tmp_path / "bomb.png").write_bytes(data)
    with pytest.raises(UserError, match="too many pixels") as caught:
        load_image(tmp_path / "bomb.png")
    assert said in str(caught.value)
    assert "64 megapixels" in str(caught.value)


def test_pixel_limit_can_be_set(tmp_path: Path) -> None:
    Image.new("L", (100, 50)).save(tmp_path / "a.png")
    assert load_image(tmp_path / "a.png", max_pixels=5000).size == (100, 50)
    with pytest.raises(UserError, match="100 x 50"):
        load_image(tmp_path / "a.png", max_pixels=4999)
    with pytest.raises(UserError, match="100 x 50"):
        load_image(Image.new("L", (100, 50)), max_pixels=4999)


def test_load_does_not_import_torch() -> None:
    code = "import sys, osasis.imaging.load; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_find_images(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "sub/c.webp", "notes.txt", ".hidden.png", ".git/d.png"):
        file = tmp_path / "in" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    folder = tmp_path / "in"
    expected = [folder / "a.png", folder / "b.JPG", folder / "sub/c.webp"]
    assert find_images([folder]) == expected
    assert find_images([str(folder), folder / "a.png", folder / "sub" / ".." / "a.png"]) == expected
    assert find_images([folder / "notes.txt"]) == [folder / "notes.txt"]
    assert find_images([folder / "b.JPG", folder / "a.png"]) == expected[:2]


def test_find_images_errors(tmp_path: Path) -> None:
    (tmp_path / "x.txt").touch()
    with pytest.raises(UserError, match="holds no picture") as caught:
        find_images([tmp_path])
    assert all(suffix in caught.value.hint for suffix in IMAGE_SUFFIXES)
    with pytest.raises(UserError, match=r"gone\.png does not exist"):
        find_images([tmp_path / "gone.png"])
    with pytest.raises(UserError, match="no picture was given"):
        find_images([])


def test_tensor_round_trip_is_exact() -> None:
    levels = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    tensor = to_tensor(Image.fromarray(levels))
    assert tensor.shape == (1, 3, 16, 16)
    assert tensor.dtype == torch.float32
    assert (tensor.min().item(), tensor.max().item()) == (-1, 1)
    for dtype in (torch.float32, torch.float64):
        assert np.array_equal(np.asarray(to_images(tensor.to(dtype))[0]), levels)


def test_to_images_clamps_rounds_and_checks() -> None:
    level = 2 / 255
    values = torch.tensor([-9.0, -1 + 0.49 * level, -1 + 0.51 * level, 9.0, 1 - 0.51 * level])
    batch = values.view(1, 1, 1, 5).repeat(2, 3, 1, 1).requires_grad_()
    images = to_images(batch)
    assert len(images) == 2
    assert np.asarray(images[1])[0, :, 0].tolist() == [0, 0, 1, 255, 254]
    with pytest.raises(ValueError, match=r"\(3, 4, 4\)"):
        to_images(torch.zeros(3, 4, 4))
    with pytest.raises(OsasisError, match="NaN"):
        to_images(torch.full((1, 3, 4, 4), torch.nan))


def test_fit_square_takes_the_centre() -> None:
    wide = np.zeros((20, 60, 3), dtype=np.uint8)
    wide[:, 20:40] = 255
    assert (np.asarray(fit_square(Image.fromarray(wide), 20)) == 255).all()
    assert (np.asarray(fit_square(Image.fromarray(wide.swapaxes(0, 1)), 33)) == 255).all()
    same = Image.fromarray(noise())
    assert np.array_equal(np.asarray(fit_square(same, SIDE)), noise())
    with pytest.raises(ValueError, match="positive"):
        fit_square(same, 0)


def test_save_png_with_metadata(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.png"
    save_image(Image.fromarray(noise()), path, metadata={"style": "Cézanne", "note": "日本"})
    assert [p.name for p in path.parent.iterdir()] == ["a.png"]
    with Image.open(path) as image:
        assert image.text == {"style": "Cézanne", "note": "日本"}
    assert np.array_equal(pixels_of(path), noise())


def pixels_of(path: Path) -> np.ndarray:
    return np.asarray(load_image(path))


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".webp"])
def test_save_lossy(tmp_path: Path, suffix: str) -> None:
    ramp = np.add.outer(np.arange(64), np.arange(64))[..., None].repeat(3, 2).astype(np.uint8)
    path = tmp_path / f"a{suffix}"
    save_image(Image.fromarray(ramp).convert("RGBA"), path, metadata={"style": "Cézanne"})
    assert np.abs(pixels_of(path).astype(int) - ramp).max() <= 8
    with Image.open(path) as image:
        assert image.format == ("WEBP" if suffix == ".webp" else "JPEG")
        assert image.getexif()[0x000B] == '{"style": "C\\u00e9zanne"}'


@pytest.mark.parametrize("name", ["a.gif", "a.tiff", "a", "a.pdf"])
def test_save_refuses_other_suffixes(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="cannot be written") as caught:
        save_image(Image.fromarray(noise()), tmp_path / name)
    assert ".png .jpg .jpeg .webp" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_full_disk_is_reported_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "a.png").write_bytes(b"old")
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OsasisError, match="No space left on device") as caught:
        save_image(Image.fromarray(noise()), tmp_path / "a.png")
    assert str(tmp_path / "a.png") in str(caught.value)
    assert "MB free" in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
    assert (tmp_path / "a.png").read_bytes() == b"old"


def test_save_below_a_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OsasisError, match="cannot write"):
        save_image(Image.fromarray(noise()), tmp_path / "file" / "a.png")


def test_unique_paths(tmp_path: Path) -> None:
    photos = [
        Path("a/x.jpg"),
        Path("b/x.png"),
        Path("b/X.webp"),
        Path("c/y.z.png"),
        Path("x-2.png"),
    ]
    names = [p.name for p in unique_paths(photos, tmp_path, ".png")]
    assert names == ["x.png", "x-2.png", "X-3.png", "y.z.png", "x-2-2.png"]
    assert names == [p.name for p in unique_paths(photos, tmp_path, ".png")]
    beside = [tmp_path / "x.png", tmp_path / "x.jpg", tmp_path / "x-2.png"]
    outputs = unique_paths(beside, tmp_path / "sub" / "..", ".png")
    assert [p.name for p in outputs] == ["x-3.png", "x-4.png", "x-2-2.png"]
    assert unique_paths(["a/x.jpg"], tmp_path, ".webp") == [tmp_path / "x.webp"]
    named = tmp_path / "x.osasis.safetensors"
    named.touch()
    assert free_path(named).name == "x-2.osasis.safetensors"
    with pytest.raises(UserError, match="cannot be written"):
        format_of(Path("a/x.gif"))


def test_contact_sheet_keeps_titles_off_the_cells() -> None:
    red, wide = Image.new("RGB", (50, 50), "red"), Image.new("RGB", (80, 40), "red")
    plain = contact_sheet([[red, None], [wide]], cell=64)
    long = "a title that is far too long for its place " * 3
    sheet = contact_sheet(
        [[red, None], [wide]], column_titles=[long, long], row_titles=[long, "b"], cell=64
    )
    dx, dy = sheet.width - plain.width, sheet.height - plain.height
    assert dx > 20
    assert dy > 10
    below = np.asarray(sheet)[dy:, dx:]
    assert np.array_equal(below, np.asarray(plain))  # the grid is the same, no ink strays in
    assert (np.asarray(plain)[:, 64 + 8 :] == 255).all()  # None, and a short row: white
    red_pixels = (np.asarray(plain) == [255, 0, 0]).all(axis=2).sum()
    assert red_pixels == 64 * 64 + 64 * 32


def test_contact_sheet_titles_have_no_missing_glyphs() -> None:
    cell = [[Image.new("RGB", (64, 64), "red")]]
    accented = contact_sheet(cell, column_titles=["Cézanne Été"], row_titles=["日"])
    plain = contact_sheet(cell, column_titles=["Cezanne Ete"], row_titles=["?"])
    assert np.array_equal(np.asarray(accented), np.asarray(plain))


def test_contact_sheet_errors() -> None:
    cell = Image.new("RGB", (50, 50))
    for rows, titles in (([], []), ([[]], []), ([[cell]], ["a", "b"])):
        with pytest.raises(ValueError, match="cannot lay out"):
            contact_sheet(rows, row_titles=titles)
