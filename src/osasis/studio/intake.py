"""What comes in: pictures and style files of strangers, checked and kept in a form of our own."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from osasis.base import Base
from osasis.errors import OsasisError, UserError
from osasis.files import atomic_path
from osasis.formats.style_file import Style, load_style
from osasis.imaging.faces import Face, FaceDetector
from osasis.imaging.load import load_image
from osasis.studio.store import PHOTO, STYLE, Item, Store, Visitor, plain_name
from osasis.stylize.stylizer import Stylizer

PICTURE, VIEW, THUMBNAIL, BEFORE = "picture.png", "view.webp", "thumb.webp", "before.webp"
STYLE_FILE = "style.safetensors"
VIEW_SIDE, THUMBNAIL_SIDE = 1200, 256
READY, NEW, LEARNING = "ready", "new", "learning"
_MAX_CHANNELS = 512


def write_picture(image: Image.Image, folder: Path) -> None:
    """Keep a picture as it is, one for the page, and a thumbnail."""
    with atomic_path(folder / PICTURE) as temporary:
        image.save(temporary, "PNG", compress_level=1)
    write_views(image, folder)


def write_views(image: Image.Image, folder: Path) -> None:
    """Keep what the page shows of a picture."""
    write_view(image, folder / VIEW)
    write_view(image, folder / THUMBNAIL, THUMBNAIL_SIDE)


def write_view(image: Image.Image, path: Path, side: int = VIEW_SIDE) -> None:
    """Write a picture as WebP, its longer side at most `side` pixels."""
    small = image.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    with atomic_path(path) as temporary:
        small.save(temporary, "WEBP", quality=88, method=2)


class Intake:
    """Takes in what visitors upload.

    Args:
        store: where it goes.
        base: what styles must fit.
    """

    def __init__(self, store: Store, base: Base) -> None:
        self._store, self._base, self._limits = store, base, store.limits
        self._detector = FaceDetector()

    def photo(self, visitor: Visitor, upload: str | Path) -> Item:
        """Keep a photo, with the faces in it, all of them chosen.

        Raises:
            UserError: see `picture`.
        """
        return self.add_photo(visitor, self.picture(upload), Path(upload).stem)

    def add_photo(self, visitor: Visitor, image: Image.Image, name: str) -> Item:
        """Keep a picture as a photo."""
        faces = [
            [*f.box, *(c for p in f.landmarks for c in p), f.score] for f in self._detector(image)
        ]
        data = {"size": list(image.size), "faces": faces, "chosen": list(range(len(faces)))}
        name = plain_name(name, "photo")
        return visitor.add(PHOTO, name, lambda folder: write_picture(image, folder), data)

    def style_picture(self, visitor: Visitor, upload: str | Path, name: str = "") -> Item:
        """Keep a picture to be learned.

        Raises:
            UserError: see `picture`; or the visitor has too many styles.
        """
        return self.add_style_picture(visitor, self.picture(upload), name or Path(upload).stem)

    def add_style_picture(self, visitor: Visitor, image: Image.Image, name: str) -> Item:
        """Keep a picture as a style that is not learned yet."""
        self._check_styles(visitor)
        name = plain_name(name, "style")
        data = {"state": NEW, "updates": 0}
        return visitor.add(STYLE, name, lambda folder: write_picture(image, folder), data)

    def style_file(self, visitor: Visitor, upload: str | Path) -> Item:
        """Keep a style file that somebody made.

        Raises:
            UserError: it is none, is too large, is of another base, or asks for too much.
        """
        self._check_styles(visitor)
        path = self._sized(upload, self._limits.style_bytes, "a style file")
        style = checked_style(path, self._base)
        name = plain_name(style.manifest.name, "style")

        def write(folder: Path) -> None:
            style.save(
                folder / STYLE_FILE
            )  # written anew: nothing of the upload is kept as it came
            write_picture(style.thumbnail, folder)

        data = {"state": READY, "updates": style.manifest.updates, "uploaded": True}
        data["learned_as"] = style.manifest.preset
        return visitor.add(STYLE, name, write, data)

    def picture(self, upload: str | Path) -> Image.Image:
        """An uploaded picture, decoded.

        Raises:
            UserError: it cannot be read as on the command line, or is too large.
        """
        path = self._sized(upload, self._limits.upload_bytes, "a picture")
        try:
            return load_image(path, max_pixels=self._limits.pixels)
        except UserError as error:  # a visitor is not told where the server keeps files
            message = str(error).replace(str(path), plain_name(path.name, "the picture"))
            raise UserError(message, hint=error.hint) from error

    def _sized(self, upload: str | Path, limit: int, what: str) -> Path:
        path = self._store.uploaded(upload)
        if path.stat().st_size > limit:
            raise UserError(f"{what} may have at most {limit // 1_000_000} MB")
        return path

    def _check_styles(self, visitor: Visitor) -> None:
        if len(visitor.items(STYLE)) >= self._limits.styles:
            raise UserError(
                f"{self._limits.styles} styles are the most you can keep here",
                hint="download and delete one",
            )


def faces_of(photo: Item) -> list[Face]:
    """The chosen faces of a photo, the largest first."""
    faces = []
    for index, row in enumerate(photo.data["faces"]):
        if index in photo.data["chosen"]:
            marks = tuple(zip(row[4:14:2], row[5:14:2], strict=True))
            faces.append(Face((row[0], row[1], row[2], row[3]), marks, row[14]))
    return faces


def checked_style(path: Path, base: Base) -> Style:
    """Load a stranger's style file.

    Raises:
        UserError: it is none, of another base, or would take unreasonable memory or time.
    """
    refused = UserError("that is not a style file that can be used here")
    try:
        style = load_style(path)
        if style.manifest.config.spn.channels > _MAX_CHANNELS:
            raise UserError("the style file asks for an unreasonable network")
        Stylizer(base, style)
    except UserError as error:
        raise UserError(str(error).replace(str(path), "the file"), hint=error.hint) from error
    except (OsasisError, ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        raise refused from error
    return style
