"""Learning a style into a file: what the command line, the studio, collections and Python share."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing, nullcontext
from pathlib import Path

from PIL import Image

from osasis.base import Base, load_base
from osasis.config.presets import PRESETS, LearnConfig
from osasis.errors import UserError
from osasis.files import reserved, snapshot_file
from osasis.formats.style_file import Style
from osasis.imaging.load import Picture, load_image
from osasis.imaging.save import free_path
from osasis.imaging.style_crop import cropped
from osasis.learn.content import squares_of
from osasis.learn.context import LearningContext
from osasis.learn.learner import StepRecord, StyleLearner
from osasis.progress import Progress


def learn_into(
    learner: StyleLearner,
    path: Path,
    done: Callable[[Path], None] | None = None,
    *,
    replace: bool = True,
) -> Generator[StepRecord, None, Style]:
    """Learn a style and write its file; the snapshot goes when all is kept.

    Args:
        path: the style file.
        done: called with the file once it is written, for a record of it. If it fails, or is
            interrupted, the snapshot stays, and the same call goes on from there.
        replace: whether what is at `path` by then is replaced; otherwise another name is found.

    Yields:
        One record a step. Closing the generator early keeps the learner's snapshot.

    Raises:
        OsasisError: updates stay not finite, or the disk is full.
    """
    with closing(learner.steps()) as steps:
        yield from steps
    style = learner.style()
    path = path if replace else free_path(path)
    style.save(path)
    if done is not None:
        done(path)
    learner.finish()
    return style


def learn_style(
    picture: str | Path | Image.Image,
    *,
    base: Base | None = None,
    preset: str | LearnConfig = "fast",
    photos: Sequence[Picture] = (),
    seed: int = 0,
    name: str | None = None,
    embedder: str | None = None,
    output: str | Path | None = None,
    callback: Callable[[StepRecord], None] | None = None,
) -> Style:
    """Learn a style from one picture.

    Args:
        picture: path or picture, cut as `osasis learn` cuts it: see `cropped`.
        base: see `load_base`; None loads the embedded one.
        preset: "fast", "paper", "release", or a configuration.
        photos: photos to learn on, such as those that are to be redrawn; as many are used as the
            preset's bank holds. Without any they are drawn from the base, as in the paper.
        seed: the same seed gives the same style on the same machine.
        name: what the style is called; the file's name by default.
        embedder: in place of the preset's, see `LearnConfig.judged_by`.
        output: style file to write. Progress is kept beside it, and the same call continues after
            it was interrupted.
        callback: called after every step with its phase ("bridge", "bank" or "learn"), the steps
            done and in all, and the losses; None shows them on standard error.

    Raises:
        UserError: an unreadable picture, an unknown preset or embedder, judges that are not here,
            an output that another process is making.
    """
    if isinstance(preset, str):
        if preset not in PRESETS:
            raise UserError(f"no preset {preset!r}: there are {', '.join(PRESETS)}")
        preset = PRESETS[preset]
    if embedder is not None:
        preset = preset.judged_by(embedder)
    if name is None:
        name = "" if isinstance(picture, Image.Image) else Path(picture).stem
    base = base or load_base()
    image, _ = cropped(load_image(picture), None, faces=base.canvas.faces)
    squares = squares_of(base, photos, preset.bank.size)[0] if photos else None
    context = LearningContext(base, preset, squares)
    target = None if output is None else Path(output)
    with nullcontext() if target is None else reserved(target):
        kept = None if target is None else snapshot_file(target)
        learner = StyleLearner(
            base, image, preset, seed=seed, name=name, snapshot=kept, context=context
        )
        _follow(learner.steps() if target is None else learn_into(learner, target), callback)
    return learner.style()


def _follow(
    records: Generator[StepRecord, None, object], callback: Callable[[StepRecord], None] | None
) -> None:
    """Go through the steps, each told to `callback`, or shown."""
    if callback is None:
        with Progress() as progress:
            progress.follow(records)
        return
    with closing(records):
        for record in records:
            callback(record)
