"""Outputs of an evaluation's methods, learned and redrawn on the spot where they are ours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from osasis.base import Base, load_base
from osasis.config.catalogue import find_style
from osasis.config.controls import Controls, Drawing
from osasis.config.presets import PRESETS, LearnConfig
from osasis.config.tables import from_table, with_table
from osasis.errors import UserError
from osasis.evaluate.config import EvaluationConfig, Method
from osasis.evaluate.density import reconstruct
from osasis.evaluate.peers.run import Peers
from osasis.files import sha256, snapshot_file
from osasis.formats.style_file import Style, load_style
from osasis.imaging.find import find_photos
from osasis.imaging.load import IMAGE_SUFFIXES, load_image
from osasis.imaging.tensors import fit_square, to_images, to_tensor
from osasis.learn.content import squares_of
from osasis.learn.context import LearningContext
from osasis.learn.learner import StepRecord, StyleLearner
from osasis.learn.save import learn_into
from osasis.stylize.stylizer import Stylizer


class Painters:
    """Makes the outputs of methods; what several of them need is loaded once, when it is needed.

    Args:
        config: the evaluation.
        folder: where learned styles are kept.
        networks: files of networks by name, for peers that need some.
        device: where to compute; None takes the best there is.
    """

    def __init__(
        self,
        config: EvaluationConfig,
        folder: Path,
        networks: Mapping[str, Path],
        device: torch.device,
    ) -> None:
        self._config, self._folder, self._device = config, folder, device
        self._context_kept: tuple[object, LearningContext] | None = None
        self._peers = Peers(networks, device)
        self._squares_kept: dict[tuple[str, int], Tensor] = {}

    @cached_property
    def base(self) -> Base:
        """The evaluation's base."""
        return load_base(self._config.base, device=str(self._device))

    def identity(self, method: Method, style: Path | None = None) -> str:
        """What outputs depend on beside what the method says: the base, and this version's numbers.

        Presets and peers change between versions, and style files are learned anew under the same
        name; outputs of old ones must not pass for new.

        Args:
            style: the style image; only outputs of style files depend on it.
        """
        if method.kind == "preset":
            return f"{self.base.hash} {learn_config(method)!r} {self._context(method).bank.content}"
        if method.kind == "peer":
            return self._peers.identity(method.value, method.options.get("set", {}))
        if method.kind == "learned" and style is not None:
            return f"{self.base.hash} {sha256(learned_file(method, style))}"
        return self.base.hash if method.kind in ("learned", "reconstruct") else ""

    def learned_as(self, method: Method, style: Path | None) -> str:
        """How the style of a method was learned, as style files say it; empty where none was."""
        if method.kind == "preset":
            return learn_config(method).title
        if method.kind == "learned" and style is not None:
            return load_style(learned_file(method, style)).manifest.preset
        return ""

    def check(self, method: Method) -> None:
        """Refuse what cannot work before hours are spent on the rest.

        Raises:
            UserError: an unknown preset, setting, peer or kind of reconstruction.
        """
        controls_of(method)
        if method.kind == "preset":
            self._context(method)
        elif method.kind == "peer":
            self._peers.identity(method.value, method.options.get("set", {}))
        elif method.kind == "reconstruct" and method.value not in ("full", "stochastic"):
            raise UserError(f"{method.name}: reconstruct is 'full' or 'stochastic'")

    def learn(self, method: Method, style: Path, name: str) -> Iterator[StepRecord]:
        """Learn a preset's style into the folder unless it is there; interrupted, it goes on."""
        target = self._style_file(method, name)
        if method.kind != "preset" or target.exists():
            return
        learner = StyleLearner(
            self.base,
            load_image(style),
            learn_config(method),
            seed=int(method.options.get("seed", 0)),
            name=style.stem,
            snapshot=snapshot_file(target),
            context=self._context(method),
        )
        yield from learn_into(learner, target)

    def _context(self, method: Method) -> LearningContext:
        """What the styles of one way of learning share; one is kept, methods come in turn."""
        config, content = learn_config(method), method.options.get("content")
        key = (config, content)
        if self._context_kept is None or self._context_kept[0] != key:
            squares = None if content is None else self._squares(content, config.bank.size)
            context = LearningContext(self.base, config, squares)
            self._context_kept = key, context
        return self._context_kept[1]

    def _squares(self, content: str, limit: int) -> Tensor:
        if (content, limit) not in self._squares_kept:
            found = [photo.path for photo in find_photos([content])]
            self._squares_kept[content, limit] = squares_of(self.base, found, limit)[0]
        return self._squares_kept[content, limit]

    def paint(
        self, method: Method, style: Path | None, name: str, photos: Sequence[Path]
    ) -> Iterator[Image.Image]:
        """Redraw photos, in order, one picture each."""
        if method.kind == "reconstruct":
            yield from self._reconstructions(method, photos)
        elif style is None:
            raise ValueError(f"{method.name} needs a style image")
        elif method.kind == "peer":
            size, options = self._config.size, method.options.get("set", {})
            redraw = self._peers.of(method.value, options, fit_square(load_image(style), size))
            for photo in photos:
                yield redraw(fit_square(load_image(photo), size))
        else:
            yield from self._redraw(method, self._style(method, style, name), photos)

    def _style_file(self, method: Method, name: str) -> Path:
        return self._folder / method.learning(self.identity(method)) / f"{name}.safetensors"

    def _style(self, method: Method, picture: Path, name: str) -> Style:
        if method.kind == "preset":
            return load_style(self._style_file(method, name))
        return load_style(learned_file(method, picture))

    def _redraw(
        self, method: Method, style: Style, photos: Sequence[Path]
    ) -> Iterator[Image.Image]:
        controls = controls_of(method)
        yield from Stylizer(self.base, style, controls, fit="crop").stream(photos)

    def _tensor(self, photo: Path) -> Tensor:
        return to_tensor(fit_square(load_image(photo), self.base.image_size))

    def _reconstructions(self, method: Method, photos: Sequence[Path]) -> Iterator[Image.Image]:
        steps = int(method.options.get("set", {}).get("steps", 50))
        seed = int(method.options.get("seed", 0))
        for photo in photos:
            seeds = [seed] if method.value == "stochastic" else None
            yield from to_images(reconstruct(self.base, self._tensor(photo), steps, seeds=seeds))


def learned_file(method: Method, picture: Path) -> Path:
    """The style file that a method of style files has for a style image.

    Raises:
        UserError: there is none.
    """
    if method.value == "shipped":
        return find_style(picture.stem)
    found = sorted(Path(method.value).glob(f"{picture.stem}*.safetensors"))
    if not found:
        raise UserError(
            f"{method.name}: {method.value} holds no style file for {picture.name}",
            hint=f"osasis learn {picture} -o {Path(method.value) / picture.stem}.safetensors",
        )
    return found[0]


def controls_of(method: Method) -> Controls:
    """How a method draws its squares.

    Raises:
        UserError: no such control, or a value that it does not take.
    """
    table = method.options.get("stylize", {})
    where = f"stylize of {method.name}"
    return Controls(**vars(from_table(Drawing, table, where=where, what="control")))


def learn_config(method: Method) -> LearnConfig:
    """The configuration of a preset method, its changes made.

    Raises:
        UserError: no such preset or setting.
    """
    if method.value not in PRESETS:
        raise UserError(f"{method.name}: no preset {method.value!r}", hint=", ".join(PRESETS))
    config = PRESETS[method.value]
    if "embedder" in method.options:
        config = config.judged_by(str(method.options["embedder"]))
    return with_table(config, method.options.get("set", {}), where=method.name)


def folder_outputs(
    method: Method, style: Path | None, photos: Sequence[Path], *, one_style: bool
) -> list[Path]:
    """Files of a folder method: FOLDER/STYLE/PHOTO.*, or FOLDER/PHOTO.* where there is one style.

    Raises:
        UserError: some are not there.
    """
    folder = Path(method.value)
    places = [folder / style.stem] if style else []
    places += [folder] if one_style or style is None else []
    place = next((p for p in places if p.is_dir()), None)
    if place is None:
        raise UserError(
            f"{method.name}: there is no folder {places[0]}",
            hint="outputs are expected as FOLDER/STYLE/PHOTO.png, named as the pictures are",
        )
    there = {p.stem: p for p in sorted(place.iterdir()) if p.suffix.lower() in IMAGE_SUFFIXES}
    missing = [photo.name for photo in photos if photo.stem not in there]
    if missing:
        raise UserError(
            f"{method.name}: {place} lacks {len(missing)} of {len(photos)} photos, for example "
            f"{missing[0]}",
            hint="file names must be those of the photos, the suffix may differ",
        )
    return [there[photo.stem] for photo in photos]
