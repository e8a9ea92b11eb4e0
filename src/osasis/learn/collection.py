"""Many styles in one run: each picture becomes a style file, and what was done stays done."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from osasis._version import __version__
from osasis.errors import OsasisError, UserError
from osasis.files import STYLE_SUFFIX, snapshot_file
from osasis.formats.records import Manifest, file_hash, result_key
from osasis.imaging.find import FoundPhoto, PassedOver, find_photos
from osasis.imaging.load import load_image
from osasis.imaging.save import unique_paths
from osasis.imaging.style_crop import cropped
from osasis.learn.context import LearningContext
from osasis.learn.learner import StepRecord, StyleLearner
from osasis.learn.save import learn_into

Outcome = OsasisError | bool
"""Why a picture failed; otherwise whether its style was learned (False: it was there already)."""


@dataclass(frozen=True)
class StyleTask:
    """One picture of a collection: where it is, what it is called, its style file."""

    picture: Path
    name: str
    output: Path


def style_tasks(
    given: Sequence[str | Path], folder: Path, passed: PassedOver | None = None
) -> list[StyleTask]:
    """One task per picture; folders are searched, sub-folders kept.

    Args:
        passed: gets what was passed over in folders.

    Raises:
        UserError: a path does not exist, or a folder holds no picture.
    """
    found: list[FoundPhoto] = find_photos([str(path) for path in given], passed=passed)
    below = [photo.folder for photo in found]
    outputs = unique_paths([photo.path for photo in found], folder, STYLE_SUFFIX, subfolders=below)
    pairs = zip(found, outputs, strict=True)
    return [StyleTask(photo.path, photo.name, output) for photo, output in pairs]


class Collection:
    """Learns styles one after the other, sharing what does not depend on the picture.

    Args:
        context: base and configuration.
        folder: where style files and their manifest go.
        seed: seed of every style.
        force: learn again what is there, and replace files that are not ours.
        crop: what of a picture is learned; see `cropped`.
    """

    def __init__(
        self,
        context: LearningContext,
        folder: Path,
        *,
        seed: int = 0,
        force: bool = False,
        crop: str | None = None,
    ) -> None:
        self._context, self._seed, self._force, self._crop = context, seed, force, crop
        self._manifest = Manifest(folder)
        self._made: dict[str, Any] = {
            "base": context.base.name,
            "base_hash": context.base.hash,
            "config": dataclasses.asdict(context.config),
            "content": context.bank.content,
            "embedder": context.config.embedder,
            "seed": seed,
            "version": __version__,
            **({} if crop is None else {"crop": crop}),
        }

    def pending(self, tasks: Sequence[StyleTask]) -> list[StyleTask]:
        """Those whose style is not there: another picture or setting makes it anew."""
        return [task for task in tasks if not self._is_done(task)]

    def run(
        self,
        tasks: Sequence[StyleTask],
        on_step: Callable[[StyleTask, StepRecord], None] | None = None,
    ) -> Iterator[tuple[StyleTask, Outcome]]:
        """Yield what became of each task; no picture stops others.

        Ctrl-C (KeyboardInterrupt) keeps the unfinished style's progress beside its output.
        """
        for task in tasks:
            try:
                if self._is_done(task):
                    yield task, False
                    continue
                self._learn(task, on_step)
            except OsasisError as error:
                yield task, error
            else:
                yield task, True

    def _is_done(self, task: StyleTask) -> bool:
        if self._force:
            return False
        try:
            key = result_key(file_hash(task.picture), self._made)
        except OsasisError:  # said when it is its turn
            return False
        return self._manifest.has(task.output, key)

    def _learn(
        self, task: StyleTask, on_step: Callable[[StyleTask, StepRecord], None] | None
    ) -> None:
        image = load_image(task.picture)
        faces = self._context.base.canvas.faces
        image, _ = cropped(image, self._crop, faces=faces)
        known = task.output in self._manifest.outputs
        if task.output.exists() and not known and not self._force:
            raise UserError(
                f"{task.output} exists and was not learned here",
                hint="add --force to replace it, or choose another -o",
            )
        learner = StyleLearner(
            self._context.base,
            image,
            self._context.config,
            seed=self._seed,
            name=task.picture.stem,
            snapshot=snapshot_file(task.output),
            context=self._context,
        )

        def note(output: Path) -> None:
            digest = file_hash(task.picture)
            key = result_key(digest, self._made)
            record = {"picture": task.name, "picture_sha256": digest, **self._made, "key": key}
            self._manifest.add(output, [output], record)

        with closing(learn_into(learner, task.output, note)) as steps:
            for record in steps:
                if on_step is not None:
                    on_step(task, record)
