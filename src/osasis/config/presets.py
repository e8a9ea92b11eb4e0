"""Presets: everything about learning and using a style that is a number or a choice."""

from __future__ import annotations

from dataclasses import MISSING, Field, dataclass, field, fields, replace
from typing import Any, Final, Literal

from osasis.config.tables import Checked
from osasis.diffusion.route import Route
from osasis.errors import UserError

EMBEDDED = "vgg16-stats"  # the embedder in the package
SHIPPED_LAYERS: Final = 4  # of LPIPS, in the package
LPIPS_LAYERS: Final = 5  # as published


# (a setting, its value): the settings that are read with that value alone
READ_ONLY_WITH = {
    ("critic", "directions"): (
        "weights", "bridge", "embedder", "lpips_layers", "release_preprocessing",
    ),
    ("critic", "regions"): ("region_weights", "dress"),
    ("optimizer", "muon"): ("lr_rest",),
}  # fmt: skip


@dataclass(frozen=True)
class LossWeights:
    """Weights of the five losses (the paper's Eqs. 15 to 18)."""

    cross_domain: float = 1.0
    in_domain: float = 0.5
    embedding: float = 30.0
    l1: float = 10.0
    lpips: float = 10.0


@dataclass(frozen=True)
class RegionWeights:
    """Weights of the losses of `RegionCritic`, and how often it looks closely.

    Attributes:
        region: means and deviations of each region against the style's.
        whole: the same of the whole picture, against the style's regions in the photo's shares.
        content: features without palette and contrast against the photo's.
        structure: self-similarity of features against the photo's (Splice, 2201.00424).
        crops: how often an update looks at crops at full size in place of whole pictures at half.
    """

    region: float = 2.0
    whole: float = 3.0
    content: float = 0.2
    structure: float = 20.0
    crops: float = 0.5


@dataclass(frozen=True)
class BridgeConfig:
    """How the style image's photographic twin is made.

    Attributes:
        steps: ancestral steps of the whole schedule.
        t0_ratio: how far up the schedule the style image is noised.
        candidates: draws, of which the one nearest to the style image is kept.
        release_seam: noise one node higher than the walk back starts, as the release does.
    """

    steps: int = 50
    t0_ratio: float = 0.5
    candidates: int = 1
    release_seam: bool = False


@dataclass(frozen=True)
class BankConfig:
    """Photos drawn from the base that every style learns on.

    Attributes:
        size: photos in the bank.
        latent_steps: DDIM steps of the latent DPM.
        decode_steps: DDIM steps of the images.
        seed: seed of the first photo; photo i has seed + i.
    """

    size: int = 256
    latent_steps: int = 200
    decode_steps: int = 20
    seed: int = 20240217


@dataclass(frozen=True)
class SPNSettings:
    """The structure-preserving network's shape and use.

    Attributes:
        channels: width.
        timed: whether it sees the timestep.
        lambda_spn: factor of its output in the content branch (Eq. 13).
        style_lambda: the same in the style branch; the release leaves it out, that is 1.
        index_time: give it the index on the decoding grid (release) instead of the timestep.
        zero_init: start from an output of 0.
    """

    channels: int = 128
    timed: bool = True
    lambda_spn: float = 0.1
    style_lambda: float = 0.1
    index_time: bool = False
    zero_init: bool = False


def _default(setting: Field[Any]) -> Any:
    return setting.default if setting.default_factory is MISSING else setting.default_factory()


@dataclass(frozen=True)
class LearnConfig(Checked):
    """One preset, whole.

    Attributes:
        preset: its name, kept in the style file.
        embedder: what directions are measured with, see `osasis.perception.judges.get_embedder`:
            "clip" (ViT-B/32, paper and release), "clip:" and a folder, or "vgg16-stats".
        lpips_layers: layers of LPIPS on VGG16: 5 as published, or the 4 in the package.
        iterations: walks down from t0; each makes one update per decoding step.
        batch_size: content photos per update.
        lr_unet: rate for eps_B.
        lr_spn: Adam's rate for the SPN.
        critic: what judges: "directions" (the paper) or "regions" (`RegionCritic`: for bases in
            latents; there are then no twin and no directions).
        region_weights: of the losses of "regions".
        dress: move each region of a photo to the statistics of the style's before it is inverted
            (`Wardrobe`), so that eps_B has only strokes to learn; with "regions" only.
        optimizer: of eps_B's hidden convolutions: "adam" (the paper), or "muon"; the rest learns
            with Adam at `lr_rest` then.
        lr_rest: see `optimizer`.
        rates: "constant" (the paper), or "cosine": five updates up, then down to a twentieth.
        trained_levels: U-Net levels whose blocks learn (0 is the highest resolution); None is the
            whole network, middle block and timestep embedding included.
        train_mode: leave eps_B in training mode, so that dropout is active (release).
        style_levels: levels that see the style's z_sem when stylizing; None takes the upper two
            thirds, rounded down (levels 0 to 3 of the released six).
        mixed_precision: U-Net and judges multiply in bfloat16 where the device does so itself;
            weights, Adam, losses, DDIM steps and SPN stay float32 (engineering choice).
        release_preprocessing: give CLIP raw [-1, 1] pixels resized by nearest neighbour (release).

    Raises:
        ValueRefused: a value that is none of these.
        ValueError: one that nothing would act on.
    """

    preset: str
    iterations: int
    batch_size: int
    lr_unet: float
    lr_spn: float
    learn_route: Route
    stylize_route: Route
    weights: LossWeights = field(default_factory=LossWeights)
    bridge: BridgeConfig = field(default_factory=BridgeConfig)
    bank: BankConfig = field(default_factory=BankConfig)
    spn: SPNSettings = field(default_factory=SPNSettings)
    trained_levels: tuple[int, ...] | None = None
    train_mode: bool = False
    style_levels: tuple[int, ...] | None = None
    mixed_precision: bool = False
    release_preprocessing: bool = False
    critic: Literal["directions", "regions"] = "directions"
    region_weights: RegionWeights = field(default_factory=RegionWeights)
    dress: bool = False
    optimizer: Literal["adam", "muon"] = "adam"
    lr_rest: float = 1e-3
    rates: Literal["constant", "cosine"] = "constant"
    embedder: str = EMBEDDED
    lpips_layers: Literal[4, 5] = SHIPPED_LAYERS

    @property
    def title(self) -> str:
        """The preset's name, with its judges where they are not the preset's own."""
        own = PRESETS.get(self.preset, self)
        if own.embedder != self.embedder:
            return f"{self.preset}, judged by {self.embedder}"
        if own.lpips_layers != self.lpips_layers:
            return f"{self.preset}, judged by {self.lpips_layers} layers of LPIPS"
        return self.preset

    def _check_unread(self) -> None:
        """Refuse settings of what another setting leaves out: nothing would act on them."""
        defaults = {f.name: _default(f) for f in fields(self)}
        for (name, value), read in READ_ONLY_WITH.items():
            if getattr(self, name) == value:
                continue
            for other in read:
                if getattr(self, other) != defaults[other]:
                    raise ValueError(
                        f"{other} is of {name} {value!r} alone, and here it is "
                        f"{getattr(self, name)!r}"
                    )

    def judged_by(self, embedder: str) -> LearnConfig:
        """The same with another embedder; the one in the package brings its LPIPS of four layers.

        Raises:
            UserError: the preset has no embedder.
        """
        if self.critic == "regions" and embedder != EMBEDDED:
            raise UserError(
                f"{self.preset} judges region by region with VGG, not with {embedder}",
                hint="leave --embedder out, or choose --preset paper or --preset release",
            )
        if embedder == EMBEDDED:
            return replace(
                self,
                embedder=embedder,
                lpips_layers=SHIPPED_LAYERS,
                release_preprocessing=False,
            )
        return replace(self, embedder=embedder)

    @property
    def updates(self) -> int:
        """Updates of one style: one per decoding step of every walk."""
        return self.iterations * len(self.learn_route.decoding())

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_unread()
        if self.release_preprocessing and self.embedder == EMBEDDED:
            raise ValueError(f"release_preprocessing is of CLIP, and the embedder is {EMBEDDED}")


PAPER = LearnConfig(
    preset="paper",
    iterations=200,
    batch_size=8,
    lr_unet=5e-6,
    lr_spn=1e-4,
    learn_route=Route(50, 20),
    stylize_route=Route(100, 50),
    bank=BankConfig(size=1600),
    embedder="clip",
    lpips_layers=LPIPS_LAYERS,
)

RELEASE = LearnConfig(
    preset="release",
    iterations=200,
    batch_size=8,
    lr_unet=5e-6,
    lr_spn=1e-4,
    learn_route=Route(50, 20, shared_grid=False),
    stylize_route=Route(100, 50, shared_grid=False),
    bridge=BridgeConfig(release_seam=True),
    bank=BankConfig(size=1600),
    spn=SPNSettings(style_lambda=1.0, index_time=True),
    train_mode=True,
    release_preprocessing=True,
    embedder="clip",
    lpips_layers=LPIPS_LAYERS,
)

FAST_ROUTE = Route(27, 7, t0_ratio=0.15, spacing="time^1.5")
FAST = LearnConfig(
    preset="fast",
    iterations=100,
    batch_size=2,
    lr_unet=2e-3,
    lr_spn=2e-3,
    # 4 evaluations up and 1 down; docs/RESULTS.md says how this was chosen
    learn_route=FAST_ROUTE,
    stylize_route=FAST_ROUTE,
    bank=BankConfig(size=48, latent_steps=50, decode_steps=10),
    spn=SPNSettings(channels=64, timed=False, lambda_spn=1.0, style_lambda=1.0, zero_init=True),
    trained_levels=(0, 1),
    style_levels=(),
    mixed_precision=True,
    critic="regions",
    dress=True,
    optimizer="muon",
    rates="cosine",
)

PRESETS: dict[str, LearnConfig] = {c.preset: c for c in (FAST, PAPER, RELEASE)}
