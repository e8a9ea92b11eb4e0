"""Pictures that a stranger made to hold a core, the memory, or the whole run."""

from __future__ import annotations

import io
import os
import struct
import tarfile
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from osasis.base import Base
from osasis.cli.main import main
from osasis.errors import OsasisError, UserError
from osasis.files import sha256
from osasis.imaging.load import decode_photo, load_image
from osasis.pretrain.data import ImageStream, index_images, try_decode
from osasis.stylize.stylizer import Stylizer

from ..conftest import picture


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def many_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan is there `count` times."""
    data = encoded(picture(0, 32), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * count + data[-2:]


def test_a_jpeg_of_many_scans_is_refused_before_decoding() -> None:
    decode_photo(many_scans(1))
    for count in (100, 1000):
        with pytest.raises(UserError, match="scans"):
            decode_photo(many_scans(count))


def test_what_looks_like_scans_inside_a_segment_or_behind_the_end_does_not_count() -> None:
    data = encoded(picture(0, 32), "JPEG", comment=b"\xff\xda" * 500) + b"\xff\xda" * 500
    assert decode_photo(data).image.size == (32, 32)


def test_tiles_of_gigabytes_are_refused_and_usual_ones_read() -> None:
    def tiled(side: int) -> bytes:
        tags = [(256, 64), (257, 64), (258, 8), (259, 1), (262, 1), (277, 1)]
        tags += [(322, side), (323, side), (324, 200), (325, 128 * 128)]
        rows = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
        head = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + rows + bytes(4)
        return head.ljust(200, b"\0") + bytes(128 * 128)

    assert decode_photo(tiled(128)).image.size == (64, 64)
    with pytest.raises(UserError, match="tiles of 46336"):
        decode_photo(tiled(46336))


def test_a_picture_that_claims_gigapixels_is_refused_in_our_words() -> None:
    head = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + head + struct.pack(">I", zlib.crc32(b"IHDR" + head))
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(head)) + chunk
    with pytest.raises(UserError) as caught:
        decode_photo(data + encoded(picture(0))[33:])
    assert str(caught.value) == (
        "the image has too many pixels: 2,500 megapixels, at most 64 megapixels are read"
    )


@pytest.mark.parametrize("size", [(16, 20_000), (20_000, 16)])
def test_a_thread_of_a_picture_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(UserError, match="too long"):
        decode_photo(encoded(Image.new("RGB", size)))


def test_tiles_have_a_limit(tiny_base: Base) -> None:
    painter = Stylizer(tiny_base, fit="tiles", tiles=30)
    with pytest.raises(OsasisError, match="at most 400"):
        painter.prepare(picture(0, 256))
    painter = Stylizer(tiny_base, fit="tiles", tiles=3)
    assert len(painter.prepare(picture(0, 256)).squares) == 9


def test_a_pipe_is_no_picture(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(UserError, match="not a regular file"):
        load_image(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("/dev/zero")
    for name in ("a.png", "b.png"):  # hashed to see what is done: neither waits nor ends
        with pytest.raises(UserError, match="not a regular file"):
            sha256(tmp_path / name)


def test_names_that_are_no_utf_8_are_written_as_they_are(
    tmp_path: Path, tiny_base_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = os.fsdecode(b"a\xff.png")
    for file in (name, "b.png"):
        picture(1).save(tmp_path / file)
    ranking = tmp_path / "r.csv"
    options = ["--base", str(tiny_base_path), "-o", str(ranking)]
    assert main(["density", str(tmp_path), *options]) == 0
    assert os.fsencode(name) in ranking.read_bytes()
    (tmp_path / "c.png").write_bytes(b"no picture")
    assert main(["density", str(tmp_path), *options[:2], "-o", str(tmp_path / "s.csv")]) == 1
    said = capsys.readouterr().err
    assert f"  {tmp_path / 'c.png'} is not an image" in said and "; if it opens" in said


def batches(source: str, count: int = 4) -> tuple[int, set[str]]:
    stream = ImageStream(index_images(source), 16, 2, 0)
    drawn = iter(stream)
    for _ in range(count):
        assert next(drawn).shape == (2, 3, 16, 16)
    return len(stream.entries), stream.bad


def test_training_starts_no_other_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    eps, started = encoded(picture(0, 32), "EPS"), tmp_path / "started"
    (tmp_path / "gs").write_text(f"#!/bin/sh\necho 10.0\ntouch {started}\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)  # Pillow remembers what it found

    class Eps:
        name = "a.png"

        def read(self) -> bytes:
            return eps

    assert try_decode(Eps(), 16) is None
    assert not started.exists()


def test_bad_files_in_a_folder_are_left_out(tmp_path: Path) -> None:
    for number in range(6):
        picture(number, 32).save(tmp_path / f"{number}.png")
    (tmp_path / "a.png").symlink_to(tmp_path / "nothing.png")
    os.mkfifo(tmp_path / "b.png")
    (tmp_path / "c.png").symlink_to("/dev/zero")
    assert batches(str(tmp_path)) == (9, {"a.png", "b.png", "c.png"})


@pytest.mark.parametrize("kind", ["huge", "sparse", "negative"])
def test_bad_members_of_a_shard_are_left_out(tmp_path: Path, kind: str) -> None:
    shard = tmp_path / "a.tar"
    with tarfile.open(shard, "w", format=tarfile.GNU_FORMAT) as tar:
        for number in range(6):
            data = encoded(picture(number, 32))
            info = tarfile.TarInfo(f"{number}.png")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    good = shard.read_bytes().rstrip(b"\0")
    good += bytes(-len(good) % 512)
    info = tarfile.TarInfo("bad.png")
    info.size = {"huge": 2**80, "negative": -1024}.get(kind, 10)
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    if kind == "sparse":
        header[156:157] = b"S"
        header[386:410] = b"00000000000\0" * 2  # one hole
        header[483:495] = b"77777777777\0"  # 8 GB
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
    shard.write_bytes(good + bytes(header) + bytes(2048))
    count, bad = batches(str(shard))
    assert (count, len(bad)) == (7, 1), (count, bad)
    os.mkfifo(tmp_path / "b.tar")  # as a shard itself
    assert batches(str(tmp_path / "*.tar"))[0] == 8


def test_rows_of_a_data_set_name_files_of_their_own_folder_only(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    folder = tmp_path / "set"
    folder.mkdir()
    picture(9, 32).save(tmp_path / "private.png")
    picture(8, 32).save(folder / "own.png")
    (folder / "link.png").symlink_to(tmp_path / "private.png")
    places = ["own.png", "link.png", "../private.png"]
    rows = [{"bytes": None, "path": str(folder / place)} for place in places]
    rows += [{"bytes": None, "path": "/dev/zero"}, {"bytes": encoded(picture(1, 32)), "path": None}]
    # reading a row must not decode its other columns: such as this start a program
    other = [{"bytes": encoded(picture(0, 32), "EPS"), "path": None}] * len(rows)
    table = datasets.Dataset.from_dict({"image": rows, "other": other})
    table = table.cast_column("image", datasets.Image(decode=False))
    table = table.cast_column("other", datasets.Image())
    table.to_parquet(str(folder / "train.parquet"))
    entries = index_images(f"hf:{folder}?column=image")
    readable = [try_decode(entry, 16) is not None for entry in entries]
    assert readable == [True, False, False, False, True]
    assert np.asarray(try_decode(entries[0], 16)).shape == (16, 16, 3)


@pytest.mark.parametrize(
    "comments", [b"\x21\xfe\x01a\0" * 200_000, b"\x21\xfe" + b"\x01a" * 400_000]
)
def test_a_gif_of_many_comments_is_refused_before_decoding(comments: bytes) -> None:
    """Pillow adds each block to those before: 5 MB of them take more than 23 s."""
    file = io.BytesIO()
    Image.new("P", (64, 64)).save(file, "GIF", comment=b"hello")
    plain = file.getvalue()
    assert decode_photo(plain).image.size == (64, 64)
    head = plain.index(b"\x21\xfe")
    began = time.process_time()
    with pytest.raises(UserError, match="comments"):
        decode_photo(plain[:head] + comments + b"\0" + plain[head:])
    assert time.process_time() - began < 1
