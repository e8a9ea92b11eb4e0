"""Types of options that several commands share: what they accept, and their help.

An option is a parameter of its command (or a field of a dataclass here), with one of these types or
one of Python's, and a line in the docstring where the type does not carry its help.
"""

from __future__ import annotations

import math
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from cyclopts import Parameter, Token

from osasis.config.controls import Blending, Drawing, Editing, Fit, Fitting
from osasis.config.tables import Range
from osasis.errors import UserError

T = TypeVar("T")
__all__ = ["Fit", "Range"]  # for cyclopts, which looks up here what inherited fields name

DEFAULT_BASE = "faces-256"


def within(low: float = 0, high: float = math.inf) -> Callable[[Any, float | None], None]:
    """A validator of numbers from `low` to `high`."""
    allowed = Range(low, high)

    def check(kind: Any, value: float | None) -> None:
        if value is not None and (problem := allowed.problem(value)):
            raise ValueError(problem)

    return check


Positive = Annotated[int, Parameter(validator=within(1), metavar="N")]
Whole = Annotated[int, Parameter(validator=within(), metavar="N")]
Amount = Annotated[float, Parameter(validator=within())]
Share = Annotated[float, Parameter(validator=within(0, 1))]
Device = Annotated[
    str | None,
    Parameter(
        metavar="D",
        help="where to compute, as torch names it (default: the fastest that osasis finds)",
    ),
]
BaseName = Annotated[
    str, Parameter(metavar="NAME_OR_FILE", help="pretrained base, see `osasis models list`")
]
Output = Annotated[Path, Parameter(alias="-o", metavar="DIR")]
OutputFile = Annotated[Path, Parameter(alias="-o", metavar="FILE")]
Several = Parameter(consume_multiple=True)  # --photos A B C


def levels(text: str) -> tuple[int, ...]:
    """Levels of the U-Net: '0,1' is (0, 1), 'none' is no level at all.

    Raises:
        ValueError: it is no such list.
    """
    if text.strip() == "none":
        return ()
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise ValueError(f"{text!r} is not a list of levels such as 0,1, or none")
    return tuple(sorted({int(part) for part in parts}))


def style_share(text: str) -> tuple[str, float]:
    """A style and its share of a mix: 'goya=0.7' is ('goya', 0.7), 'goya' is ('goya', 1.0).

    Raises:
        ValueError: the share is no number above 0.
    """
    name, sign, number = text.rpartition("=")
    if not sign or Path(text).expanduser().is_file():
        return text, 1.0
    value = _number(number)
    if not name or not math.isfinite(value) or value <= 0:
        raise ValueError(f"{text!r} is no style with a share above 0, such as memling_maria=0.7")
    return name, value


def attribute_amount(text: str) -> tuple[str, float]:
    """An attribute and its amount: 'smiling=1.5'; without an amount it is 1.

    Raises:
        ValueError: the amount is no number.
    """
    name, _, number = text.partition("=")
    value = _number(number) if "=" in text else 1.0
    if not name or not math.isfinite(value):
        raise ValueError(f"{text!r} is no attribute such as smiling=1.5")
    return name, value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def each(convert: Callable[[str], T]) -> Callable[[Any, Sequence[Token]], tuple[T, ...]]:
    """What converts an option that may be given again: `convert` on each text."""
    return lambda kind, tokens: tuple(convert(token.value) for token in tokens)


def one(convert: Callable[[str], T]) -> Callable[[Any, Sequence[Token]], T]:
    """What converts an option: `convert` on its text."""
    return lambda kind, tokens: convert(tokens[-1].value)


@Parameter(name="*")
@dataclass(frozen=True)
class Styles:
    """Learned styles and their base."""

    style: Annotated[
        tuple[tuple[str, float], ...],
        Parameter(converter=each(style_share), n_tokens=1, metavar="FILE_OR_NAME[=SHARE]"),
    ] = ()
    """Style file, or a shipped style; several are mixed by their shares."""
    base: Annotated[str | None, Parameter(metavar="NAME_OR_FILE")] = None
    """Pretrained base (default: the style's own, else faces-256)."""

    @property
    def picture(self) -> Path | None:
        """The picture to preview as a style."""
        return None

    def check(self, command: str) -> None:
        """Refuse where there is none, before anything slow.

        Raises:
            UserError: no style was named, or one is not there.
        """
        if not self.style and self.picture is None:
            more = f"osasis {command} --help explains the options"
            raise UserError("--style is missing", hint=f"osasis models list names styles; {more}")
        from osasis.config.catalogue import find_style

        for name, _ in self.style:
            find_style(name)


@Parameter(name="*")
@dataclass(frozen=True)
class StylesOrPreview(Styles):
    """Learned styles, or a picture."""

    style_image: Annotated[Path | None, Parameter(metavar="PICTURE")] = None
    """Preview a picture as a style without learning it: seconds, and far weaker than
    `osasis learn`."""

    def __post_init__(self) -> None:
        if self.style and self.style_image is not None:
            raise UserError("--style-image is not allowed with --style")

    @property
    def picture(self) -> Path | None:
        """The picture to preview as a style."""
        return self.style_image


@Parameter(name="*", group="controls")
@dataclass(frozen=True)
class DrawingOptions(Drawing):
    """How squares are drawn."""

    style_levels: Annotated[
        tuple[int, ...] | None, Parameter(converter=one(levels), n_tokens=1, metavar="0,1")
    ] = None


@Parameter(name="*", group="edits")
@dataclass(frozen=True)
class EditOptions(Editing):
    """What of a photo's content is changed, and how far."""

    attributes: Annotated[
        tuple[tuple[str, float], ...],
        Parameter(converter=each(attribute_amount), n_tokens=1, metavar="NAME[=AMOUNT]"),
    ] = ()


@Parameter(name="*", group="photos")
@dataclass(frozen=True)
class BlendOptions(Blending):
    """How redrawn squares are put back."""

    match_color: Annotated[bool, Parameter(negative="--no-match-color")] = True


@Parameter(name="*", group="photos")
@dataclass(frozen=True)
class PhotoOptions(BlendOptions, Fitting):
    """What of a photo is redrawn, and how it is put back."""

    no_align: bool = False
    """The photos are squares already: the same as --fit crop."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.no_align and self.fit not in ("auto", "crop"):
            raise UserError(f"--no-align is not allowed with --fit {self.fit}")


def make_writable(folder: Path, option: str = "-o") -> None:
    """Create `folder` now, so that a wrong place is known before the work and not after it.

    Args:
        option: what names it.

    Raises:
        UserError: the folder cannot be created or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot create the folder {folder}: {error.strerror}",
            hint=f"choose another with {option}",
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"cannot write into {folder}", hint=f"choose another folder with {option}")


def command_line(words: Sequence[object]) -> str:
    """A command of osasis as it can be pasted into the shell in which this one was called.

    Args:
        words: what follows the program's name.
    """
    return shlex.join([_program(), *map(str, words)])


def _program() -> str:
    """`osasis`, or the path by which it was called where the shell would not find it."""
    called, found = Path(sys.argv[0]), shutil.which("osasis")
    if called.stem != "osasis" or (found and called.exists() and called.samefile(found)):
        return "osasis"
    return str(called)
