"""Films: one face followed, redrawn without flicker, sound and times kept."""

from __future__ import annotations

from contextlib import closing
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from osasis.base import Base, load_base
from osasis.config.catalogue import assets
from osasis.errors import OsasisError, UserError
from osasis.formats.style_file import Style
from osasis.imaging.faces import Face
from osasis.imaging.video import read_frames
from osasis.stylize.film import FilmConfig, redraw_film
from osasis.stylize.steady import Steady, flicker
from osasis.stylize.stylizer import Stylizer
from osasis.stylize.track import follow, smooth

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


def noisy_film(seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """A moving photo, and the same with noise of its own in every frame, as a redrawing has it."""
    noise = np.random.default_rng(seed)
    before = [np.asarray(shifted(i).resize((128, 128))) for i in range(8)]
    after = [(f + noise.normal(0, 12, f.shape)).clip(0, 255).astype(np.uint8) for f in before]
    return before, after


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
