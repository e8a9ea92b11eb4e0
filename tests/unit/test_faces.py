"""Finding faces, cutting them out upright, and the way back."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFilter

from osasis.config.catalogue import assets
from osasis.imaging.align import EYE_HEIGHT, Similarity, align, central_square, cut
from osasis.imaging.faces import Face, FaceDetector, judged

EYES = np.array([(203, 101), (245, 101)])  # of the astronaut, as seen by eye


@pytest.fixture(scope="module")
def astronaut() -> Image.Image:
    with Image.open(assets() / "photos" / "astronaut.png") as image:
        return image.convert("RGB")


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return FaceDetector()


@pytest.mark.parametrize("side", [100, 512, 2000])
@pytest.mark.parametrize("turns", range(4))
def test_a_face_is_found_at_every_size_and_turn(
    astronaut: Image.Image, detector: FaceDetector, side: int, turns: int
) -> None:
    turned = astronaut.resize((side, side)).rotate(90 * turns)
    (face,) = detector(turned)
    x, y = np.array(face.landmarks[:2]).T / side - 0.5
    for _ in range(turns):  # rotate() turns anticlockwise: back is clockwise
        x, y = -y, x
    found = (np.column_stack([x, y]) + 0.5) * 512
    assert np.abs(found - EYES).max() < 6
    assert face.score > 0.7


def test_a_face_that_fills_a_small_square(astronaut: Image.Image, detector: FaceDetector) -> None:
    square = astronaut.crop((126, 9, 322, 205))
    for side in (64, 128):
        (face,) = detector(square.resize((side, side)))
        eyes = np.array(face.landmarks[:2]) * 196 / side + (126, 9)
        assert np.abs(eyes - EYES).max() < 10


def test_a_group_and_a_landscape(astronaut: Image.Image, detector: FaceDetector) -> None:
    group = Image.new("RGB", (2400, 900), "gray")
    for i, side in enumerate((800, 400, 120)):
        group.paste(astronaut.resize((side, side)), (20 + 820 * i, 30))
    faces = detector(group)
    assert len(faces) == 3
    assert [f.area for f in faces] == sorted((f.area for f in faces), reverse=True)
    blurred = Image.effect_noise((800, 600), 80).convert("RGB").filter(ImageFilter.GaussianBlur(9))
    assert detector(blurred) == []


def test_odd_shapes_are_no_trouble(detector: FaceDetector) -> None:
    for size in ((16, 16), (5000, 20), (20, 5000)):
        assert detector(Image.new("RGB", size, "gray")) == []


@pytest.mark.parametrize("degrees", [0, 20, -75, 180])
def test_aligned_faces_are_upright(
    astronaut: Image.Image, detector: FaceDetector, degrees: int
) -> None:
    turned = astronaut.rotate(degrees, Image.Resampling.BICUBIC, center=(224, 120))
    face = detector(turned)[0]
    place = align(face, 128)
    left, right = place(np.array(face.landmarks[:2]))
    middle = (left + right) / 2
    assert middle == pytest.approx([64, 128 * EYE_HEIGHT], abs=1e-6)
    assert abs(left[1] - right[1]) < 4
    assert 0.2 * 128 < right[0] - left[0] < 0.3 * 128
    # and a detector that has never seen the numbers above finds them upright there
    (again,) = detector(cut(np.asarray(turned), place, (128, 128)))
    eyes = np.array(again.landmarks[:2])
    assert eyes.mean(axis=0) == pytest.approx([64, 128 * EYE_HEIGHT], abs=4)


def test_there_and_back_agree() -> None:
    place = Similarity(complex(0.21, 0.13), complex(-37.5, 12.25))
    points = np.random.default_rng(0).uniform(0, 6000, (100, 2))
    assert np.abs(place.inverse(place(points)) - points).max() < 1e-9
    twice = (place.inverse @ place)(points)
    assert np.abs(twice - points).max() < 1e-9


@pytest.mark.parametrize("scale", [0.11, 0.5, 1.0, 2.5])
@pytest.mark.parametrize("degrees", [0, 33, 180])
def test_cut_and_its_inverse_agree_within_half_a_pixel(scale: float, degrees: int) -> None:
    """Dots drawn in the photo and found in the square map back to where they were drawn."""
    side, size = 1400, 128  # larger than the square, so that no mirrored dot is seen
    centre = complex(700, 680)
    a = scale * np.exp(1j * np.deg2rad(degrees))
    place = Similarity(complex(a), complex(64, 64) - a * centre)
    radius = max(4.0, 1.5 / scale)
    for offset in (0, 30 / scale * (1 + 0.5j) / abs(1 + 0.5j), -20j / scale):
        dot = centre + offset
        grid = np.indices((side, side)) + 0.5
        photo = np.exp(-((grid[1] - dot.real) ** 2 + (grid[0] - dot.imag) ** 2) / 2 / radius**2)
        square = cut(np.repeat(photo[..., None], 3, 2).astype(np.float32), place, (size, size))[
            ..., 0
        ]
        grid = np.indices((size, size)) + 0.5
        found = np.array([(square * grid[1]).sum(), (square * grid[0]).sum()]) / square.sum()
        error = place.inverse(found) - [dot.real, dot.imag]
        assert np.hypot(*error) < 0.5  # of the photo's pixels


def test_the_central_square() -> None:
    place = central_square(400, 200, 100)
    assert place(np.array([(100, 0), (300, 200)])) == pytest.approx(np.array([(0, 0), (100, 100)]))


def test_landmarks_in_one_point_are_refused() -> None:
    with pytest.raises(ValueError, match="one point"):
        align(Face((0, 0, 1, 1), ((0.5, 0.5),) * 5, 1.0), 128)


def test_opencv_stays_quiet(astronaut: Image.Image, capfd: pytest.CaptureFixture[str]) -> None:
    FaceDetector()(astronaut)
    assert capfd.readouterr() == ("", "")


def crowd(astronaut: Image.Image, columns: int, rows: int, face: int) -> Image.Image:
    """Many people, each with a face of about `face` pixels."""
    person = astronaut.crop((150, 30, 300, 200)).resize((round(face * 1.6), round(face * 1.8)))
    step_x, step_y = round(person.width * 1.2), round(person.height * 1.2)
    photo = Image.new("RGB", (columns * step_x, rows * step_y), (120, 110, 100))
    for column in range(columns):
        for row in range(rows):
            photo.paste(person, (column * step_x + 4, row * step_y + 4))
    return photo


def test_more_faces_than_two_hundred(astronaut: Image.Image, detector: FaceDetector) -> None:
    assert len(detector(crowd(astronaut, 24, 10, 28))) == 240


def test_small_faces_of_large_photos(astronaut: Image.Image, detector: FaceDetector) -> None:
    """At 1,280 pixels, to which photos were made smaller, these are 7 pixels wide."""
    photo = Image.new("RGB", (3800, 900), (120, 110, 100))
    photo.paste(crowd(astronaut, 9, 2, 21), (1700, 300))
    assert len(detector(photo)) == 18


def test_one_lies_and_one_sits(astronaut: Image.Image, detector: FaceDetector) -> None:
    person = astronaut.crop((90, 10, 370, 310))
    photo = Image.new("RGB", (720, 330), (120, 110, 100))
    photo.paste(person, (20, 15))
    photo.paste(person.rotate(90, expand=True), (370, 20))
    turns = sorted(float(np.angle(align(face, 64).a, deg=True)) for face in detector(photo))
    assert turns == pytest.approx([0, 90], abs=15)


def test_doubtful_faces_are_counted_and_left() -> None:
    def at(left: int, score: float) -> Face:
        marks = tuple(
            (left + x, 10.0 + y) for x, y in ((5, 5), (15, 5), (10, 10), (6, 15), (14, 15))
        )
        return Face((left, 10.0, left + 20.0, 30.0), marks, score)

    upright, lying = [at(0, 0.95)], [at(2, 0.85), at(100, 0.92), at(200, 0.85), at(300, 0.72)]
    believed, doubtful = judged([upright, lying])
    assert [face.box[0] for face in believed] == [0, 100]
    assert [face.box[0] for face in doubtful] == [200]
