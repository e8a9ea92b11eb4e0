"""Films: one face followed, redrawn without flicker, sound and times kept."""

from __future__ import annotations

from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from osasis.base import Base, load_base
from osasis.config.catalogue import assets
from osasis.errors import OsasisError, UserError
from osasis.formats.style_file import Style
from osasis.imaging.faces import Face
from osasis.imaging.video import FilmCopy, notes_on, open_film, pixel_shape, read_frames
from osasis.stylize import film as film_module
from osasis.stylize.film import FilmConfig, redraw_film
from osasis.stylize.steady import Steady, carry, follow, motion, smooth
from osasis.stylize.stylizer import Stylizer

from ..conftest import picture

av = pytest.importorskip("av")
FRAMES = 9
BLANK = 6  # the frame without a face


def shifted(step: int) -> Image.Image:
    """The astronaut, a little further to the left."""
    with Image.open(assets() / "photos" / "astronaut.png") as image:
        return image.convert("RGB").crop((90 + 3 * step, 0, 346 + 3 * step, 255))


def write_film(path: Path, frames: list[Image.Image]) -> Path:
    """Frames at uneven times, and a second of sound."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25, options={"crf": "10"})
        video.width, video.height, video.pix_fmt = frames[0].width, 254, "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000)
        sound = out.add_stream("aac", rate=44100)
        for i, image in enumerate(frames):
            frame = av.VideoFrame.from_image(image.crop((0, 0, image.width, 254)))
            frame.pts, frame.time_base = 40 * i + 15 * (i % 2), Fraction(1, 1000)
            out.mux(video.encode(frame))
        out.mux(video.encode())
        for start in range(0, 44100, 1024):
            wave = np.sin(np.arange(start, start + 1024) * 0.06).astype(np.float32)[None]
            block = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
            block.sample_rate, block.pts, block.time_base = 44100, start, Fraction(1, 44100)
            out.mux(sound.encode(block))
        out.mux(sound.encode())
    return path


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    frames = [shifted(i) for i in range(FRAMES)]
    frames[BLANK] = Image.new("RGB", frames[0].size, "gray")
    return write_film(tmp_path_factory.mktemp("film") / "clip.mp4", frames)


@pytest.fixture(scope="module")
def stylizer(tiny_base_path: Path, tiny_style: Style) -> Stylizer:
    base = load_base(tiny_base_path)
    base.domain = "faces"
    return Stylizer(base, tiny_style, batch_size=4)


def times_and_sound(path: Path) -> tuple[list[float], list[bytes]]:
    with av.open(str(path)) as opened:
        times = [float(frame.time) for frame in opened.decode(video=0)]
    with av.open(str(path)) as opened:
        return times, [bytes(p) for p in opened.demux(audio=0) if p.dts is not None]


def test_a_film_keeps_times_sound_and_all_but_the_face(
    film: Path, stylizer: Stylizer, tmp_path: Path
) -> None:
    config = FilmConfig(longest_gap=0)
    steps = list(redraw_film(stylizer, film, tmp_path / "out.mp4", config))
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]
    assert (steps[-1].done, steps[-1].total) == (FRAMES, FRAMES)
    times, sound = times_and_sound(film)
    new_times, new_sound = times_and_sound(tmp_path / "out.mp4")
    assert new_times == pytest.approx(times, abs=1e-3)
    assert new_sound == sound
    before = [frame.astype(int) for frame in read_frames(film)]
    after = [frame.astype(int) for frame in read_frames(tmp_path / "out.mp4")]
    for i, (one, other) in enumerate(zip(before, after, strict=True)):
        difference = np.abs(one - other)
        face = difference[80:170, 100 - 3 * i : 160 - 3 * i].mean()
        assert face < 4 if i == BLANK else face > 8
        assert difference[:, 230:].mean() < 4


def test_frames_have_the_limit_of_photos(
    film: Path, stylizer: Stylizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as limited:
        limited.setattr("osasis.imaging.video.MAX_PIXELS", 60_000)
        with pytest.raises(UserError, match="256 x 254"):
            list(redraw_film(stylizer, film, tmp_path / "o.mkv"))
    monkeypatch.setattr(film_module, "WAITING_PIXELS", 1)  # every frame by itself
    steps = redraw_film(stylizer, film, tmp_path / "o.mkv")
    done = [step.done for step in steps if step.phase == "redraw"]
    assert done == list(range(1, len(done) + 1))


def test_stopping_leaves_nothing(film: Path, stylizer: Stylizer, tmp_path: Path) -> None:
    with closing(redraw_film(stylizer, film, tmp_path / "out.mp4")) as steps:
        for step in steps:
            if step.phase == "redraw":
                break
    assert list(tmp_path.iterdir()) == []


def test_films_that_cannot_be_redrawn(
    film: Path, stylizer: Stylizer, tiny_base: Base, tiny_style: Style, tmp_path: Path
) -> None:
    text, out = tmp_path / "text.mp4", tmp_path / "out.mp4"
    text.write_text("I am no film")
    landscape = write_film(tmp_path / "empty.mp4", [picture(i, 256) for i in range(2)])
    cut_short = tmp_path / "half.mp4"
    cut_short.write_bytes(film.read_bytes()[:5000])
    other = Stylizer(tiny_base, tiny_style)  # does not say that it draws faces
    for wrong, error, said in (
        (lambda: redraw_film(stylizer, tmp_path / "no.mp4", out), UserError, "does not exist"),
        (lambda: redraw_film(stylizer, tmp_path, out), UserError, "is a folder"),
        (lambda: redraw_film(stylizer, text, out), UserError, "not a film"),
        (lambda: redraw_film(stylizer, cut_short, out), OsasisError, "half.mp4"),
        (lambda: redraw_film(stylizer, film, tmp_path / "out.gif"), UserError, ".mp4 .mov .mkv"),
        (lambda: redraw_film(stylizer, landscape, out), OsasisError, "no face"),
        (lambda: redraw_film(other, film, out), UserError, "base of faces"),
    ):
        with pytest.raises(error) as caught:
            list(wrong())
        assert said in f"{caught.value} {caught.value.hint}"
    assert not out.exists()
    with pytest.raises(UserError):
        Steady(1.0)


def test_pictures_that_are_no_films(film: Path, tmp_path: Path) -> None:
    faces = [picture(i, 64) for i in range(3)]
    for name, said in (
        ("one.jpg", "a picture, not a film"),
        ("one.png", "a picture, not a film"),
        ("one.webp", "a picture, not a film"),
        ("moving.webp", "an animated WebP that FFmpeg cannot read"),
    ):
        more = {"save_all": True, "append_images": faces[1:]} if "moving" in name else {}
        faces[0].save(tmp_path / name, **more)
        with pytest.raises(UserError, match=said), open_film(tmp_path / name):
            pass
    for name in ("text.webp", "text.jpg", "text.mp4"):
        (tmp_path / name).write_text("I am no film")
        with pytest.raises(UserError, match="not a film that can be read") as caught:
            list(read_frames(tmp_path / name))
        assert "Errno" not in str(caught.value)
    (tmp_path / "empty.mp4").write_bytes(b"")
    with pytest.raises(UserError, match="is empty"), open_film(tmp_path / "empty.mp4"):
        pass
    for name in ("moving.gif", "moving.png"):
        faces[0].save(tmp_path / name, save_all=True, append_images=faces[1:])
        assert len(list(read_frames(tmp_path / name))) == 3


# -- what a film is --------------------------------------------------------------------------------

BARS = ((200, 40, 40), (40, 160, 60), (40, 60, 200), (230, 220, 60), (128, 128, 128), (20, 20, 20))


def bars(width: int = 96, height: int = 64) -> np.ndarray:
    columns = np.arange(width) * len(BARS) // width
    return np.broadcast_to(np.array(BARS, np.uint8)[columns], (height, width, 3)).copy()


def write_plain(
    path: Path, pixels: np.ndarray, tags: tuple[int, int, int, int] | None = None, **stream: object
) -> Path:
    """Six frames, equal where `pixels` is one; tags: range, matrix, primaries, transfer (H.273)."""
    kind = str(stream.pop("pix_fmt", "yuv444p"))
    tracks, cover = int(stream.pop("tracks", 0)), bool(stream.pop("cover", False))  # type: ignore[call-overload]
    options = {"crf": "4", **stream.pop("options", {})}  # type: ignore[dict-item]
    matrix = tags[1] if tags else 5
    frames = pixels if pixels.ndim == 4 else [pixels] * 6
    pixels = frames[0]
    with av.open(str(path), "w") as out:
        out.metadata["title"] = "At the sea"
        if cover:
            picture_stream = out.add_stream("mjpeg", rate=1)
            picture_stream.width = picture_stream.height = 64
            picture_stream.pix_fmt = "yuvj420p"
            picture_stream.disposition = av.stream.Disposition.attached_pic
        video = out.add_stream("libx264", rate=25, options=options)
        video.width, video.height, video.pix_fmt = pixels.shape[1], pixels.shape[0], kind
        context = video.codec_context
        if tags:
            context.color_range, context.colorspace = tags[:2]
            context.color_primaries, context.color_trc = tags[2:]
        if "sar" in stream:
            context.sample_aspect_ratio = stream["sar"]
        sounds = [out.add_stream("aac", rate=44100) for _ in range(tracks)]
        for sound, language in zip(sounds, ("eng", "fra"), strict=False):
            sound.metadata["language"] = language
        if cover:
            black = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
            out.mux(picture_stream.encode(black.reformat(format="yuvj420p")))
        for i in range(6):
            frame = coded(frames[i], matrix, full=bool(tags and tags[0] == 2))
            frame = frame.reformat(format=kind) if kind != "yuv444p" else frame
            frame.pts, frame.time_base = i, Fraction(1, 25)
            out.mux(video.encode(frame))
        out.mux(video.encode())
        for sound in sounds:
            block = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            block.sample_rate, block.pts, block.time_base = 44100, 0, Fraction(1, 44100)
            out.mux(sound.encode(block))
            out.mux(sound.encode())
    return path


def weights(matrix: int) -> tuple[float, float]:
    """Of red and blue in the luma (H.273)."""
    return {1: (0.2126, 0.0722), 5: (0.299, 0.114), 9: (0.2627, 0.0593)}[matrix]


def coded(pixels: np.ndarray, matrix: int, *, full: bool) -> Any:
    """A frame in 4:4:4 by the definition of its matrix."""
    red, blue = weights(matrix)
    r, g, b = (pixels[..., i] / 255.0 for i in range(3))
    luma = red * r + (1 - red - blue) * g + blue * b
    spans = (255, 0, 255) if full else (219, 16, 224)
    planes = [luma * spans[0] + spans[1]]
    for value, weight in ((b, blue), (r, red)):
        planes.append((value - luma) / (2 * (1 - weight)) * spans[2] + 128)
    stacked = np.stack([np.rint(p).clip(0, 255).astype(np.uint8) for p in planes])
    return av.VideoFrame.from_ndarray(stacked, format="yuv444p")


def shown(path: Path, matrix: int, *, full: bool) -> np.ndarray:
    """The first frame as a player shows it, by the definition of its matrix."""
    red, blue = weights(matrix)
    with av.open(str(path)) as opened:
        frame = next(opened.decode(video=0))
    kind = "yuvj444p" if full else "yuv444p"
    y, u, v = frame.reformat(format=kind).to_ndarray().astype(float)
    luma = y / 255 if full else (y - 16) / 219
    u, v = ((c - 128) / (255 if full else 224) for c in (u, v))
    r, b = luma + 2 * (1 - red) * v, luma + 2 * (1 - blue) * u
    g = (luma - red * r - blue * b) / (1 - red - blue)
    return np.stack([r, g, b], axis=-1) * 255


def copied(source: Path, output: Path) -> Path:
    """The film once in and out, nothing redrawn."""
    with open_film(source) as opened, FilmCopy(opened, output) as copy:
        for frame, pixels in copy.frames():
            copy.write(pixels, frame)
    return output


TAGGED = {
    "BT.601": (1, 5, 5, 6),
    "BT.709": (1, 1, 1, 1),
    "full range": (2, 5, 1, 1),
    "BT.2020": (1, 9, 9, 1),
}


@pytest.mark.parametrize("tags", TAGGED.values(), ids=TAGGED)
def test_colors_and_their_tags_stay(tmp_path: Path, tags: tuple[int, int, int, int]) -> None:
    film = write_plain(tmp_path / "a.mp4", bars(), tags)
    out = copied(film, tmp_path / "out.mp4")
    with av.open(str(out)) as opened:
        context = opened.streams.video[0].codec_context
        found = context.color_range, context.colorspace, context.color_primaries, context.color_trc
    assert tuple(map(int, found)) == tags
    inner = np.s_[4:-4, [8, 24, 40, 56, 72, 88]]  # away from edges: colours are stored for two
    before, after = (shown(p, tags[1], full=tags[0] == 2)[inner] for p in (film, out))
    assert np.abs(before - bars()[inner]).max() < 3
    assert np.abs(after - before).mean() <= 1
    assert np.abs((after - before).mean(axis=(0, 1))).max() < 0.4  # no colour is added
    assert np.abs(next(read_frames(film))[inner] - bars()[inner].astype(float)).max() < 3


def test_large_films_without_tags_are_bt709(tmp_path: Path) -> None:
    film = write_plain(tmp_path / "a.mp4", bars(96, 720), None)
    frame = next(read_frames(film)).astype(float)
    as_709 = shown(film, 1, full=False)
    assert np.abs(frame[4:-4, 8] - as_709[4:-4, 8]).max() < 3


def test_all_else_of_a_film_stays(tmp_path: Path) -> None:
    film = write_plain(tmp_path / "12:30 a.mkv", bars(97, 65), sar=Fraction(4, 3), tracks=2)
    out = copied(film, tmp_path / "12:31 b.mkv")
    with av.open(f"file:{out}") as opened:
        video, *sounds = opened.streams
        assert (video.width, video.height, video.sample_aspect_ratio) == (97, 65, Fraction(4, 3))
        assert [s.metadata["language"] for s in sounds] == ["eng", "fra"]
        assert opened.metadata["title"] == "At the sea"
    assert pixel_shape(film) == pytest.approx(4 / 3)


def test_a_cover_is_not_the_film(tmp_path: Path) -> None:
    film = write_plain(tmp_path / "a.mp4", bars(), cover=True)
    with open_film(film) as opened:
        assert "another picture" in notes_on(opened, ".mp4")[0]
    assert [frame.shape for frame in read_frames(film)] == [(64, 96, 3)] * 6


def test_interlaced_films_are_deinterlaced_and_that_is_said(tmp_path: Path) -> None:
    edges = np.full((12, 64, 96, 3), 40, np.uint8)  # a bright area that grows, field by field
    for i, field in enumerate(edges):
        field[:, : 20 + 5 * i] = 200
    rows = edges[::2].copy()
    rows[:, 1::2] = edges[1::2, 1::2]
    film = write_plain(
        tmp_path / "a.mp4", rows, pix_fmt="yuv420p", options={"x264-params": "tff=1"}
    )
    with open_film(film) as opened:
        assert "interlaced" in notes_on(opened, ".mp4")[0]
    frames = [frame.astype(int) for frame in read_frames(film)]
    assert len(frames) == 6
    assert np.abs(np.diff(rows[3, 8:-8, :, 0].astype(int), axis=0)).mean() > 8  # the comb
    assert np.abs(np.diff(frames[3][8:-8, :, 0], axis=0)).mean() < 2


def test_hdr_comes_back_as_sdr(tmp_path: Path) -> None:
    """White at 203 cd/m2, the reference, and a grey below it."""
    grey = np.array([0.25, 1.0]) * 203 / 10000
    p = grey**0.1593017578125
    code = ((0.8359375 + 18.8515625 * p) / (1 + 18.6875 * p)) ** 78.84375
    pixels = np.rint(np.repeat(code, 48)[None, :, None].repeat(64, 0).repeat(3, 2) * 255)
    film = write_plain(tmp_path / "a.mp4", pixels.astype(np.uint8), (1, 9, 9, 16))
    frame = next(read_frames(film)).astype(float)
    assert frame[:, 16].mean() == pytest.approx(255 * (1.099 * 0.25**0.45 - 0.099), abs=4)
    assert frame[:, 80].mean() > 235
    with open_film(film) as opened:
        assert "HDR" in notes_on(opened, ".mp4")[0]
    with av.open(str(copied(film, tmp_path / "out.mp4"))) as opened:
        assert int(opened.streams.video[0].codec_context.color_trc) == 1


def test_what_a_cut_film_still_has_is_read(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    options = {"g": "1", "movflags": "faststart"}
    film = write_plain(tmp_path / "a.mkv", noise, options=options)
    data = film.read_bytes()
    film.write_bytes(data[: len(data) * 7 // 10])
    notes: list[str] = []
    assert 2 <= len(list(read_frames(film, notes))) < 6


def test_a_damaged_first_picture_stops_nothing(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    film = write_plain(tmp_path / "a.mp4", noise, options={"g": "1"})
    with av.open(str(film)) as opened:
        first = next(opened.demux(video=0))
        place, size = first.pos, first.size
    data = bytearray(film.read_bytes())
    data[place : place + size] = bytes(size)
    film.write_bytes(data)
    assert pixel_shape(film) == 1
    notes: list[str] = []
    assert len(list(read_frames(film, notes))) >= 2 and "damaged" in notes[0]


def noisy_film(seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """A moving photo, and the same with noise of its own in every frame, as a redrawing has it."""
    noise = np.random.default_rng(seed)
    before = [np.asarray(shifted(i).resize((128, 128))) for i in range(8)]
    after = [(f + noise.normal(0, 12, f.shape)).clip(0, 255).astype(np.uint8) for f in before]
    return before, after


def flicker(frames: list[np.ndarray], inputs: list[np.ndarray]) -> float:
    """Mean absolute difference between consecutive frames after the motion is taken out.

    Each frame is compared with the one before, carried along the optical flow of the inputs; in
    gray levels, 0 to 255, over all pixels and channels.

    Args:
        frames: (H, W, 3) uint8, what is judged.
        inputs: (H, W, 3) uint8, what they were made from; given twice, the inputs' own flicker.
    """
    total = []
    for i in range(1, len(frames)):
        flow = motion(inputs[i], inputs[i - 1])
        carried = carry(frames[i - 1].astype(np.float32), flow)
        total.append(float(np.abs(frames[i] - carried).mean()))
    return float(np.mean(total)) if total else 0.0


def test_steady_results_flicker_less_and_do_not_lag() -> None:
    before, after = noisy_film(0)
    assert flicker(before, before) < 4
    steady = Steady(0.8)
    calm = [steady(b, a) for b, a in zip(before, after, strict=True)]
    assert flicker(calm, before) < 0.5 * flicker(after, before)
    clean = np.abs(calm[-1].astype(int) - before[-1]).mean()
    assert clean < np.abs(after[-1].astype(int) - before[-1]).mean()
    other = np.asarray(picture(5, 128))
    assert np.abs(steady(other, other).astype(int) - other).mean() < 3  # a cut that was not seen
    steady.reset()
    assert np.array_equal(steady(before[0], after[0]), after[0])
    off = Steady(0.0)
    assert all(np.array_equal(off(b, a), a) for b, a in zip(before, after, strict=True))


def face(x: float, size: float = 50.0) -> Face:
    points = ((0, 0), (size, 0), (size / 2, size / 2), (0, size), (size, size))
    return Face((x, 0, x + size, size), tuple((x + a, b) for a, b in points), 1.0)


def test_following_a_face() -> None:
    steady, other = [face(2.0 * i) for i in range(8)], face(400, 60)
    frames = [[other, f] if i > 2 else [f] for i, f in enumerate(steady)]
    frames[4] = []
    (shot,) = follow(frames, longest_gap=2)  # stays with the first face, and over the gap
    assert shot.first == 0
    assert shot.landmarks[:, 0, 0] == pytest.approx(2.0 * np.arange(8))
    frames[4:7] = [[], [], []]
    assert [(s.first, len(s.landmarks)) for s in follow(frames, longest_gap=2)] == [(0, 4), (7, 1)]
    assert follow([[], []], longest_gap=2) == []


def test_smoothing_keeps_motion_and_takes_jitter() -> None:
    times = np.arange(30.0)
    line = np.column_stack([3 * times + 1, 5 - times])
    assert smooth(line, 2.0) == pytest.approx(line)
    jitter = line + np.random.default_rng(0).normal(0, 1, line.shape)
    calm = smooth(jitter, 2.0)
    assert np.diff(calm - line, axis=0).std() < 0.3 * np.diff(jitter - line, axis=0).std()
    assert np.array_equal(smooth(jitter, 0), jitter)
