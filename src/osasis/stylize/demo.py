"""The demo: learn one painting, redraw a photo and faces of other paintings."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import numpy as np
from PIL import Image

from osasis.base import Base, load_base
from osasis.config.catalogue import DEMO_PAINTING, assets, find_named, paintings
from osasis.config.presets import PRESETS
from osasis.errors import UserError
from osasis.files import STYLE_SUFFIX, snapshot_file
from osasis.formats.style_file import Style, load_style
from osasis.imaging.load import load_image
from osasis.imaging.save import save_image
from osasis.imaging.sheet import contact_sheet
from osasis.imaging.tensors import fit_square
from osasis.learn.learner import StepRecord, StyleLearner
from osasis.learn.save import learn_into
from osasis.stylize.stylizer import Stylizer

CONTACT_SHEET = "contact-sheet.png"
PHOTO = "astronaut.png"
PHOTO_SIZE = (512, 512)
# the face of the shipped photo as FFHQ crops faces: eyes at 0.47 of the height, 0.24 apart
FACE_BOX = (126, 9, 322, 205)
# shipped paintings that show a face
PORTRAITS = (
    "goya_josefa",
    "cezanne_peasant",
    "jacometto_nun",
    "baciccio_woman",
    "memling_maria",
    DEMO_PAINTING,
)
FACES = 6
_SAME = 8  # levels between a picture and its thumbnail in a style file, at most


def face_crop(photo: Image.Image) -> Image.Image:
    """The face of the shipped photo; any other photo as it is."""
    return photo.crop(FACE_BOX) if photo.size == PHOTO_SIZE else photo


def gather_faces(size: int, style: str) -> dict[str, Image.Image]:
    """Six faces to redraw by name: the shipped photo, and portraits but for the style itself."""
    photo = face_crop(load_image(assets() / "photos" / PHOTO))
    faces = {Path(PHOTO).stem: fit_square(photo, size)}
    known = paintings()
    for name in PORTRAITS:
        if name != style and len(faces) < FACES:
            faces[name] = fit_square(load_image(known[name]), size)
    return faces


def _learned_before(file: Path, painting: Image.Image, base: Base) -> Style | None:
    """The style of an earlier demo, if it was learned from this picture as it would be now."""
    try:
        style = load_style(file)
    except UserError:
        return None
    m = style.manifest
    seen, now = (np.asarray(fit_square(p, 32), float) for p in (style.thumbnail, painting))
    same = m.base_hash == base.hash and m.config == PRESETS["fast"]
    return style if same and np.abs(seen - now).mean() < _SAME else None


def run_demo(out: Path, style: str, device: str | None) -> Generator[StepRecord, None, None]:
    """Learn, redraw, write everything into `out`; yield what is done, step by step.

    Args:
        style: a shipped painting's name or a picture's path.
        device: where to compute; None for the best there is.

    Raises:
        UserError: the picture cannot be found or read.
    """
    picture = find_named(style, paintings(), "painting")
    painting = load_image(picture)
    base = load_base(device=device)
    file = out / f"{picture.stem}{STYLE_SUFFIX}"
    learned = _learned_before(file, painting, base)
    if learned is None:
        learner = StyleLearner(
            base, painting, PRESETS["fast"], name=picture.stem, snapshot=snapshot_file(file)
        )
        learned = yield from learn_into(learner, file)

    photos = gather_faces(base.image_size, picture.stem)
    results: list[Image.Image] = []
    for result in Stylizer(base, learned, fit="crop").stream(list(photos.values())):
        results.append(result)
        yield StepRecord("stylize", len(results), len(photos), {})
    for (name, photo), result in zip(photos.items(), results, strict=True):
        save_image(photo, out / f"{name}.png")
        save_image(result, out / f"{name}-{picture.stem}.png")
    sheet = contact_sheet(
        [[painting, *photos.values()], [None, *results]],
        column_titles=("style", *photos),
        row_titles=("picture", "result"),
    )
    save_image(sheet, out / CONTACT_SHEET)
