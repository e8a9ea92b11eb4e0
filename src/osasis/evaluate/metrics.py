"""The measures of a stylized picture, each with the network that makes it what it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from osasis.config.catalogue import assets
from osasis.errors import UserError
from osasis.evaluate.cache import remembered
from osasis.evaluate.networks import NETWORKS, here, network_path, version_of
from osasis.imaging.faces import FaceDetector
from osasis.imaging.tensors import to_tensor
from osasis.perception.judges import VGG_ASSET, Embedder, VggJudges, load_judges

if TYPE_CHECKING:
    from osasis.evaluate.named import StyleNamer
    from osasis.perception.identity import Recogniser

# network that a metric needs, None for one that is in the package
METRICS: dict[str, str | None] = {
    "style-named": "resnet18",
    "travel": "resnet18",
    "lpips": None,
    "lpips-5": "lpips",
    "identity-sface": "sface",
    "identity-arcface": "arcface",
    "structure-vgg16": None,
    "structure-vgg16-face": None,
    "structure-dino": "dino",
    "style-vgg16": None,
    "style-clip": "clip",
    "direction-vgg16": None,
    "direction-clip": "clip",
    "fid": "inception",
    "art-fid": "art-inception",
}
SET_METRICS = ("fid", "art-fid")
TWO = 2  # a photo, asked for first, and its output: see `remembered`
LEARNED_WITH = (None, "lpips", "clip")  # networks that presets and peers learn with


@dataclass(frozen=True)
class Pictures:
    """One output with its photo and style image, RGB, all squares of the evaluation's size."""

    output: Image.Image
    photo: Image.Image
    style: Image.Image | None


@dataclass(frozen=True)
class MetricInfo:
    """What a number is: scores of different networks, sizes or rules must not be mixed.

    Attributes:
        key: name in tables and files.
        title: name for people.
        network: the network it is measured with.
        version: first digits of the SHA-256 of the network's file.
        resize: what happens to pictures before the network sees them.
        better: "higher" or "lower".
        needs_style: whether it compares with the style image.
        learned: whether a preset or a peer learns with this network, so that it flatters them.
    """

    key: str
    title: str
    network: str
    version: str
    resize: str
    better: str
    needs_style: bool
    learned: bool = False

    def identity(self, size: int) -> str:
        """What a cached score is filed under: it changes with anything that changes the number."""
        return f"{self.key}:{self.version}:{size}"

    def describe(self, samples: int) -> dict[str, Any]:
        """As a table for reports, with the number of scores behind it."""
        return asdict(self) | {"samples": samples}


@dataclass(frozen=True)
class Metric:
    """A measure of one output; `made_do` says whether the last score needed a substitute."""

    info: MetricInfo
    score: Callable[[Pictures], float]
    made_do: Callable[[], bool] | None = None


def metric_names(wanted: Sequence[str] | None, given: Mapping[str, Path]) -> list[str]:
    """The metrics to compute: those asked for, or all whose networks are there.

    Raises:
        UserError: an unknown one, or one whose network is not there.
    """
    if wanted is None:
        return [name for name, network in METRICS.items() if not network or here(network, given)]
    for name in wanted:
        if name not in METRICS:
            raise UserError(f"there is no metric {name!r}", hint=f"metrics: {', '.join(METRICS)}")
        network = METRICS[name]
        if network is not None:
            network_path(network, given)
    return list(wanted)


class MetricFactory:
    """Makes metrics; what several of them need is loaded once.

    Args:
        given: files of networks, see `parse_networks`.
        photos: the evaluation's photos, from whose mean directions start.
        photos_id: stands for these photos in the identity of scores.
        lineup: style images among which styles are named.
        device: where to compute.
    """

    def __init__(
        self,
        given: Mapping[str, Path],
        photos: Sequence[Image.Image],
        photos_id: str,
        lineup: Sequence[Image.Image],
        device: torch.device,
    ) -> None:
        self._given, self._device = given, device
        self._photos, self._photos_id, self._lineup = photos, photos_id, lineup
        self._namer_kept: StyleNamer | None = None
        self._judges: VggJudges = load_judges(device=device)
        self._clip: Embedder | None = None
        self._vgg_features = remembered(self._structure_of, TWO)
        self._faces = remembered(FaceDetector(any_turn=False), TWO)

    def make(self, name: str) -> Metric:
        """The metric of that name, its network loaded.

        Raises:
            UserError: its network is not there or is damaged.
        """
        family, _, network = name.partition("-")
        if name in ("style-named", "travel"):
            return self._named(name)
        if family == "lpips":
            return self._lpips(name)
        if family == "identity":
            return self._identity(name, "sface" if network == "sface" else "arcface")
        if family == "structure":
            return self._structure(name, network)
        return self._embedding(name, family, network)

    def _path(self, network: str) -> Path:
        return network_path(network, self._given)

    def _info(self, name: str, title: str, resize: str, better: str, style: bool) -> MetricInfo:
        network = METRICS[name]
        if network is None:
            label, path = "VGG16 in the package", assets() / VGG_ASSET
        else:
            label, path = NETWORKS[network].title, self._path(network)
        learned = network in LEARNED_WITH
        return MetricInfo(name, title, label, version_of(path), resize, better, style, learned)

    def _named(self, name: str) -> Metric:
        from osasis.evaluate.named import ResNetStatistics, StyleNamer

        if self._namer_kept is None:
            network = ResNetStatistics(self._path("resnet18"), self._device)
            self._namer_kept = StyleNamer(network, self._lineup, self._device)
        namer = self._namer_kept
        if name == "travel":
            info = self._info(name, "Travel towards the style", "none", "higher", True)
            return Metric(info, lambda p: namer.travel(p.output, p.photo, style_of(p)))
        info = self._info(name, f"Style named among {len(namer)}", "none", "higher", True)
        info = replace(info, version=f"{info.version}-{namer.lineup_id}")
        return Metric(info, lambda p: float(namer.named(p.output, p.photo, style_of(p))))

    def _lpips(self, name: str) -> Metric:
        judges = self._judges
        if name == "lpips-5":
            judges = load_judges(self._path("lpips"), self._device)
        title = f"LPIPS ({judges.lpips.name})"
        info = self._info(name, title, "none", "lower", False)

        @torch.no_grad()
        def layers(picture: Image.Image) -> list[Tensor]:
            return judges.lpips.normalise(judges.trunk(self._tensor(picture)))

        of = remembered(layers, TWO)

        def score(p: Pictures) -> float:
            photo = of(p.photo)  # first, so that the last output goes and not the photo
            return float(judges.lpips.distance(of(p.output), photo))

        return Metric(info, score)

    def _identity(self, name: str, kind: Recogniser) -> Metric:
        from osasis.perception.identity import FaceEmbedder, IdentitySimilarity

        similarity = IdentitySimilarity(FaceEmbedder(kind, self._path(kind)), self._faces)
        resize = "aligned to 112 x 112 by five landmarks (YuNet), bilinear"
        info = self._info(name, f"Identity ({kind})", resize, "higher", False)
        return Metric(info, lambda p: similarity(p.output, p.photo), lambda: not similarity.found)

    def _structure(self, name: str, network: str) -> Metric:
        from osasis.evaluate.named import DinoKeys, face_only
        from osasis.perception.similarity import structure_distance

        face = network.endswith("-face")
        what = "DINO keys" if network == "dino" else "VGG16 relu4_1" + ", face only" * face
        resize = "bilinear, antialiased, to 224 x 224"
        info = self._info(name, f"Structure distance ({what})", resize, "lower", False)
        of = self._vgg_features
        if network == "dino":
            dino = DinoKeys(self._path("dino"), self._device)
            of = remembered(lambda picture: dino(self._tensor(picture)), TWO)

        def score(p: Pictures) -> float:
            both = [of(p.photo), of(p.output)]
            x, y = map(face_only, both) if face else both
            return float(structure_distance(x, y))

        return Metric(info, score)

    def _structure_of(self, picture: Image.Image) -> Tensor:
        from osasis.evaluate.named import VggStructure

        return VggStructure(self._judges.trunk)(self._tensor(picture))

    def _embedding(self, name: str, family: str, network: str) -> Metric:
        embedder = self._judges.statistics if network == "vgg16" else self._clip_embedder()
        what = "VGG16 statistics" if network == "vgg16" else "CLIP"
        resize = (
            f"bicubic, antialiased, to at most {self._judges.statistics.max_size}"
            if network == "vgg16"
            else "bicubic, antialiased, to the network's size, CLIP's normalisation"
        )
        title = "Style similarity" if family == "style" else "Directional similarity"
        info = self._info(name, f"{title} ({what})", resize, "higher", True)
        if family == "style":
            return Metric(info, lambda p: style_similarity(embedder, *self._two(p)))
        with torch.no_grad():
            mean = torch.stack([embedder(self._tensor(photo))[0] for photo in self._photos]).mean(0)
        info = replace(info, version=f"{info.version}-{self._photos_id}")
        return Metric(
            info,
            lambda p: directional_similarity(
                embedder, *self._two(p), photo=self._tensor(p.photo), photos_mean=mean[None]
            ),
        )

    def _clip_embedder(self) -> Embedder:
        if self._clip is None:
            from osasis.perception.clip import ClipEmbedder

            self._clip = ClipEmbedder(self._path("clip"), device=self._device)
        return self._clip

    def _tensor(self, picture: Image.Image) -> Tensor:
        return to_tensor(picture).to(self._device)

    def _two(self, p: Pictures) -> tuple[Tensor, Tensor]:
        return self._tensor(p.output), self._tensor(style_of(p))


def style_of(p: Pictures) -> Image.Image:
    """The style image of an output that has one."""
    if p.style is None:
        raise ValueError("this metric needs a style image")
    return p.style


@torch.no_grad()
def style_similarity(embedder: Embedder, output: Tensor, style: Tensor) -> float:
    """Cosine of the embeddings of an output and the style image, (1, 3, H, W) in [-1, 1]."""
    return float(F.cosine_similarity(embedder(output), embedder(style)))


@torch.no_grad()
def directional_similarity(
    embedder: Embedder, output: Tensor, style: Tensor, *, photo: Tensor, photos_mean: Tensor
) -> float:
    """Cosine of `E(output) - E(photo)` and `E(style) - mean E(photos)` (StyleGAN-NADA, 2108.00946).

    The photos' mean stands for the photo domain, so that every method is held to one direction.
    """
    made = embedder(output) - embedder(photo)
    wanted = embedder(style) - photos_mean
    return float(F.cosine_similarity(made, wanted))
