"""`osasis learn`: one picture becomes a style file; several become several."""

from __future__ import annotations

import argparse
import shlex
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from osasis.cli.options import add_base, add_device, make_writable, positive, whole
from osasis.cli.photos import report
from osasis.cli.progress import Progress, describe_losses
from osasis.errors import OsasisError, UserError
from osasis.files import STYLE_SUFFIX, reserved, snapshot_file

if TYPE_CHECKING:
    from osasis.base import Base
    from osasis.cli.options import Subparsers
    from osasis.config.presets import LearnConfig
    from osasis.learn.collection import Collection, Outcome, StyleTask
    from osasis.learn.context import LearningContext
    from osasis.learn.learner import StepRecord
    from osasis.scale.shares import Shares

PRESETS = ("fast", "paper", "release")
COMPILE = {"auto": None, "on": True, "off": False}

EPILOG = """\
examples:
  osasis learn painting.jpg
      writes painting.osasis.safetensors into the current folder
  osasis learn painting.jpg -o styles/painting.osasis.safetensors --preset paper --seed 3
  osasis learn painting.jpg --photos ~/Pictures/family/
      learns on your photos: sharper on them than with photos drawn by the base
  osasis learn paintings/ -o styles/
      one style per picture; run it again, and only what is new or changed is learned
  accelerate launch --num_processes 4 -m osasis learn paintings/ -o styles/
      several GPUs: each learns its share of the pictures; on CPUs:
      `torchrun --nproc_per_node 2 -m osasis ...`

Ctrl-C keeps what is learned so far; the same command continues from there. Of several pictures,
those that fail are listed at the end, and the exit status is then 1; all others are learned.
Then: osasis stylize photo.jpg --style painting.osasis.safetensors
"""


def add_parser(subparsers: Subparsers) -> argparse.ArgumentParser:
    """Add the command to `osasis`."""
    parser = subparsers.add_parser(
        "learn",
        help="learn a style from one picture, or one from each of several",
        description="Learn a style from one picture and write it to a style file; of several "
        "pictures, or a folder of them, one style each.",
        epilog=EPILOG,
    )
    parser.add_argument(
        "style_images",
        nargs="+",
        type=Path,
        metavar="STYLE_IMAGE_OR_DIR",
        help="picture to learn; several, or a folder, give one style each",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE_OR_DIR",
        help=f"style file to write (default: the picture's name with {STYLE_SUFFIX}, here); "
        "for several pictures a folder (default: styles)",
    )
    parser.add_argument(
        "--preset",
        choices=PRESETS,
        default="fast",
        help="fast: minutes on a CPU; paper: the paper's text; release: the authors' program, "
        "number for number (default: %(default)s)",
    )
    add_base(parser)
    parser.add_argument(
        "--embedder",
        metavar="NAME",
        help="network that compares pictures: clip, clip:FOLDER, or vgg16-stats, which is in the "
        "package and brings LPIPS with four layers of five (default: the preset's)",
    )
    parser.add_argument(
        "--photos",
        nargs="+",
        default=[],
        metavar="PHOTO",
        help="photos, folders or patterns to learn on, best those to be redrawn: sharper results "
        "than with the photos that the base draws for itself otherwise",
    )
    parser.add_argument(
        "--style-crop",
        metavar="CROP",
        help="what of the picture is learned: face, square (its middle), or X,Y,W,H in pixels "
        "(default: the middle; the face where the middle shows none, or a small one)",
    )
    parser.add_argument(
        "--iterations",
        type=positive,
        metavar="N",
        help="walks down from t0, each of several updates (default: the preset's)",
    )
    parser.add_argument(
        "--seed", type=whole, default=0, metavar="N", help="seed of all randomness (default: 0)"
    )
    parser.add_argument("--name", help="name of the style (default: the picture's); of one only")
    parser.add_argument(
        "--force", action="store_true", help="replace existing style files, learn all again"
    )
    parser.add_argument(
        "--compile",
        choices=COMPILE,
        default="auto",
        help="compile the networks first; auto: on a GPU, where many updates follow "
        "(default: %(default)s)",
    )
    add_device(parser)
    return parser


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


def learn_config(args: argparse.Namespace) -> LearnConfig:
    """The preset with the changes of the command line."""
    from osasis.config.presets import PRESETS as CONFIGS

    config = CONFIGS[args.preset]
    if args.embedder is not None:
        config = config.judged_by(args.embedder)
    return config if args.iterations is None else replace(config, iterations=args.iterations)


def context_of(args: argparse.Namespace, base: Base) -> LearningContext:
    """What styles share, content photos included; says which photos were left out."""
    from osasis.imaging.find import PassedOver, find_photos
    from osasis.learn.context import LearningContext
    from osasis.learn.photo_bank import squares_of

    config = learn_config(args)
    photos = None
    if args.photos:
        passed = PassedOver()
        found = [photo.path for photo in find_photos(args.photos, passed=passed)]
        photos, refused = squares_of(base, found, config.bank.size)
        for reason in [*refused, *passed.lines()]:
            print(f"not learned on {reason}", file=sys.stderr)
    return LearningContext(base, config, photos, compiled=COMPILE[args.compile])


def run(args: argparse.Namespace) -> int:
    """Learn the styles, write them, say where."""
    pictures: list[Path] = args.style_images
    if args.style_crop is not None:
        from osasis.imaging.style_crop import checked_crop

        checked_crop(args.style_crop)
    if len(pictures) == 1 and not pictures[0].expanduser().is_dir():
        return _learn_one(args, pictures[0])
    return _learn_many(args)


def _learn_one(args: argparse.Namespace, picture: Path) -> int:
    output = output_file(picture, args.output, force=args.force)
    make_writable(output.parent)
    with reserved(output):
        return _learn_into(args, picture, output)


def _learn_into(args: argparse.Namespace, picture: Path, output: Path) -> int:
    from osasis.base import load_base
    from osasis.imaging.load import load_image
    from osasis.imaging.save import free_path
    from osasis.imaging.style_crop import cropped
    from osasis.learn.learner import StyleLearner

    image = load_image(picture)
    snapshot = snapshot_file(output)
    base = load_base(args.base, device=args.device)
    image, said = cropped(image, args.style_crop, faces=base.canvas.faces)
    if said:
        print(f"{picture}: {said}", file=sys.stderr)
    context = context_of(args, base)
    learner = StyleLearner(
        base,
        image,
        context.config,
        seed=args.seed,
        name=args.name or picture.stem,
        snapshot=snapshot,
        context=context,
    )
    try:
        with Progress() as progress, closing(learner.steps()) as steps:
            for record in steps:
                note = describe_losses(record.losses)
                progress.update(record.phase, record.done, record.total, note)
    except KeyboardInterrupt:
        if not snapshot.exists():
            raise
        raise KeyboardInterrupt(
            f"stopped; what is learned so far is kept in {snapshot}\n"
            "hint: run the same command again to continue from there"
        ) from None
    if not args.force:
        output = free_path(output)  # somebody may have put a file there meanwhile
    learner.style().save(output)
    learner.finish()
    print(f"wrote {output}")
    own = f" --base {shlex.quote(args.base)}" if base.path and Path(args.base).exists() else ""
    print(f"next: osasis stylize PHOTO --style {shlex.quote(str(output))}{own}")
    return 0


def _learn_many(args: argparse.Namespace) -> int:
    folder: Path = args.output or Path("styles")
    _check_many(args, folder)
    make_writable(folder)

    from osasis.base import load_base
    from osasis.imaging.find import PassedOver
    from osasis.learn.collection import Collection, style_tasks
    from osasis.scale.shares import Shares

    shares = Shares(args.device)
    passed = PassedOver()
    every = shares.from_main(lambda: style_tasks(args.style_images, folder, passed))
    base = load_base(args.base, device=shares.device)
    context = context_of(args, base)
    collection = Collection(context, folder, seed=args.seed, force=args.force, crop=args.style_crop)
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


def _check_many(args: argparse.Namespace, folder: Path) -> None:
    if args.name:
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

    try:
        for outcome in collection.run(tasks, show):
            outcomes.append(outcome)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"stopped; {len(outcomes)} of {len(tasks)} styles are done, the same command goes on"
        ) from None
    return outcomes
