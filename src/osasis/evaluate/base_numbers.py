"""The numbers of a base: reconstruction, samples, and what z_sem says about a photo."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from osasis.base import Base
from osasis.evaluate.density import reconstruct
from osasis.evaluate.inception import InceptionFeatures
from osasis.evaluate.networks import here, network_path, version_of
from osasis.evaluate.tables import frechet_distance
from osasis.imaging.tensors import to_images
from osasis.perception.identity import FaceEmbedder, IdentitySimilarity, Recogniser
from osasis.perception.judges import load_judges
from osasis.perception.lpips import Lpips
from osasis.pretrain.data import Entry, load_photos, spread
from osasis.pretrain.latents import encode_entries
from osasis.pretrain.log import draw_from_noise
from osasis.pretrain.probes import probe
from osasis.pretrain.train import TrainRecord

Report = Callable[[str, int, int], None]

BATCH = 16
SHOWN = 64  # pictures of a kind in what is returned
NOISE_SEED = 2**33  # of the stochastic reconstructions; those of samples are small numbers


@dataclass(frozen=True)
class Measurement:
    """One number, with what it takes to compare it with another.

    Attributes:
        name: what was measured.
        value: the number.
        count: pictures it comes from.
        how: settings, and the network with its version where one judged.
        better: "lower" or "higher".
    """

    name: str
    value: float
    count: int
    how: str
    better: str = "lower"


@dataclass(frozen=True)
class Plan:
    """What is measured, and on what.

    Attributes:
        photos: of people the base was not trained on.
        photo_count: how many of them are reconstructed, spread evenly.
        training: training images, for FID and to train the probes; empty leaves both out.
        samples: drawn for FID, against as many training images; needs the network "inception".
        labels: by attribute and image name; see `read_attributes`.
        networks: files of networks by the names of `osasis.evaluate.networks`; what was fetched
            with `osasis models fetch` is found without.
    """

    photos: Sequence[Entry]
    photo_count: int = 64
    training: Sequence[Entry] = ()
    samples: int = 0
    labels: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    networks: Mapping[str, Path] = field(default_factory=dict)


def evaluate_base(
    base: Base, plan: Plan, report: Report
) -> tuple[list[Measurement], dict[str, list[Image.Image]]]:
    """Measure a base.

    Args:
        base: the base.
        plan: what and on what.
        report: called with phase, done and total.

    Returns:
        The measurements, and pictures by title: photos, their reconstructions, samples.
    """
    photos = load_photos(spread(plan.photos, plan.photo_count), base.image_size)
    inception = _inception(plan, base)  # before anything slow, since its file may be none
    lpips_file = here("lpips", plan.networks)
    lpips = load_judges(lpips_file, base.device).lpips
    identity = _identity(plan.networks)
    found: list[Measurement] = []
    pictures = {"photos": _pictures(photos[:SHOWN])}
    for title, draw in _reconstructions(base).items():
        again = _reconstruct(draw, photos, partial(report, title))
        found += _compare(title, again, photos, lpips, identity, base)
        pictures[title] = _pictures(again[:SHOWN])
    for title, sampler in _samplers(base).items():
        drawn = _sample(sampler, plan.samples or BATCH, partial(report, title))
        pictures[title] = _pictures(drawn[:SHOWN])
        if inception is not None:
            found.append(_fid(title, drawn, inception, base, plan, report))
    if plan.labels and plan.training:
        found += _probes(base, plan, report)
    return found, pictures


def _reconstructions(base: Base) -> dict[str, Callable[[Tensor, int], Tensor]]:
    """Ways there and back; each takes photos and the number of the first."""

    def stochastic(x0: Tensor, first: int) -> Tensor:
        seeds = [NOISE_SEED + first + i for i in range(len(x0))]
        return draw_from_noise(base, base.diffae.plain(base.encode(x0)), seeds)

    return {
        "t0 ratio 0.5 and back, 50-step grid": lambda x0, _: reconstruct(
            base, x0, 50, seeds=None, t0=500
        ),
        "whole way and back, 100 steps": lambda x0, _: reconstruct(base, x0, 100, seeds=None),
        "z_sem with random x_T": stochastic,
    }


def _reconstruct(
    draw: Callable[[Tensor, int], Tensor], photos: Tensor, done: Callable[[int, int], None]
) -> Tensor:
    again = []
    for first in range(0, len(photos), BATCH):
        with torch.no_grad():
            again.append(draw(photos[first : first + BATCH], first).clamp(-1, 1).cpu())
        done(min(first + BATCH, len(photos)), len(photos))
    return torch.cat(again)


def _compare(
    title: str,
    again: Tensor,
    photos: Tensor,
    lpips: Lpips,
    identity: IdentitySimilarity | None,
    base: Base,
) -> Iterator[Measurement]:
    mse = ((again - photos) / 2).square().mean()
    yield Measurement(f"{title}: MSE in [0, 1]", float(mse), len(photos), "mean over pixels")
    with torch.no_grad():
        distances = [
            lpips(a.to(base.device), b.to(base.device)).cpu()
            for a, b in zip(again.split(BATCH), photos.split(BATCH), strict=True)
        ]
    how = f"{lpips.name}, v0.1, no resize ({base.image_size} px)"
    yield Measurement(f"{title}: LPIPS", float(torch.cat(distances).mean()), len(photos), how)
    if identity is not None:
        pairs = zip(_pictures(again), _pictures(photos), strict=True)
        values = [identity(output, photo) for output, photo in pairs]
        how = f"{identity.embedder.kind}, 112 px by five landmarks (YuNet)"
        mean = float(np.mean(values))
        yield Measurement(f"{title}: identity", mean, len(photos), how, "higher")


def _samplers(base: Base) -> dict[str, Callable[[int, int], Tensor]]:
    """Ways to draw photos from nothing; each takes the first seed and how many."""

    def without_code(first: int, count: int) -> Tensor:
        return draw_from_noise(base, base.diffae.null(count), range(first, first + count))

    ways: dict[str, Callable[[int, int], Tensor]] = {}
    if base.diffae.z_null is not None:
        ways["samples without a code"] = without_code
    ways["samples with codes of the latent DPM"] = lambda first, count: base.sample(count, first)
    return ways


def _sample(
    sampler: Callable[[int, int], Tensor], count: int, done: Callable[[int, int], None]
) -> Tensor:
    drawn = []
    for first in range(0, count, BATCH):
        with torch.no_grad():
            drawn.append(sampler(first, min(BATCH, count - first)).clamp(-1, 1).cpu())
        done(min(first + BATCH, count), count)
    return torch.cat(drawn)


def _inception(plan: Plan, base: Base) -> InceptionFeatures | None:
    path = here("inception", plan.networks)
    if path is None or not plan.samples or not plan.training:
        return None
    return InceptionFeatures(path, "fid", base.device)


def _fid(
    title: str,
    drawn: Tensor,
    features: InceptionFeatures,
    base: Base,
    plan: Plan,
    report: Report,
) -> Measurement:
    real = load_photos(spread(plan.training, len(drawn)), base.image_size)

    def counted(images: Tensor, phase: str) -> Iterator[Image.Image]:
        for number in range(len(images)):
            report(phase, number + 1, len(images))
            yield from to_images(images[number : number + 1])

    ours = features(counted(drawn, f"FID features of {title}"))
    theirs = features(counted(real, "FID features of training images"))
    version = version_of(network_path("inception", plan.networks))
    how = f"Inception-v3 of FID {version}, {features.resize}"
    how += f", against {len(real)} training images"
    return Measurement(f"{title}: FID", frechet_distance(ours, theirs), len(drawn), how)


def _probes(base: Base, plan: Plan, report: Report) -> Iterator[Measurement]:
    """AUC of linear probes trained on training images, on the photos."""
    known = set().union(*plan.labels.values())
    codes = []
    for phase, entries in (("codes to train probes", plan.training), ("codes", plan.photos)):
        labelled = [entry for entry in entries if Path(entry.name).stem in known]
        names, z_sem = _drain(encode_entries(base.encode, labelled, base.image_size), phase, report)
        codes.append(dict(zip(names, z_sem, strict=True)))
    statistics = base.z_mean.cpu(), base.z_std.cpu()
    for name, labels in plan.labels.items():
        found = probe(name, codes[0], codes[1], labels, statistics)
        if found is None or not np.isfinite(found.auc):
            continue
        split = "" if found.threshold is None else f", above {found.threshold:g} or not"
        how = f"logistic regression on z_sem of {found.trained_on} training images{split}"
        yield Measurement(f"probe {name}: AUC", found.auc, found.tested_on, how, "higher")


def _drain(
    records: Generator[TrainRecord, None, tuple[list[str], Tensor]], phase: str, report: Report
) -> tuple[list[str], Tensor]:
    while True:
        try:
            record = next(records)
        except StopIteration as end:
            result: tuple[list[str], Tensor] = end.value
            return result
        report(phase, record.images, record.total_images)


def _identity(networks: Mapping[str, Path]) -> IdentitySimilarity | None:
    kinds: tuple[Recogniser, ...] = ("arcface", "sface")
    for kind in kinds:
        path = here(kind, networks)
        if path is not None:
            return IdentitySimilarity(FaceEmbedder(kind, path))
    return None


def _pictures(images: Tensor) -> list[Image.Image]:
    return list(to_images(images))
