"""Photos as they come: faces put back, batches, what is done again and what is not."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from osasis.base import Base, load_base
from osasis.config.catalogue import assets
from osasis.config.controls import Controls
from osasis.errors import OsasisError, UserError
from osasis.formats.records import Manifest, Results, file_hash, result_key
from osasis.formats.style_file import Style, load_style
from osasis.imaging.align import Similarity, align, cut
from osasis.imaging.blend import Patch, enlarge, put_back
from osasis.imaging.faces import FaceDetector
from osasis.imaging.find import find_photos
from osasis.imaging.squares import Canvas, Redrawn, Squares
from osasis.learn.content import squares_of
from osasis.stylize.batch import BatchRunner, Task, photo_seed
from osasis.stylize.stylizer import Stylizer

from ..conftest import picture

GRAY = 100


@pytest.fixture(scope="module")
def group() -> Image.Image:
    """Three faces, one of them leaning."""
    with Image.open(assets() / "photos" / "astronaut.png") as image:
        person = image.convert("RGB")
    photo = Image.new("RGB", (1100, 520), (GRAY,) * 3)
    photo.paste(person.crop((90, 0, 400, 512)), (0, 0))
    photo.paste(person.resize((350, 350)).crop((60, 0, 280, 350)), (380, 100))
    photo.paste(person.rotate(20, Image.Resampling.BICUBIC, center=(224, 120)), (620, 0))
    return photo


def flat(value: int, *shape: int) -> np.ndarray:
    return np.full((*shape, 3), value, dtype=np.uint8)


def face_squares(photo: np.ndarray, size: int = 64) -> list[tuple[Similarity, np.ndarray]]:
    places = [align(face, size) for face in FaceDetector()(photo)]
    return [(place, cut(photo, place, (size, size))) for place in places]


# -- putting back ------------------------------------------------------------------------------


def test_what_was_not_changed_comes_back_exactly(group: Image.Image) -> None:
    photo = np.asarray(group)
    patches = [Patch(place, square, square) for place, square in face_squares(photo)]
    assert len(patches) == 3
    assert np.array_equal(put_back(photo, patches, Controls(detail=1)), photo)


@pytest.mark.parametrize("match_color", [True, False])
def test_a_square_has_no_visible_edge(match_color: bool) -> None:
    photo = flat(GRAY, 400, 500)
    place = Similarity(complex(0.3, 0.1), complex(-40, -50))
    patch = Patch(place, flat(GRAY, 64, 64), flat(220, 64, 64))
    out = put_back(photo, [patch], Controls(match_color=match_color)).astype(int)
    middle = place.inverse(np.array([32.0, 32.0])).astype(int)
    assert out[middle[1], middle[0], 0] == 220
    for axis in (0, 1):
        assert np.abs(np.diff(out, axis=axis)).max() <= 12  # of the 120 between the two
    rows, columns = np.indices((400, 500)) + 0.5
    inside = place(np.stack([columns, rows], axis=-1))
    outside = ((inside < 0) | (inside > 64)).any(axis=-1)
    assert (out[outside] == GRAY).all()


def test_colors_match_towards_the_edge() -> None:
    photo = flat(GRAY, 200, 200)
    patch = Patch(Similarity(0.5 + 0j, -18 - 18j), flat(GRAY, 64, 64), flat(220, 64, 64))
    plain, matched = (
        put_back(photo, [patch], Controls(match_color=m)).astype(int) for m in (False, True)
    )
    assert plain[100, 100, 0] == matched[100, 100, 0] == 220
    assert (matched <= plain).all()
    assert matched[100, 52, 0] < plain[100, 52, 0] - 20


def test_neighbours_share_without_a_gap() -> None:
    """Where two squares overlap, no photo shines through, and nothing is added twice."""
    places = [Similarity(0.5 + 0j, complex(-x, -20)) for x in (20, 40)]
    patches = [Patch(p, flat(GRAY, 64, 64), flat(220, 64, 64)) for p in places]
    out = put_back(flat(GRAY, 200, 260), patches, Controls(match_color=False)).astype(int)
    between = out[80:130, 90:160, 0]  # the squares begin at 40 and 80 and end at 168 and 208
    assert between.min() >= 218
    assert between.max() <= 222


def test_many_squares_take_time_by_their_number_not_by_its_square() -> None:
    squares = Squares(Controls(fit="tiles", tiles=20), Canvas(32, 16, faces=True, in_pixels=False))
    prepared = squares.prepare(Image.fromarray(flat(GRAY, 480, 480)))
    assert len(prepared.squares) == 400
    began = time.process_time()
    redrawn = squares.finish(prepared, [flat(150, 32, 32)] * 400)
    assert time.process_time() - began < 5
    assert np.asarray(redrawn.picture).mean() == pytest.approx(150, abs=0.5)


def test_squares_that_cover_leave_no_photo() -> None:
    corners = [complex(x, y) for x in (0, 68) for y in (0, 36)]
    patches = [
        Patch(Similarity(0.5 + 0j, -0.5 * corner), flat(GRAY, 64, 64), flat(220, 64, 64))
        for corner in corners
    ]
    out = put_back(flat(GRAY, 164, 196), patches, Controls(detail=0), cover=True).astype(int)
    assert np.abs(out - 220).max() <= 6  # 5% of the change: weights are interpolated


def test_detail_adds_what_the_square_lost(group: Image.Image) -> None:
    photo = np.asarray(group)
    (place, square), *_ = face_squares(photo, size=32)

    def energy(detail: float) -> float:
        out = put_back(photo, [Patch(place, square, square)], Controls(detail=detail))
        middle = place.inverse(np.array([(8.0, 8.0), (24.0, 24.0)])).astype(int)
        part = out[slice(*sorted(middle[:, 1])), slice(*sorted(middle[:, 0]))].astype(float)
        return float(np.square(np.diff(part, axis=0)).mean())

    energies = [energy(d) for d in (0.0, 0.5, 1.0)]
    assert energies == sorted(energies)
    assert energies[2] > 1.5 * energies[0]


@pytest.mark.parametrize("whole", [True, False])
def test_what_sinks_into_a_dark_ground_leaves_no_scratches(whole: bool) -> None:
    stripes = flat(150, 128, 128)
    stripes[:, ::2] += 80
    small = np.asarray(Image.fromarray(stripes).resize((64, 64), Image.Resampling.BOX))

    def spread(light: int) -> float:
        drawn = flat(light, 64, 64)
        if whole:
            out = enlarge(stripes, small, drawn, 0.5)
        else:
            out = put_back(stripes, [Patch(Similarity(0.5 + 0j, 0j), small, drawn)], Controls())
        return float(out[56:72, 56:72].astype(float).std())

    assert spread(140) == pytest.approx(0.5 * 40, rel=0.1)
    assert spread(20) < 0.2 * 40


@pytest.mark.parametrize("wrong", [{"feather": 0}, {"detail": 1.1}])
def test_wrong_blends(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError):
        Controls(**wrong)  # type: ignore[arg-type]


# -- what of a photo is redrawn ----------------------------------------------------------------


def test_every_face_is_redrawn_and_the_rest_is_not(
    tiny_base: Base, tiny_style: Style, group: Image.Image
) -> None:
    def changed(largest: bool) -> np.ndarray:
        stylizer = Stylizer(tiny_base, tiny_style, fit="faces", largest_face=largest)
        assert len(stylizer.prepare(group).squares) == (1 if largest else 3)
        redrawn = stylizer(group)
        assert redrawn.size == group.size
        difference = np.abs(np.asarray(redrawn, int) - np.asarray(group, int))
        return difference.max(axis=2) > 8

    every, one = changed(False), changed(True)
    faces = [tuple(int(v) for v in face.box) for face in FaceDetector()(group)]
    for left, top, right, bottom in faces:
        assert every[top:bottom, left:right].mean() > 0.5
    assert sum(bool(one[b[1] : b[3], b[0] : b[2]].mean() > 0.5) for b in faces) == 1
    assert not every[400:].any()  # suits


def test_a_photo_turned_by_exif(
    tiny_base: Base, tiny_style: Style, group: Image.Image, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    group.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    stylizer = Stylizer(tiny_base, tiny_style, fit="faces")
    from_file, from_memory = stylizer([tmp_path / "turned.png", group])
    assert np.array_equal(np.asarray(from_file), np.asarray(from_memory))


def test_an_aligned_square_is_redrawn_to_its_edge(
    tiny_base: Base, tiny_style: Style, group: Image.Image
) -> None:
    face = min(FaceDetector()(group), key=lambda face: abs(np.angle(align(face, 1).a)))
    corners = align(face, 100).inverse(np.array([(3.0, 4.0), (97.0, 98.0)]))
    square = group.crop(tuple(corners.ravel().astype(int).tolist()))
    stylizer = Stylizer(tiny_base, tiny_style, fit="faces")
    assert not stylizer.prepare(square).places
    out = stylizer(square)
    assert out.size == square.size
    frame = np.abs(np.asarray(out, int) - np.asarray(square, int))[0]
    assert frame.mean() > 3
    assert stylizer.prepare(square.rotate(90)).places  # but not one that lies on its side


def test_no_face_is_said(tiny_base: Base, tiny_style: Style) -> None:
    stylizer = Stylizer(tiny_base, tiny_style, fit="faces")
    with pytest.raises(OsasisError, match="no face") as caught:
        stylizer(picture(3, 200))
    assert "--no-align" in caught.value.hint


def test_other_fits(tiny_base: Base, tiny_style: Style) -> None:
    base, photo = Stylizer(tiny_base, tiny_style), picture(3, 200).resize((310, 200))
    whole = Stylizer(tiny_base, tiny_style, fit="whole")

    def out(**changes: object) -> np.ndarray:
        stylizer = Stylizer(tiny_base, tiny_style, **changes)
        return np.asarray(stylizer(photo), dtype=int)

    assert out().shape == (32, 32, 3)  # the tiny base does not say it draws faces
    assert np.array_equal(out(), np.asarray(base(photo)))
    for redrawn in (out(fit="whole"), out(fit="tiles", tiles=2)):
        assert redrawn.shape == (200, 310, 3)
        for part in (redrawn[:20], redrawn[-20:], redrawn[:, :20], redrawn[:, -20:]):
            assert np.isfinite(part).all()
        difference = np.abs(redrawn - np.asarray(photo, dtype=int))
        assert all(difference[y, x].max() > 2 for y in (1, -2) for x in (1, -2))
    prepared = whole.prepare(photo)
    height, width = prepared.squares[0].shape[:2]
    assert (height, width % tiny_base.stride) == (32, 0)
    assert width / height == pytest.approx(310 / 200, abs=0.15)
    with pytest.raises(OsasisError, match="too long"):
        whole(photo.resize((400, 100)))


@pytest.mark.parametrize("wrong", [{"fit": "squash"}, {"tiles": 0}])
def test_wrong_photo_configs(wrong: dict[str, object]) -> None:
    with pytest.raises(UserError):
        Controls(**wrong)  # type: ignore[arg-type]


# -- which photos ------------------------------------------------------------------------------


def test_finding_photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("in/a.png", "in/deep/er/b.png", "in/deep/c.jpg", "in/out/a.png", "d.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        picture(1).save(name)

    def names(given: list[str], listed: Sequence[str] = ()) -> list[str]:
        return [p.name for p in find_photos(given, listed, outputs=[tmp_path / "in/out/a.png"])]

    inside = ["a.png", "deep/c.jpg", "deep/er/b.png"]
    assert names(["in"]) == inside
    assert names(["d.png", "in", "d.png"]) == ["d.png", *inside]
    assert names(["in/**/*.png"]) == ["a.png", "b.png"]
    assert names(["in/out/a.png"]) == ["a.png"]  # named outright
    assert names(["-"], ["d.png\n", "\n", "nowhere.png\n"]) == ["d.png", "nowhere.png"]
    for wrong in ("nowhere.png", "*.webp", "in/out"):
        with pytest.raises(UserError):
            names([wrong])


# -- batches -----------------------------------------------------------------------------------


class Picky(Stylizer):
    """Fails on squares that are red, as a network does that overflows."""

    def redraw(self, squares: Sequence[np.ndarray], seeds: Sequence[int]) -> list[np.ndarray]:
        if any(square[0, 0].tolist() == [255, 0, 0] for square in squares):
            raise OsasisError("not a number")
        return super().redraw(squares, seeds)


def make_tasks(folder: Path, count: int) -> list[Task]:
    tasks = []
    for i in range(count):
        picture(i).save(folder / f"{i}.png")
        tasks.append(Task(folder / f"{i}.png", folder / "out" / f"{i}.png", i, {"made": "so"}))
    return tasks


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_batch_does_all_that_can_be_done(
    tiny_base: Base, tiny_style: Style, tmp_path: Path, jobs: int
) -> None:
    tasks = make_tasks(tmp_path, 7)
    Image.new("RGB", (32, 32), (255, 0, 0)).save(tasks[3].path)
    tasks[5].path.write_text("no picture")
    saved: dict[int, Redrawn] = {}

    def save(task: Task, photo_hash: str, redrawn: Redrawn) -> None:
        if task.seed == 6:
            raise OsasisError("the disk is full")
        saved[task.seed] = redrawn

    stylizer = Picky(tiny_base, tiny_style, batch_size=3, variation=0.5)
    runner = BatchRunner(stylizer, save, lambda task, _: task.seed == 1, jobs)
    outcomes = {task.seed: outcome for task, outcome in runner.run(tasks)}
    assert {i for i, o in outcomes.items() if isinstance(o, OsasisError)} == {3, 5, 6}
    assert outcomes[1] is False
    assert set(saved) == {0, 2, 4}
    for i, redrawn in saved.items():  # the seed is the photo's own
        seed = photo_seed(i, file_hash(tasks[i].path))
        alone_with = Stylizer(tiny_base, tiny_style, variation=0.5, seed=seed)
        alone = alone_with(tasks[i].path)
        assert np.abs(np.asarray(alone, int) - np.asarray(redrawn.picture, int)).max() <= 1


def test_the_manifest_knows_what_is_done(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path)
    output = tmp_path / "sub" / "a.png"
    output.parent.mkdir()
    output.touch()
    key = result_key("1234", {"style": "x"})
    assert key != result_key("1235", {"style": "x"}) != result_key("1234", {"style": "y"})
    manifest.add(output, [output], {"key": key})
    assert Manifest(tmp_path).has(output, key)
    assert not Manifest(tmp_path).has(output, "another")
    with (tmp_path / "manifest.jsonl").open("a") as file:
        file.write('{"output": "b.png", "fil')  # a kill
    again = Manifest(tmp_path)
    assert again.has(output, key)
    assert again.outputs == [output]
    again.add(tmp_path / "c.png", [tmp_path / "c.png"], {"key": "c"})
    lines = (tmp_path / "manifest.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["output"] == "c.png"
    output.unlink()
    assert not Manifest(tmp_path).has(output, key)


def test_a_whole_portrait_is_drawn_where_its_face_has_twice_the_bases_size_at_most() -> None:
    with Image.open(assets() / "photos" / "astronaut.png") as image:
        person = image.convert("RGB")
    base, style = load_base(), load_style("memling_maria")
    auto, whole = Stylizer(base, style), Stylizer(base, style, fit="whole")
    waist, large = person.resize((1024, 1024)), person.resize((1500, 1500))
    head = person.crop((130, 0, 330, 200))

    def drawn(stylizer: Stylizer, photo: Image.Image) -> tuple[int, ...]:
        return stylizer.prepare(photo).squares[0].shape[:2]

    assert drawn(auto, person) == drawn(whole, person) == (800, 800)  # enlarged to the base's size
    assert drawn(auto, person.resize((256, 256))) == (512, 512)  # no more than twice
    # within 1,024 pixels the face would be a quarter larger, which does not pay
    assert drawn(auto, waist) == drawn(whole, waist) == drawn(auto, large) == (800, 800)
    assert drawn(auto, head.resize((480, 480))) == (480, 480)  # no pixels are made up for more
    big = head.resize((1024, 1024))
    assert (500, 500) < drawn(auto, big) < (680, 680)
    # features that are drawn anew have the base's size
    for anew in ({"attributes": (("smiling", 1.0),)}, {"t0": 500}):
        assert drawn(Stylizer(base, style, **anew), big) < (340, 340)
    assert squares_of(base, [person.resize((1800, 1800))], 4)[0].shape[2:] == (256, 256)
    # a face far off enlarges nothing, and pictures without a face keep their size
    far = Image.new("RGB", (1024, 1024), "gray")
    far.paste(person.resize((256, 256)))
    assert drawn(whole, far) == (1024, 1024)
    assert drawn(whole, Image.new("RGB", (640, 512), "gray")) == (512, 640)


def test_faces_in_photos_have_as_many_pixels_as_the_smallest_fills() -> None:
    with Image.open(assets() / "photos" / "astronaut.png") as image:
        person = image.convert("RGB")
    stylizer = Stylizer(load_base(), load_style("memling_maria"), fit="faces")

    def side(*widths: int) -> int:
        group = Image.new("RGB", (sum(widths) + 600, 3 * max(widths)), "gray")
        for k, width in enumerate(widths):
            group.paste(person.resize((width, width)), (300 + sum(widths[:k]), width))
        squares = stylizer.prepare(group).squares
        assert len(squares) == len(widths)
        return squares[0].shape[0]

    assert side(512) == 256
    assert side(1000) == 256
    assert 370 < side(1350) < 420
    assert side(600, 1350) == 256
    assert 470 < side(1800) <= 512


def test_a_person_up_to_the_waist_is_a_portrait() -> None:
    with Image.open(assets() / "photos" / "astronaut.png") as image:
        person = image.convert("RGB")
    stylizer = Stylizer(load_base())
    assert stylizer.prepare(person).squares[0].shape == (800, 800, 3)
    far = Image.new("RGB", (1100, 700), "gray")
    far.paste(person, (300, 100))
    assert stylizer.prepare(far).squares[0].shape == (256, 256, 3)


def test_two_runs_at_once_leave_one_result(tmp_path: Path) -> None:
    large = Image.effect_noise((1500, 1500), 60).convert("RGB")  # so that both are at work

    def save(results: Results) -> Path:
        path = results.reserve(tmp_path / "a.png", "k")
        together.wait()
        return results.save(path, Redrawn(large, ()), {"key": "k"}, {})

    together = threading.Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        made = set(pool.map(save, [Results(tmp_path), Results(tmp_path)]))
    assert made == {tmp_path / "a.png"}
    assert [path.name for path in tmp_path.glob("*.png")] == ["a.png"]
