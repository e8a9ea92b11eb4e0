"""`osasis learn`: one picture becomes a style file; several become several."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from osasis.cli.options import (
    DEFAULT_BASE,
    BaseName,
    Device,
    OutputFile,
    Positive,
    Several,
    Whole,
    command_line,
    make_writable,
)
from osasis.cli.photos import report, say_passed
from osasis.errors import OsasisError, UserError
from osasis.files import STYLE_SUFFIX, reserved, snapshot_file
from osasis.progress import AGAIN, Progress, when_stopped
from osasis.terminal import say

if TYPE_CHECKING:
    from osasis.base import Base
    from osasis.config.presets import LearnConfig
    from osasis.learn.collection import Collection, Outcome, StyleTask
    from osasis.learn.context import LearningContext
    from osasis.learn.learner import StepRecord
    from osasis.scale.shares import Shares

COMPILE = {"auto": None, "on": True, "off": False}
Preset = Literal["fast", "paper", "release"]


@Parameter(name="*")
@dataclass(frozen=True)
class LearnOptions:
    """How a style is learned."""

    preset: Preset = "fast"
    """fast: minutes on a CPU; paper: the paper's text; release: the authors' program, number for
    number."""
    base: BaseName = DEFAULT_BASE
    embedder: Annotated[str | None, Parameter(metavar="NAME")] = None
    """Network that compares pictures: clip, clip:FOLDER, or vgg16-stats, which is in the package
    and brings LPIPS with four layers of five (default: the preset's)."""
    photos: Annotated[tuple[str, ...], Several, Parameter(metavar="PHOTO...")] = ()
    """Photos, folders or patterns to learn on, best those to be redrawn: sharper results than with
    the photos that the base draws for itself otherwise."""
    style_crop: Annotated[str | None, Parameter(metavar="CROP")] = None
    """What of the picture is learned: face, square (its middle), or X,Y,W,H in pixels (default: the
    middle; the face where the middle shows none, or a small one)."""
    iterations: Positive | None = None
    """Walks down from t0, each of several updates (default: the preset's)."""
    seed: Whole = 0
    """Seed of all randomness."""
    name: Annotated[str | None, Parameter(metavar="TEXT")] = None
    """Name of the style (default: the picture's); of one only."""
    force: bool = False
    """Replace existing style files, learn all again."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Compile the networks first; auto: on a GPU, where many updates follow."""
    device: Device = None


def learn(
    style_images: Annotated[list[Path], Parameter(name="STYLE_IMAGE_OR_DIR")],
    /,
    *,
    output: OutputFile | None = None,
    options: LearnOptions = LearnOptions(),
) -> int:
    """Learn a style from one picture and write it to a style file.

    Of several pictures, or a folder of them, one style each.

    Args:
        style_images: picture to learn; several, or a folder, give one style each
        output: style file to write (default: the picture's name with .osasis.safetensors, here);
            for several pictures a folder (default: styles)

    Examples:
      osasis learn painting.jpg
          writes painting.osasis.safetensors into the current folder
      osasis learn painting.jpg -o styles/painting.osasis.safetensors --preset paper --seed 3
      osasis learn painting.jpg --photos ~/Pictures/family/
          learns on your photos: sharper on them than with photos drawn by the base
      osasis learn paintings/ -o styles/
          one style per picture; run it again, and only what is new or changed is
          learned
      accelerate launch --num_processes 4 -m osasis learn paintings/ -o styles/
          several GPUs: each learns its share of the pictures; on CPUs:
          `torchrun --nproc_per_node 2 -m osasis ...`

    Ctrl-C keeps what is learned so far; the same command continues from there. Of
    several pictures, those that fail are listed at the end, and the exit status is
    then 1; all others are learned.
    """
    if options.style_crop is not None:
        from osasis.imaging.style_crop import checked_crop

        checked_crop(options.style_crop)
    if len(style_images) == 1 and not style_images[0].expanduser().is_dir():
        return _learn_one(options, style_images[0], output)
    return _learn_many(options, style_images, output)


def output_file(picture: Path, output: Path | None, *, force: bool) -> Path:
    """Where the style file goes.

    Raises:
        UserError: it exists already and `force` is not set, or has the wrong suffix.
    """
    default = f"{picture.stem}{STYLE_SUFFIX}"
    if output is None:
        output = Path(default)
    elif output.is_dir():
        output = output / default
    if output.suffix != ".safetensors":
        raise UserError(
            f"a style file ends in .safetensors, not as in {output}",
            hint=f"-o {output.stem}{STYLE_SUFFIX}",
        )
    if output.exists() and not force:
        raise UserError(f"{output} exists", hint="add --force to replace it, or choose another -o")
    return output


def learn_config(asked: LearnOptions) -> LearnConfig:
    """The preset with the changes of the command line."""
    from osasis.config.presets import PRESETS as CONFIGS

    config = CONFIGS[asked.preset]
    if asked.embedder is not None:
        config = config.judged_by(asked.embedder)
    return config if asked.iterations is None else replace(config, iterations=asked.iterations)


def context_of(asked: LearnOptions, base: Base) -> LearningContext:
    """What styles share, content photos included; says which photos were left out."""
    from osasis.imaging.find import PassedOver, find_photos
    from osasis.learn.content import squares_of
    from osasis.learn.context import LearningContext

    config = learn_config(asked)
    photos = None
    if asked.photos:
        passed = PassedOver()
        found = [photo.path for photo in find_photos(asked.photos, passed=passed)]
        photos, refused = squares_of(base, found, config.bank.size)
        for reason in refused:
            say(f"not learned on {reason}", sys.stderr)
        say_passed(passed)
    return LearningContext(base, config, photos, compiled=COMPILE[asked.compile])


def _learn_one(asked: LearnOptions, picture: Path, given: Path | None) -> int:
    output = output_file(picture, given, force=asked.force)
    make_writable(output.parent)
    with reserved(output):
        return _learn_into(asked, picture, output)


def _learn_into(asked: LearnOptions, picture: Path, output: Path) -> int:
    from osasis.base import load_base
    from osasis.imaging.load import load_image
    from osasis.imaging.style_crop import cropped
    from osasis.learn.learner import StyleLearner
    from osasis.learn.save import learn_into

    image = load_image(picture)
    snapshot = snapshot_file(output)
    base = load_base(asked.base, device=asked.device)
    image, said = cropped(image, asked.style_crop, faces=base.canvas.faces)
    if said:
        say(f"{picture}: {said}", sys.stderr)
    context = context_of(asked, base)
    learner = StyleLearner(
        base,
        image,
        context.config,
        seed=asked.seed,
        name=asked.name or picture.stem,
        snapshot=snapshot,
        context=context,
    )
    written: list[Path] = []
    into = learn_into(learner, output, written.append, replace=asked.force)
    kept = f"stopped; what is learned so far is kept in {snapshot}\n{AGAIN}"
    with when_stopped(lambda: kept if snapshot.exists() else ""), Progress() as progress:
        progress.follow(into)
    [output] = written
    say(f"wrote {output}")
    words = ["stylize", "PHOTO", "--style", output]
    if base.path and Path(asked.base).exists():  # a base given by file is not found by its name
        words += ["--base", asked.base]
    print(f"next: {command_line(words)}")
    return 0


def _learn_many(asked: LearnOptions, pictures: list[Path], given: Path | None) -> int:
    folder = given or Path("styles")
    _check_many(asked, folder)
    make_writable(folder)

    from osasis.formats.records import MANIFEST
    from osasis.scale.shares import Shares

    shares = Shares(asked.device)
    with ExitStack() as held:  # by the main process for all
        shares.from_main(lambda: held.enter_context(reserved(folder / MANIFEST)))
        return _learn_tasks(asked, pictures, folder, shares)


def _learn_tasks(asked: LearnOptions, pictures: list[Path], folder: Path, shares: Shares) -> int:
    from osasis.base import load_base
    from osasis.imaging.find import PassedOver
    from osasis.learn.collection import Collection, style_tasks

    passed = PassedOver()
    every = shares.from_main(lambda: style_tasks(pictures, folder, passed))
    base = load_base(asked.base, device=shares.device)
    context = context_of(asked, base)
    collection = Collection(
        context, folder, seed=asked.seed, force=asked.force, crop=asked.style_crop
    )
    pending = shares.from_main(lambda: collection.pending(every))
    mine = shares.take(pending)
    with Progress() as progress:
        if pending:
            _draw_bank(context, shares, progress)
        outcomes = _learn_share(collection, mine, shares, progress, context)
    outcomes = shares.gather(outcomes)
    if not shares.is_main:
        return 0
    failed = {task.picture: error for task, error in outcomes if isinstance(error, OsasisError)}
    in_order = [(task.picture, failed[task.picture]) for task in every if task.picture in failed]
    learned = sum(outcome is True for _, outcome in outcomes)
    skipped = len(every) - len(pending)
    return report(
        learned, folder, in_order, skipped=skipped, verb="learned", noun="style", passed=passed
    )


def _check_many(asked: LearnOptions, folder: Path) -> None:
    if asked.name:
        raise UserError(
            "--name is of one style, and here are several", hint="styles get their pictures' names"
        )
    if folder.suffix == ".safetensors" or folder.is_file():
        raise UserError(
            f"{folder} is a file, and several styles go into a folder", hint="-o styles/"
        )


def _draw_bank(context: LearningContext, shares: Shares, progress: Progress) -> None:
    """Every process draws a part of the content bank, then all have the whole."""
    bank = context.bank
    parts = shares.take(range(bank.parts))
    for count, _ in enumerate(bank.fill(parts), start=1):
        progress.update("bank", count, len(parts))
    shares.gather([])


def _learn_share(
    collection: Collection,
    tasks: list[StyleTask],
    shares: Shares,
    progress: Progress,
    context: LearningContext,
) -> list[tuple[StyleTask, Outcome]]:
    updates = context.config.updates
    outcomes: list[tuple[StyleTask, Outcome]] = []

    def show(task: StyleTask, record: StepRecord) -> None:
        if shares.is_main:
            done = len(outcomes) * updates + (record.done if record.phase == "learn" else 0)
            note = f"style {len(outcomes) + 1} of {len(tasks)}, {task.picture.stem}"
            progress.update("learn", done, len(tasks) * updates, note)

    with when_stopped(
        lambda: (
            f"stopped; {len(outcomes)} of {len(tasks)} styles are done, the same command goes on"
        )
    ):
        for outcome in collection.run(tasks, show):
            outcomes.append(outcome)
    return outcomes
