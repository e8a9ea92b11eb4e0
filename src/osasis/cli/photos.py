"""What commands that redraw many photos share: which photos, how, and what is reported."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from osasis.cli.options import positive, share
from osasis.cli.progress import Progress
from osasis.errors import OsasisError, UserError

if TYPE_CHECKING:
    from osasis.imaging.blend import BlendConfig
    from osasis.imaging.find import FoundPhoto
    from osasis.imaging.squares import PhotoConfig, Redrawn
    from osasis.scale.shares import Shares
    from osasis.stylize.batch import Task
    from osasis.stylize.stylizer import Stylizer

CROPS = "crops"  # folder of the squares
# options that do not change a result; what is not named here does, as far as anybody knows
_WITHOUT_EFFECT = frozenset(
    {"photos", "output", "style", "device", "batch_size", "jobs", "command", "run", "parser"}
    | {"debug"}
)


def add_photo_list(parser: argparse.ArgumentParser, *, output: str) -> None:
    """Add the photos and where results go, by default the folder `output`."""
    parser.add_argument(
        "photos",
        nargs="+",
        metavar="PHOTO_OR_DIR",
        help="photos, folders, patterns such as 'a/**/*.jpg'; - for a list on standard input",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path(output),
        metavar="DIR",
        help="folder for the results (default: %(default)s)",
    )


def add_photos(parser: argparse.ArgumentParser) -> None:
    """Add the photos, where results go, how batches are done, and the options of `PhotoConfig`."""
    add_photo_list(parser, output="stylized")
    parser.add_argument("--batch-size", type=positive, metavar="N", help="squares drawn at once")
    parser.add_argument(
        "--jobs",
        type=positive,
        default=2,
        metavar="N",
        help="threads that read, search and save beside the network (default: %(default)s)",
    )
    parser.add_argument(
        "--crops", action="store_true", help=f"also write the redrawn squares, into {CROPS}/"
    )
    add_photo_options(parser)


def add_photo_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `PhotoConfig`."""
    group = parser.add_argument_group("photos")
    add_blend(group)
    what = group.add_mutually_exclusive_group()
    what.add_argument(
        "--fit",
        choices=("faces", "crop", "tiles", "whole"),
        default="auto",
        help="faces: each one found, aligned, redrawn, put back; crop: the central square; tiles: "
        "overlapping squares over the whole photo; whole: all at once, aspect kept "
        "(default: faces on a base of faces, else crop)",
    )
    what.add_argument(
        "--no-align",
        dest="fit",
        action="store_const",
        const="crop",
        help="the photos are squares already: the same as --fit crop",
    )
    group.add_argument(
        "--largest-face", action="store_true", help="redraw only the largest face of a photo"
    )
    group.add_argument(
        "--tiles",
        type=positive,
        default=3,
        metavar="N",
        help="tiles along the shorter side, with --fit tiles (default: %(default)s)",
    )


def add_blend(group: argparse._ActionsContainer) -> None:
    """Add the options of `BlendConfig`."""
    group.add_argument(
        "--detail",
        type=share,
        default=0.5,
        metavar="D",
        help="how much of the photo's own fine detail is added where the base draws fewer pixels "
        "than the photo has, 0 to 1 (default: %(default)s)",
    )
    group.add_argument(
        "--match-color",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="let colours turn into the photo's towards the edge of what is put back",
    )
    group.add_argument(
        "--feather",
        type=share,
        default=0.3,
        metavar="F",
        help="width of the soft edge, 1 is up to the middle (default: %(default)s)",
    )


def photo_config(args: argparse.Namespace) -> PhotoConfig:
    """The options of `add_photo_options` as one object."""
    from osasis.imaging.squares import PhotoConfig

    return PhotoConfig(args.fit, args.largest_face, args.tiles, blend_config(args))


def blend_config(args: argparse.Namespace) -> BlendConfig:
    """The options of `add_blend` as one object."""
    from osasis.imaging.blend import BlendConfig

    return BlendConfig(feather=args.feather, detail=args.detail, match_color=args.match_color)


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """Every option that may change a result; of files their content and not their name."""
    return {
        name: _plain(value)
        for name, value in sorted(vars(args).items())
        if name not in _WITHOUT_EFFECT
    }


def _plain(value: Any) -> Any:
    from osasis.formats.records import file_hash

    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (str, Path)) and Path(value).is_file():
        return file_hash(Path(value))
    return value if isinstance(value, (bool, int, float, type(None))) else str(value)


def find(args: argparse.Namespace) -> list[FoundPhoto]:
    """The photos of a command line, without results of earlier runs."""
    from osasis.formats.records import Manifest
    from osasis.imaging.find import STDIN, find_photos

    if args.output.is_file():
        raise UserError(f"{args.output} is a file, and results go into a folder")
    listed = sys.stdin if STDIN in args.photos else ()
    return find_photos(args.photos, listed, outputs=Manifest(args.output).outputs)


def redraw_all(
    args: argparse.Namespace,
    photos: Sequence[FoundPhoto],
    stylizer: Stylizer,
    made: Mapping[str, Any],
    metadata: Mapping[str, str],
    shares: Shares,
) -> int:
    """Redraw photos, write results and manifest, say what was done; return the exit status.

    Of several processes each redraws its share, and the main one says what all have done.

    Args:
        made: what determines the results besides the photos.
        metadata: more for the results' metadata.
    """
    from osasis.formats.records import Manifest, result_key
    from osasis.imaging.save import output_paths
    from osasis.stylize.batch import BatchRunner, Task
    from osasis.stylize.photo import PhotoStylizer

    folder: Path = args.output
    manifest = Manifest(folder)
    subfolders = [photo.folder for photo in photos]
    outputs = output_paths([photo.path for photo in photos], folder, subfolders=subfolders)
    names = {output: photo.name for photo, output in zip(photos, outputs, strict=True)}
    # the seed of a photo depends on its place in the list: it counts only where there is chance
    random = bool(getattr(args, "variation", 0))
    tasks = [
        Task(photo.path, output, args.seed + i, {**made, "seed": args.seed + i if random else None})
        for i, (photo, output) in enumerate(zip(photos, outputs, strict=True))
    ]

    tasks = shares.take(tasks)

    def save(task: Task, photo_hash: str, redrawn: Redrawn) -> None:
        key = result_key(photo_hash, task.made)
        record = {"photo": names[task.output], "photo_sha256": photo_hash, **task.made, "key": key}
        files = save_result(redrawn, task.output, folder, record, metadata, crops=args.crops)
        manifest.add(task.output, files, record)

    runner = BatchRunner(
        PhotoStylizer(stylizer, photo_config(args)),
        save,
        lambda task, photo_hash: manifest.has(task.output, result_key(photo_hash, task.made)),
        args.jobs,
    )
    outcomes: list[tuple[Path, OsasisError | bool]] = []
    try:
        with Progress() as progress:
            progress.update("stylize", 0, len(tasks))
            for task, outcome in runner.run(tasks):
                outcomes.append((task.path, outcome))
                if shares.is_main:
                    progress.update("stylize", len(outcomes), len(tasks))
    except KeyboardInterrupt:
        done = sum(not isinstance(outcome, OsasisError) for _, outcome in outcomes)
        raise KeyboardInterrupt(
            f"stopped; {done} of {len(tasks)} photos are done, the same command does the rest"
        ) from None
    outcomes = shares.gather(outcomes)
    if not shares.is_main:
        return 0
    failed = {path: outcome for path, outcome in outcomes if isinstance(outcome, OsasisError)}
    in_order = [(photo.path, failed[photo.path]) for photo in photos if photo.path in failed]
    redrawn = sum(outcome is True for _, outcome in outcomes)
    return report(redrawn, folder, in_order, skipped=sum(o is False for _, o in outcomes))


def save_result(
    redrawn: Redrawn,
    output: Path,
    folder: Path,
    record: Mapping[str, Any],
    metadata: Mapping[str, str],
    *,
    crops: bool,
) -> list[Path]:
    """Write a result, and its squares if asked; return the files."""
    from osasis.imaging.save import save_image

    files = [output]
    text = {**metadata, "osasis": json.dumps(record)}
    if crops:
        below = (folder / CROPS / output.relative_to(folder)).with_suffix("")
        for number, square in enumerate(redrawn.squares, start=1):
            files.append(below.with_name(f"{below.name}-{number}{output.suffix}"))
            save_image(square, files[-1], metadata=text)
    save_image(redrawn.picture, output, metadata=text)
    return files


def report(
    done: int,
    folder: Path,
    failed: Sequence[tuple[Path, OsasisError]],
    *,
    skipped: int = 0,
    verb: str = "redrawn",
    noun: str = "photo",
) -> int:
    """Say what was done and what was not; return the exit status."""
    there = f", {skipped} done before" if skipped else ""
    print(f"{done} {noun if done == 1 else f'{noun}s'} {verb} into {folder}{there}")
    if not failed:
        return 0
    count = done + skipped + len(failed)
    print(f"error: {len(failed)} of {count} {noun}s failed:", file=sys.stderr)
    for photo, error in failed:
        hint = f" ({error.hint})" if error.hint else ""
        # messages about a file that cannot be read name it themselves
        where = "" if str(photo) in str(error) else f"{photo}: "
        print(f"  {where}{error}{hint}", file=sys.stderr)
    return 1
