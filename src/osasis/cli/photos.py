"""What commands that redraw many photos share: which photos, how, and what is reported."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from osasis.errors import OsasisError, UserError
from osasis.progress import Progress, when_stopped
from osasis.terminal import say

if TYPE_CHECKING:
    from osasis.imaging.find import FoundPhoto, PassedOver
    from osasis.imaging.squares import Redrawn
    from osasis.scale.shares import Shares
    from osasis.stylize.batch import Task
    from osasis.stylize.stylizer import Stylizer

_NAMED = 50  # photos of which each is named
Photos = Annotated[
    list[str],
    Parameter(
        name="PHOTO_OR_DIR",
        help="photos, folders, patterns such as 'a/**/*.jpg'; - for a list on standard input",
    ),
]
Format = Annotated[
    Literal["same", "png", "jpg", "webp"],
    Parameter(
        help="of the results; same: JPEG, HEIC and WebP as what they are (HEIC as JPEG), at "
        "quality 95, all else PNG"
    ),
]


@dataclass(frozen=True)
class Told:
    """What is said of a result: where it is, whether under its usual name, the faces found."""

    path: Path
    renamed: bool
    faces: int | None
    notes: tuple[str, ...]


def find(given: Sequence[str], output: Path) -> tuple[list[FoundPhoto], PassedOver]:
    """The photos of a command line, and what was passed over.

    Raises:
        UserError: nothing to redraw, or several photos and one file for them.
    """
    from osasis.formats.records import Results
    from osasis.imaging.find import STDIN, PassedOver, find_photos

    results = Results(output)
    listed = sys.stdin if STDIN in given else ()
    passed = PassedOver()
    photos = find_photos(given, listed, outputs=results.outputs, passed=passed)
    if results.is_file and len(photos) > 1:
        raise UserError(
            f"{output} is one picture, and here are {len(photos)} photos",
            hint="name a folder with -o",
        )
    return photos, passed


def result_folder(output: Path) -> Path:
    """The folder of results, `-o` being one or a picture's file."""
    from osasis.formats.records import Results

    return Results(output).folder


def redraw_all(
    found: tuple[Sequence[FoundPhoto], PassedOver],
    output: Path,
    stylizer: Stylizer,
    made: Mapping[str, Any],
    metadata: Mapping[str, str],
    shares: Shares,
    *,
    format: str,
    jobs: int,
    crops: bool = False,
    verb: str = "redrawn",
    phase: str = "stylize",
    progress: Progress | None = None,
    begun: Callable[[Path], None] | None = None,
    measure: Callable[[Redrawn], None] | None = None,
    lines: Callable[[], Sequence[str]] = tuple,
) -> int:
    """Redraw photos, write results and manifest, say what was done; return the exit status.

    Of several processes each redraws its share, and the main one says what all have done.

    Args:
        found: the photos, and what was passed over.
        output: folder of the results, or the file of one.
        made: what determines the results besides the photos.
        metadata: more for the results' metadata.
        format: of the results.
        jobs: threads beside the network.
        crops: also keep the squares.
        verb: what was done, for the last line.
        phase: what is being done, for the bar.
        progress: the bar; None makes one.
        begun: called with each photo just before it is drawn.
        measure: called with each result, in this thread.
        lines: what to say before the results are named.
    """
    from osasis.formats.records import Results, result_key, with_losses
    from osasis.stylize.batch import BatchRunner, Task

    photos, passed = found
    results = Results(output, format)
    if results.foreign and shares.is_main:
        count = f"{results.foreign} lines of the manifest in {output}"
        say(f"{count} are not ours and were passed over", sys.stderr)
    tasks = [
        Task(photo.path, results.wanted(photo.path, photo.folder), stylizer.seed, made)
        for photo in photos
    ]
    names = {photo.path: photo.name for photo in photos}
    reserved: dict[Path, Path] = {}  # of each photo
    told: dict[Path, Told] = {}
    unmeasured: dict[Path, Redrawn] = {}
    tasks = shares.take(tasks)

    def begin(task: Task, photo_hash: str) -> None:
        reserved[task.path] = results.reserve(task.output, result_key(photo_hash, made))
        if begun is not None:
            begun(task.path)

    def save(task: Task, photo_hash: str, redrawn: Redrawn) -> None:
        record = {
            "photo": names[task.path],
            "photo_sha256": photo_hash,
            **made,
            "key": result_key(photo_hash, made),
        }
        output = reserved[task.path]
        redrawn = with_losses(redrawn, output.suffix.lower()[1:])
        path = results.save(output, redrawn, record, metadata, crops=crops)
        told[task.path] = Told(path, path != task.output, redrawn.faces, redrawn.kept.notes)
        if measure is not None:
            unmeasured[task.path] = redrawn

    runner = BatchRunner(
        stylizer,
        save,
        lambda task, photo_hash: results.has(task.output, result_key(photo_hash, made)),
        jobs,
        begin=begin,
    )
    outcomes: list[tuple[Path, OsasisError | bool]] = []

    def kept() -> str:
        done = sum(not isinstance(outcome, OsasisError) for _, outcome in outcomes)
        return f"stopped; {done} of {len(tasks)} photos are done, the same command does the rest"

    with when_stopped(kept), progress or Progress() as bar:
        bar.update(phase, 0, len(tasks))
        for task, outcome in runner.run(tasks):
            outcomes.append((task.path, outcome))
            result = unmeasured.pop(task.path, None)
            if result is not None and measure is not None:
                measure(result)
            if shares.is_main:
                bar.update(phase, len(outcomes), len(tasks))
    outcomes = shares.gather(outcomes)
    every = dict(shares.gather(list(told.items())))
    said = lines()
    if not shares.is_main:
        return 0
    for line in said:
        print(line)
    say_told([(photo.path, every[photo.path]) for photo in photos if photo.path in every])
    failed = {path: outcome for path, outcome in outcomes if isinstance(outcome, OsasisError)}
    in_order = [(photo.path, failed[photo.path]) for photo in photos if photo.path in failed]
    redrawn = sum(outcome is True for _, outcome in outcomes)
    skipped = sum(o is False for _, o in outcomes)
    return report(redrawn, output, in_order, skipped=skipped, verb=verb, passed=passed)


def say_told(told: Sequence[tuple[Path, Told]]) -> None:
    """Say where results are and how many faces they have; of many photos only what is unusual."""
    few = len(told) <= _NAMED
    for photo, result in told:
        if few or result.renamed:
            name = ", its usual name was taken" if result.renamed else ""
            say(f"{photo}: {_faces(result.faces)}{result.path}{name}")
    if not few:
        print(
            f"{sum(result.faces or 0 for _, result in told)} faces; the manifest has each photo's"
        )
    photos: dict[str, list[Path]] = {}
    for photo, result in told:
        for note in result.notes:
            photos.setdefault(note, []).append(photo)
    for note, where in photos.items():
        more = f" and {len(where) - 1} more" if len(where) > 1 else ""
        say(f"note: {where[0]}{more}: {note}", sys.stderr)


def _faces(count: int | None) -> str:
    return "" if count is None else f"{count} face{'' if count == 1 else 's'}, "


def report(
    done: int,
    folder: Path,
    failed: Sequence[tuple[Path, OsasisError]],
    *,
    skipped: int = 0,
    verb: str = "redrawn",
    noun: str = "photo",
    passed: PassedOver | None = None,
) -> int:
    """Say what was done and what was not; return the exit status."""
    unread = say_passed(passed) if passed else 0
    there = f", {skipped} done before" if skipped else ""
    say(f"{done} {noun if done == 1 else f'{noun}s'} {verb} into {folder}{there}")
    if not failed:
        return unread
    count = done + skipped + len(failed)
    print(f"error: {len(failed)} of {count} {noun}s failed:", file=sys.stderr)
    say_failed(failed)
    return 1


def say_passed(passed: PassedOver) -> int:
    """Say what was left out; return the exit status, 1 where photos may be among it."""
    for line in passed.lines():
        say(f"note: {line}", sys.stderr)
    return int(passed.unread)


def say_failed(failed: Sequence[tuple[Path, OsasisError]]) -> None:
    """A line for each photo that could not be used; many errors name their file themselves."""
    for photo, error in failed:
        where = "" if str(photo) in str(error) else f"{photo}: "
        say(f"  {where}{error.line}", sys.stderr)
