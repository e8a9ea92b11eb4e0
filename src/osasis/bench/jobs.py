"""What a benchmark measures: a function for each question, and the bases and styles for it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from PIL import Image
from torch import nn

from osasis.base import Base, load_base
from osasis.bench.measure import Job, Skipped, seconds_of
from osasis.config import artefacts
from osasis.config.catalogue import configs
from osasis.config.presets import EMBEDDED, PRESETS, LearnConfig
from osasis.device import choose_device
from osasis.diffusion.route import Route
from osasis.errors import OsasisError
from osasis.evaluate.peers.gatys import GatysConfig
from osasis.evaluate.peers.nnst import NnstConfig
from osasis.evaluate.peers.run import Peers
from osasis.formats.style_file import Style, load_style
from osasis.imaging.tensors import to_images
from osasis.learn.learner import StyleLearner
from osasis.learn.regions import Statistics, Wardrobe, spn_channels
from osasis.models.diffae import DiffAE
from osasis.models.latent_net import LatentNet
from osasis.models.spn import new_spn
from osasis.pretrain.config import load_config
from osasis.stylize.preview import preview_style
from osasis.stylize.stylizer import Stylizer

RELEASED_256 = "released-256"
SMALL_STEP = 0.02


def released_base(device: str | None) -> Base:
    """A base of the released architecture for 256 px with random weights."""
    config = load_config(configs()["ffhq-256"], data="unused")
    torch.manual_seed(0)
    diffae, latent_net = DiffAE(config.model), LatentNet(config.latent_net)
    for parameter in diffae.parameters():
        if parameter.ndim > 1 and not bool(parameter.any()):
            nn.init.normal_(parameter, std=SMALL_STEP)  # what training starts from at 0
    z_dim = config.model.encoder.z_dim
    return Base(
        diffae, latent_net, torch.zeros(z_dim), torch.ones(z_dim),
        name=RELEASED_256, file_hash="untrained", device=choose_device(device),
    )  # fmt: skip


def subject(network: str, device: str | None) -> Base:
    """The base to measure: `RELEASED_256`, or what `load_base` knows.

    Raises:
        UserError: no such base.
    """
    return released_base(device) if network == RELEASED_256 else load_base(network, device=device)


def untrained_style(base: Base, config: LearnConfig) -> Style:
    """A style of the preset's shape, its changes random and small."""
    picture = Image.linear_gradient("L").convert("RGB")
    plain = preview_style(base, picture, name=f"untrained-{config.preset}")
    changed = base.diffae.unet.parameters_of_levels(config.trained_levels)
    tensors = {"z_style": plain.tensors["z_style"]}
    channels = inputs = base.x0_shape[0]
    if config.critic == "regions":
        one = torch.ones(1, channels)
        tensors |= Wardrobe(Statistics(0 * one, one), False, 0 * one, torch.zeros(1)).tensors()
        inputs = spn_channels(channels, dress=config.dress, face=False)
    spn = new_spn(config.spn, inputs, channels)
    tensors |= {f"spn.{k}": v for k, v in spn.state_dict().items()}
    tensors |= {f"unet.{k}": 0.05 * p.std() * torch.randn_like(p) for k, p in changed.items()}
    tensors = {k: torch.nan_to_num(v) for k, v in tensors.items()}
    manifest = replace(plain.manifest, config=config, lambda_spn=config.spn.lambda_spn)
    return Style(manifest, plain.thumbnail, tensors)


COMPARED = ("release", "fast")
BATCHES = (1, 2, 4, 8, 16)
PHOTOS = (1, 4, 16)
RESOLUTIONS = (0.5, 1.0, 2.0)  # of the base's size
TRAINED = 3  # a forward and a backward pass cost about three forward passes
MATRIX = 2048
MATRIX_ON_ACCELERATOR = 8192
PEAK = "matrix product"


def evaluations_of(route: Route) -> int:
    """Network evaluations of one photo: up and down."""
    return len(route.inversion()) + len(route.decoding())


def judged_here(preset: str) -> LearnConfig:
    """A preset with the judges in the package, which every machine has: CLIP is fetched."""
    return PRESETS[preset].judged_by(EMBEDDED)


def update_name(preset: str) -> str:
    """What the job of one update is called."""
    return f"learning update, {judged_here(preset).title}"


class Bench:
    """All jobs for one base.

    Args:
        base: the base to measure.
        limit: seconds; jobs that are predicted to take longer are left out and named.
    """

    def __init__(self, base: Base, limit: float) -> None:
        self.base, self.limit = base, limit
        self.skipped: list[Skipped] = []
        self._evaluate(1)()
        self.evaluation_seconds = seconds_of(self._evaluate(1))

    def jobs(self, *, peers: bool = True) -> list[Job]:
        """What can be measured here within the limit; the rest is in `skipped`.

        Args:
            peers: also updates of peers, see `peer_cost`.
        """
        planned = [(Job("python and import osasis", import_osasis), 0.0), (self._matrix(), 0.0)]
        planned += [(self._batch(n), n) for n in BATCHES]
        planned += [self._resolution(factor) for factor in RESOLUTIONS]
        for preset in COMPARED:
            planned += [self._stylize(preset, n) for n in (PHOTOS if preset == "fast" else (1,))]
        planned += [self._stylize("fast", n, mixed=True) for n in PHOTOS]
        planned += [(self._switch(), 0.0)]
        planned += [self._update(preset) for preset in COMPARED]
        planned += [(job, 0.0) for job in peer_jobs(self.base)] if peers else []
        return [job for job, cost in planned if self._affordable(job, cost)]

    def _affordable(self, job: Job, evaluations: float) -> bool:
        """Whether a job of that many evaluations of one picture stays within the limit."""
        predicted = evaluations * self.evaluation_seconds
        if predicted <= self.limit:
            return True
        self.skipped.append(
            Skipped(job.name, f"about {predicted:.0f} s, more than --limit {self.limit:g}")
        )
        return False

    def _matrix(self) -> Job:
        """The device's peak: a large matrix product in float32; bfloat16 can go beyond it."""
        device = self.base.device
        on_cpu = device == torch.empty(0).device
        size = MATRIX if on_cpu else MATRIX_ON_ACCELERATOR
        left, right = torch.randn(size, size, device=device), torch.randn(size, size, device=device)
        return Job(PEAK, lambda: left @ right)

    def _evaluate(self, batch: int, factor: float = 1.0) -> Callable[[], object]:
        base = self.base
        side = round(base.image_size * factor / base.stride) * base.stride // base.factor
        x_t = torch.randn(batch, base.x0_shape[0], side, side, device=base.device)
        t = torch.full((batch,), 500, device=base.device)
        z_dim = base.diffae.config.encoder.z_dim
        conditioning = base.diffae.plain(torch.randn(batch, z_dim, device=base.device))

        def evaluate() -> object:
            with torch.no_grad():
                return base.diffae.eps(x_t, t, conditioning)

        return evaluate

    def _batch(self, batch: int) -> Job:
        name = f"U-Net evaluation, batch {batch}"
        return Job(name, self._evaluate(batch), batch)

    def _resolution(self, factor: float) -> tuple[Job, float]:
        side = round(self.base.image_size * factor)
        name = f"U-Net evaluation, {side} px"
        return Job(name, self._evaluate(1, factor), 1), factor**2

    def _stylize(self, preset: str, count: int, *, mixed: bool = False) -> tuple[Job, float]:
        config = PRESETS[preset]
        stylizer = Stylizer(
            self.base,
            untrained_style(self.base, config),
            batch_size=count,
            mixed_precision=mixed,
            fit="crop",
        )
        [photo] = to_images(torch.zeros(1, 3, self.base.image_size, self.base.image_size))
        evaluations = count * evaluations_of(config.stylize_route)
        job = Job(
            f"stylize {count} photo{'s' * (count > 1)}, {preset}{', bfloat16' * mixed}",
            lambda: stylizer([photo] * count),
            evaluations,
        )
        return job, evaluations

    def _switch(self) -> Job:
        """Load a style file and make it ready beside a base that is loaded."""
        style = untrained_style(self.base, PRESETS["fast"])
        # the folder is removed with this object
        self._folder = TemporaryDirectory(prefix="osasis-bench-")
        path = Path(self._folder.name) / "style.safetensors"
        style.save(path)
        self.style_bytes = path.stat().st_size
        return Job("load a style file", lambda: Stylizer(self.base, load_style(path)))

    def _update(self, preset: str) -> tuple[Job, float]:
        """One update of learning, on photos of noise; the bank and the bridge are counted apart."""
        config = judged_here(preset)
        images = config.batch_size + 1  # the style branch is one more
        prepare, step = learning_step(self.base, config)
        return Job(update_name(preset), step, TRAINED * images, prepare=prepare), TRAINED * images


def peer_jobs(base: Base) -> list[Job]:
    """Short runs of peers on a photo of the base's size, from which `peer_cost` follows."""
    peers = Peers({}, base.device)
    side = (base.image_size, base.image_size)
    photo, style = Image.linear_gradient("L"), Image.radial_gradient("L")
    photo, style = (picture.convert("RGB").resize(side) for picture in (photo, style))
    runs: dict[str, tuple[str, dict[str, float]]] = {
        "gatys, 1 updates": ("gatys", {"steps": 1}),
        "gatys, 3 updates": ("gatys", {"steps": 3}),
        "nnst, 1 updates": ("nnst", {"steps": 1, "split_steps": 0}),
        "nnst, 2 updates": ("nnst", {"steps": 2, "split_steps": 0}),
        "nnst, 3 updates": ("nnst", {"steps": 1, "split_steps": 1}),
    }
    if artefacts.fetched("adain") is not None:
        runs["adain"] = ("adain", {})
    return [
        Job(title, partial(peers.of(name, options, style), photo))
        for title, (name, options) in runs.items()
    ]


def peer_cost(seconds: Mapping[str, float]) -> dict[str, float]:
    """Seconds of a photo at full length, by peer, from those of `peer_jobs`; those there are.

    What an update costs is the difference of two runs; a style costs next to nothing.
    """
    cost = {"adain": seconds["adain"]} if "adain" in seconds else {}
    if "gatys, 1 updates" in seconds:
        one, three = (seconds[f"gatys, {n} updates"] for n in (1, 3))
        cost["gatys"] = one + (GatysConfig().steps - 1) * (three - one) / 2
        once, twice, split = (seconds[f"nnst, {n} updates"] for n in (1, 2, 3))
        full = NnstConfig()
        cost["nnst"] = once + (full.steps - 1) * (twice - once) + full.split_steps * (split - once)
    return cost


def import_osasis() -> None:
    """Start an interpreter and import osasis.

    Raises:
        OsasisError: it cannot be imported.
    """
    command = [sys.executable, "-c", "import osasis"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OsasisError(f"osasis cannot be imported: {done.stderr.strip()}")


def learning_step(
    base: Base, config: LearnConfig
) -> tuple[Callable[[], object], Callable[[], object]]:
    """What prepares updates of `config`, and what then makes one, again and again."""
    [picture] = to_images(torch.zeros(1, 3, base.image_size, base.image_size))
    made: list[Callable[[], object]] = []

    def prepare() -> None:
        made.append(StyleLearner(base, picture, config).rehearse())

    return prepare, lambda: made[0]()


def style_cost(config: LearnConfig, update: float, evaluation: float) -> dict[str, float | int]:
    """Seconds of one style, extrapolated from one update and one evaluation of a picture.

    Returns:
        Counts ("updates", "bridge_evaluations", "bank_evaluations") and seconds ("learning",
        "bridge", "bank", "first_style", and "further_style", which finds the bank there).
    """
    bridge_steps = max(1, int(config.bridge.steps * config.bridge.t0_ratio))
    bridge = config.bridge.candidates * bridge_steps
    bank = config.bank.size * (config.bank.decode_steps + len(config.learn_route.inversion()))
    seconds = {
        "learning": config.updates * update,
        "bridge": bridge * evaluation,
        "bank": bank * evaluation,
    }
    further = seconds["learning"] + seconds["bridge"]
    return {
        "updates": config.updates,
        "bridge_evaluations": bridge,
        "bank_evaluations": bank,
        **seconds,
        "first_style": further + seconds["bank"],
        "further_style": further,
    }
