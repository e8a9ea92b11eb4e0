"""One evaluation: outputs, scores, tables. A generator; progress and files live outside it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from osasis.config.catalogue import assets, list_styles
from osasis.errors import UserError
from osasis.evaluate.cache import ScoreCache
from osasis.evaluate.config import SHIPPED, EvaluationConfig, Method
from osasis.evaluate.inception import InceptionFeatures
from osasis.evaluate.metrics import (
    METRICS,
    SET_METRICS,
    Metric,
    MetricFactory,
    MetricInfo,
    Pictures,
    metric_names,
)
from osasis.evaluate.networks import NETWORKS, network_path, version_of
from osasis.evaluate.painters import Painters, folder_outputs
from osasis.evaluate.tables import Estimate, Resampler, art_fid
from osasis.files import sha256
from osasis.imaging.find import find_images
from osasis.imaging.load import load_image
from osasis.imaging.save import save_image
from osasis.imaging.tensors import fit_square

NO_STYLE = "-"
ALL = "all"  # sources of styles


@dataclass(frozen=True)
class Group:
    """Outputs of one method for one style.

    Attributes:
        outputs: a path per photo, in the order of the photos.
        learned_as: the preset and its judges; empty where nothing was learned.
    """

    method: Method
    source: str
    style: Path | None
    outputs: tuple[Path, ...]
    learned_as: str = ""

    @property
    def style_name(self) -> str:
        """Name of the style image."""
        return self.style.stem if self.style else NO_STYLE


@dataclass(frozen=True)
class Score:
    """What was measured of one output."""

    group: Group
    photo: Path
    output: Path
    values: dict[str, float]


@dataclass(frozen=True)
class Tick:
    """Where the evaluation is: a phase, how much of it is done, and a word on it."""

    phase: str
    done: int
    total: int
    note: str = ""


@dataclass
class Result:
    """What an evaluation found.

    Attributes:
        scores: of every output.
        infos: of every metric: network, version, resize rule, samples.
        table: estimates by method, source of styles and metric.
        differences: of every method to the first one, paired, by method, source and metric.
        notes: what has to be known to read the numbers.
    """

    scores: list[Score] = field(default_factory=list)
    infos: dict[str, dict[str, Any]] = field(default_factory=dict)
    table: dict[str, dict[str, dict[str, Estimate]]] = field(default_factory=dict)
    differences: dict[str, dict[str, dict[str, Estimate]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class Evaluation:
    """Makes what is missing, measures it, and tabulates.

    Args:
        config: what to evaluate.
        out: folder of the report; outputs, styles and scores are kept in it.
        networks: files of networks by name.
        device: where to compute.

    Raises:
        UserError: pictures, networks or settings that are not there, before any work is done.
    """

    def __init__(
        self,
        config: EvaluationConfig,
        out: Path,
        networks: Mapping[str, Path],
        device: torch.device,
    ) -> None:
        self.config, self.out, self._networks, self._device = config, out, networks, device
        self.names = metric_names(config.metrics, networks)
        self.photos = find_images([config.photos])
        _refuse_same_names(self.photos, "photos")
        self._output_names = [f"{p.stem}-{_digest(p)}.png" for p in self.photos]
        self.styles = {
            k: _shipped() if v == SHIPPED else find_images([v]) for k, v in config.styles.items()
        }
        for name, styles in self.styles.items():
            _refuse_same_names(styles, f"styles of {name}")
        self._lineup = [*find_images(list(config.among or [assets() / "styles"]))]
        self._lineup += [path for paths in self.styles.values() for path in paths]
        self._painters = Painters(config, out / "styles", networks, device)
        self._cache = ScoreCache(out / "cache")
        self._made_do: Counter[str] = Counter()  # scores that needed a substitute, by metric
        for method in config.methods:
            self._painters.check(method)
        self.groups = [group for method in config.methods for group in self._groups(method)]
        self.result = Result()

    @property
    def skipped(self) -> list[str]:
        """Metrics that are not computed because their network was not given."""
        return [n for n in METRICS if n not in self.names] if self.config.metrics is None else []

    def steps(self) -> Generator[Tick, None, None]:
        """Do it, one record a step. Stopped at any point, the next run goes on from there.

        Raises:
            OsasisError: a picture that cannot be read, or a full disk.
        """
        yield from self._make_outputs()
        self.result = Result()
        self._made_do.clear()
        yield from self._measure()
        yield from self._tabulate()

    def picture(self, path: Path) -> Image.Image:
        """A picture as everything is measured: its central square, at the evaluation's size."""
        return fit_square(load_image(path), self.config.size)

    def _groups(self, method: Method) -> Iterator[Group]:
        every = [(source, style) for source, styles in self.styles.items() for style in styles]
        pairs: list[tuple[str, Path | None]] = [(s, p) for s, p in every]
        if not method.uses_style or not pairs:
            pairs = [(NO_STYLE, None)]
        for source, style in pairs:
            if method.kind == "folder":
                one = len(pairs) == 1
                outputs = folder_outputs(method, style, self.photos, one_style=one)
            else:
                folder = self.out / "outputs" / method.slug(self._painters.identity(method, style))
                folder = folder / _named(source, style)
                outputs = [folder / name for name in self._output_names]
            learned_as = self._painters.learned_as(method, style)
            yield Group(method, source, style, tuple(outputs), learned_as)

    def _make_outputs(self) -> Iterator[Tick]:
        made = [g for g in self.groups if g.method.kind != "folder"]
        missing = {id(g): [o for o in g.outputs if not o.exists()] for g in made}
        total = sum(map(len, missing.values()))
        done = 0
        for group in made:
            wanted = set(missing[id(group)])
            pairs = zip(self.photos, group.outputs, strict=True)
            todo = [(photo, output) for photo, output in pairs if output in wanted]
            if not todo:
                continue
            name = _named(group.source, group.style)
            what = f"{group.method.name}, {group.style_name}"
            if group.style is not None:
                for record in self._painters.learn(group.method, group.style, name):
                    yield Tick(f"{record.phase} {what}", record.done, record.total)
            yield Tick("redraw", done, total, what)
            photos = [photo for photo, _ in todo]
            pictures = self._painters.paint(group.method, group.style, name, photos)
            for (_, output), picture in zip(todo, pictures, strict=True):
                save_image(picture, output)
                done += 1
                yield Tick("redraw", done, total, what)

    def _measure(self) -> Iterator[Tick]:
        photos = [self.picture(p) for p in self.photos]
        photos_id = hashlib.sha256(b"".join(p.tobytes() for p in photos)).hexdigest()[:8]
        lineup = [self.picture(p) for p in self._lineup]
        factory = MetricFactory(self._networks, photos, photos_id, lineup, self._device)
        metrics = [factory.make(name) for name in self.names if name not in SET_METRICS]
        total = sum(len(group.outputs) for group in self.groups)
        styles = [self.picture(g.style) if g.style else None for g in self.groups]
        found: list[list[Score]] = [[] for _ in self.groups]
        # photo by photo, so that what is measured of a photo is measured once
        for index, (path, photo) in enumerate(zip(self.photos, photos, strict=True)):
            for group, style, scores in zip(self.groups, styles, found, strict=True):
                output = group.outputs[index]
                values = self._scores(metrics, Pictures(self.picture(output), photo, style))
                scores.append(Score(group, path, output, values))
                yield Tick("measure", sum(map(len, found)), total)
        self.result.scores = [score for scores in found for score in scores]
        for metric in metrics:
            samples = sum(metric.info.key in s.values for s in self.result.scores)
            self.result.infos[metric.info.key] = metric.info.describe(samples)
            if metric.made_do is not None:
                self.result.notes.append(
                    f"{metric.info.title}: no face was found in {self._made_do[metric.info.key]} "
                    f"of {samples} outputs; there the photo's landmarks were used."
                )

    def _scores(self, metrics: list[Metric], pictures: Pictures) -> dict[str, float]:
        images = (pictures.output, pictures.photo, pictures.style)
        known = self._cache.read(images)
        values, fresh = {}, False
        for metric in metrics:
            if metric.info.needs_style and pictures.style is None:
                continue
            identity = metric.info.identity(self.config.size)
            if identity not in known:
                known[identity], fresh = metric.score(pictures), True
                if metric.made_do is not None:
                    known[f"{identity}:made-do"] = float(metric.made_do())
            self._made_do[metric.info.key] += int(known.get(f"{identity}:made-do", 0))
            values[metric.info.key] = known[identity]
        if fresh:
            self._cache.write(images, known)
        return values

    def _tabulate(self) -> Iterator[Tick]:
        sets = [name for name in self.names if name in SET_METRICS]
        extractors = {name: self._extractor(name) for name in sets}
        cells: dict[tuple[str, str], list[Score]] = {}
        together = [ALL] if len(self.styles) > 1 and ALL not in self.styles else []
        for score in self.result.scores:
            for source in [*together, score.group.source]:
                cells.setdefault((score.group.method.name, source), []).append(score)
        first: dict[str, dict[str, np.ndarray]] = {}
        for done, ((method, source), scores) in enumerate(cells.items(), 1):
            shape = (len(scores) // len(self.photos), len(self.photos))
            resampler = Resampler(shape[1], shape[0], self.config.bootstrap)
            arrays = {
                key: np.array([s.values[key] for s in scores]).reshape(shape).T
                for key in scores[0].values
            }
            row = {key: resampler.mean(array) for key, array in arrays.items()}
            if scores[0].group.style is not None:
                for name, extractor in extractors.items():
                    yield Tick("features", done, len(cells), f"{method}, {source}")
                    row |= self._set_metric(name, extractor, scores, resampler, row)
            self.result.table.setdefault(method, {})[source] = row
            if first.setdefault(source, arrays) is not arrays:
                self.result.differences.setdefault(method, {})[source] = {
                    key: resampler.mean(array - first[source][key])
                    for key, array in arrays.items()
                    if key in first[source]
                }
            yield Tick("tabulate", done, len(cells))

    def _extractor(self, name: str) -> tuple[MetricInfo, InceptionFeatures]:
        network = str(METRICS[name])
        path = network_path(network, self._networks)
        features = InceptionFeatures(path, "fid" if name == "fid" else "art", self._device)
        title = "FID to the style images" if name == "fid" else "FID of ArtFID"
        info = MetricInfo(
            name, title, NETWORKS[network].title, version_of(path), features.resize, "lower", True
        )
        return info, features

    def _set_metric(
        self,
        name: str,
        extractor: tuple[MetricInfo, InceptionFeatures],
        scores: list[Score],
        resampler: Resampler,
        row: dict[str, Estimate],
    ) -> dict[str, Estimate]:
        info, network = extractor

        def features(path: Path) -> np.ndarray:
            picture = self.picture(path)
            folder = f"{info.key}-{info.version}"
            return self._cache.features(picture, folder, lambda: network([picture])[0])

        styles = list(dict.fromkeys(s.group.style for s in scores if s.group.style))
        outputs = np.stack([features(s.output) for s in scores])
        outputs = outputs.reshape(len(styles), len(self.photos), -1).transpose(1, 0, 2)
        found = resampler.frechet(outputs, np.stack([features(style) for style in styles]))
        samples = sum(score.group.style is not None for score in self.result.scores)
        self.result.infos[info.key] = info.describe(samples)
        part = "lpips-5" if "lpips-5" in row else "lpips"
        if part not in row:
            return {name: found}
        product = f"artfid-{part}" if name == "art-fid" else f"artfid-of-fid-{part}"
        self.result.infos[product] = info.describe(samples) | {
            "key": product,
            "title": f"ArtFID with {info.network} and {self.result.infos[part]['title']}",
            "learned": True,  # its LPIPS is
        }
        return {name: found, product: art_fid(row[part], found)}


def _shipped() -> list[Path]:
    """The pictures that the learned styles in the package were learned from."""
    return [assets() / "styles" / f"{style.stem}.webp" for style in list_styles()]


def _digest(path: Path) -> str:
    return sha256(path)[:8]


def _named(source: str, style: Path | None) -> str:
    return "none" if style is None else f"{source}-{style.stem}-{_digest(style)}"


def _refuse_same_names(paths: list[Path], what: str) -> None:
    seen: dict[str, Path] = {}
    for path in paths:
        other = seen.setdefault(path.stem, path)
        if other is not path:
            raise UserError(
                f"two {what} have the same name: {other} and {path}",
                hint="rename one: results are found by name",
            )
