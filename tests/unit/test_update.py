"""How an update is computed: in parts, in bfloat16, compiled; what it computes stays the same."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from osasis.base import Base, load_base
from osasis.config.catalogue import configs, paintings
from osasis.config.presets import PRESETS, SPNSettings
from osasis.device import compile_in_place, mixed_precision, with_room
from osasis.diffusion.route import Route
from osasis.errors import OsasisError
from osasis.imaging.load import load_image
from osasis.imaging.tensors import fit_square, to_tensor
from osasis.learn.context import LearningContext
from osasis.learn.critic import DirectionCritic, load_critic
from osasis.learn.learner import StyleLearner
from osasis.learn.losses import style_targets
from osasis.learn.micro_batches import MicroBatches, bytes_per_pixel, micro_batches_for
from osasis.learn.objectives import RegionObjective, direction_judge
from osasis.learn.save import learn_style
from osasis.learn.train_state import TrainState
from osasis.learn.update import Branch, Student, UpdateResult, update
from osasis.models.diffae import DiffAE, copy_unet
from osasis.models.latent_net import LatentNet, LatentNetConfig
from osasis.models.spn import new_spn
from osasis.perception.judges import load_judges
from osasis.pretrain.config import load_config
from osasis.stylize.stylizer import Stylizer

from ..conftest import TINY, picture
from .test_style import QUICK, run

SPN = SPNSettings(channels=8, lambda_spn=0.5)
PHOTOS = 5
QUICK_FAST = replace(
    PRESETS["fast"], iterations=2, batch_size=2, bank=QUICK.bank, learn_route=Route(4, 4)
)


class Updates:
    """A student, its optimiser, and updates of it on pictures that are always the same."""

    def __init__(
        self,
        base: Base,
        critic: DirectionCritic,
        *,
        mixed: bool = False,
        seed: int = 0,
    ) -> None:
        self.weights = PRESETS["paper"].weights
        draw = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            spn = new_spn(SPN)
        diffae = copy_unet(base.diffae)
        diffae.unet.requires_grad_(True)
        self.student, self.critic = Student(diffae, spn, mixed), critic
        self.trained = [*diffae.unet.parameters(), *spn.parameters()]
        self.optimizer = torch.optim.Adam(self.trained, lr=1e-3)
        x0 = torch.rand(PHOTOS + 2, 3, 32, 32, generator=draw) * 2 - 1
        x_t = torch.randn(PHOTOS + 1, 3, 32, 32, generator=draw)
        branch = Branch(x0[1:], base.encode(x0[1:]), x_t)
        self.content, self.style = branch[:PHOTOS], branch[PHOTOS:]
        with torch.no_grad():
            self.seen = DirectionCritic.embed(critic, self.content.x0)
        self.targets = style_targets(x0[1:2], x0[:1], critic)

    def __call__(self, micro_batches: MicroBatches | None = None) -> UpdateResult:
        judge = direction_judge(self.seen, self.targets, self.critic, self.weights, lambda x0: x0)
        return update(
            self.student, [self.optimizer], self.content, self.style,
            QUICK.learn_route.decoding()[0], judge, SPN, route=QUICK.learn_route,
            micro_batches=micro_batches,
        )  # fmt: skip

    def gradient(self) -> Tensor:
        return torch.cat([p.grad.flatten() for p in self.trained if p.grad is not None])

    def state(self) -> list[Tensor]:
        moments = [v for s in self.optimizer.state.values() for v in s.values()]
        return [t.detach().clone() for t in (*self.trained, *moments)]


class SmallMemory(DirectionCritic):
    """Runs out of memory with more than `room` pictures."""

    room = 1

    def embed(self, x: Tensor) -> Tensor:
        if len(x) > self.room:
            raise torch.OutOfMemoryError
        return super().embed(x)


@pytest.fixture(scope="module")
def critic_of() -> Callable[..., DirectionCritic]:
    judges = load_judges()

    def make(
        kind: type[DirectionCritic] = DirectionCritic, *, mixed: bool = False
    ) -> DirectionCritic:
        return kind(judges, mixed=mixed)

    return make


@pytest.mark.parametrize("at_once", [1, 2, 3, 5])
def test_parts_of_an_update_add_up_to_it(
    tiny_base: Base, critic_of: Callable[..., DirectionCritic], at_once: int
) -> None:
    whole, parts = (Updates(tiny_base, critic_of()) for _ in range(2))
    one, other = whole(), parts(MicroBatches(at_once))
    weighted = {name for name, weight in asdict(whole.weights).items() if weight}
    assert {name for name, loss in one.losses.items() if loss > 0} == {"total", *weighted}
    assert other.losses == pytest.approx(one.losses, rel=1e-4)
    assert list(other.losses) == list(one.losses)
    expected = whole.gradient()
    # rounding can turn a ReLU over (up to 3e-4; in float64 they differ by 8e-15)
    assert float((parts.gradient() - expected).norm() / expected.norm()) < 1e-3
    for name, value in vars(one.prediction).items():
        torch.testing.assert_close(getattr(other.prediction, name), value, rtol=0, atol=1e-4)


def test_out_of_memory_halves_the_portion_for_good(
    tiny_base: Base, critic_of: Callable[..., DirectionCritic]
) -> None:
    small, whole = Updates(tiny_base, critic_of(SmallMemory)), Updates(tiny_base, critic_of())
    micro_batches = MicroBatches(PHOTOS + 1)
    for _ in range(2):
        small(micro_batches), whole(MicroBatches(1))
        assert micro_batches.at_once == 1  # 6, 3, 1
        for mine, theirs in zip(small.state(), whole.state(), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=0)


def allocate(at_once: int) -> Tensor:
    """Room for one; for more it asks the CPU's own allocator for 4 PB a picture."""
    return torch.empty(1 if at_once == 1 else at_once << 50)


def test_a_cpu_that_runs_out_of_memory_is_answered() -> None:
    with pytest.raises(RuntimeError) as caught:
        allocate(2)
    assert not isinstance(caught.value, torch.OutOfMemoryError)  # what torch raises here
    assert with_room(allocate, 6)[1] == 1
    with pytest.raises(torch.OutOfMemoryError):
        with_room(lambda n: allocate(2), 4)
    micro_batches = MicroBatches(6)
    micro_batches.attempt(allocate, 6)
    assert micro_batches.at_once == 1
    with pytest.raises(OsasisError, match="too little memory to learn on one picture"):
        micro_batches.attempt(lambda n: allocate(2), 6)


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    tried = []

    def work(at_once: int) -> None:
        tried.append(at_once)
        raise RuntimeError("size mismatch")

    with pytest.raises(RuntimeError, match="size mismatch"):
        with_room(work, 8)
    assert tried == [8]


def test_one_picture_too_much_changes_nothing(
    tiny_base: Base, critic_of: Callable[..., DirectionCritic]
) -> None:
    updates = Updates(tiny_base, critic_of(SmallMemory))
    updates.critic.room = PHOTOS  # type: ignore[attr-defined]
    updates()
    before = updates.state()
    updates.critic.room = 0  # type: ignore[attr-defined]
    with pytest.raises(OsasisError, match="too little memory"):
        updates()
    for mine, earlier in zip(updates.state(), before, strict=True):
        torch.testing.assert_close(mine, earlier, rtol=0, atol=0)


def test_a_step_without_memory_is_not_tried_again(
    tiny_base: Base, critic_of: Callable[..., DirectionCritic], monkeypatch: pytest.MonkeyPatch
) -> None:
    updates = Updates(tiny_base, critic_of())
    steps = []

    def step() -> None:
        steps.append(1)
        raise torch.OutOfMemoryError

    monkeypatch.setattr(updates.optimizer, "step", step)
    with pytest.raises(OsasisError, match="Adam's step"):
        updates()
    assert len(steps) == 1


def test_portions_come_from_the_size_of_the_networks(
    tiny_base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert micro_batches_for(tiny_base, QUICK).at_once == QUICK.batch_size + 1
    monkeypatch.setattr("osasis.learn.micro_batches.total_memory", lambda device: 1)
    assert micro_batches_for(tiny_base, QUICK).at_once == 1
    released = load_config(configs()["ffhq-256"], data="unused").model.unet
    per_picture = 256**2 * bytes_per_pixel(released, PRESETS["release"].spn.channels)
    assert 3e9 < per_picture < 5e9


def has_bfloat16() -> bool:
    with mixed_precision(torch.empty(0).device, on_cpu=True):
        return torch.is_autocast_enabled("cpu")


needs_bfloat16 = pytest.mark.skipif(not has_bfloat16(), reason="no bfloat16 on this CPU")


@pytest.fixture(scope="module")
def embedded_base() -> Base:
    """The base that bfloat16 is used on: of an untrained one it is all rounding."""
    return load_base()


def square(name: str) -> Tensor:
    """A shipped painting, (1, 3, 256, 256) in [-1, 1]."""
    return to_tensor(fit_square(load_image(paintings()[name]), 256))


PEOPLE = ("renoir_seashore", "cezanne_peasant")


LAYERS = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Linear)


@needs_bfloat16
def test_bfloat16_goes_the_same_way(embedded_base: Base) -> None:
    gradients, losses = [], []
    for mixed in (False, True):
        config = replace(PRESETS["fast"], mixed_precision=mixed)
        people = torch.cat([square(name) for name in PEOPLE])
        context = LearningContext(embedded_base, config, people)
        list(context.bank.fill())
        goya = embedded_base.to_x0(square("goya_josefa"))
        objective = RegionObjective(context, goya, embedded_base.region_maps(goya))
        content, style, judge = objective.batch(range(2), torch.Generator().manual_seed(0))
        inputs = content.x0.shape[1]
        train_state = TrainState(embedded_base, config, 0, inputs, compiled=False)
        route = embedded_base.unclipped(config.learn_route)
        result = update(
            train_state.student, train_state.optimizers, content, style, route.decoding()[0], judge,
            config.spn, route=route,
        )  # fmt: skip
        groups = [group for o in train_state.optimizers for group in o.param_groups]
        trained = [p for group in groups for p in group["params"]]
        assert all(p.dtype == torch.float32 for p in trained)
        assert all(value.dtype == torch.float32 for value in vars(result.prediction).values())
        gradients.append(torch.cat([p.grad.flatten() for p in trained if p.grad is not None]))
        losses.append(result.losses)
    assert losses[1] != losses[0]
    assert losses[1] == pytest.approx(losses[0], rel=0.03, abs=1e-3)
    # a number rounded to 8 bits is off by up to 2^-9; each layer on the way (VGG's ten too) rounds
    # two factors and a product, once forward and twice backward; errors add up as a random walk,
    # whose size is three deviations at most
    networks = (embedded_base.diffae.unet, embedded_base.autoencoder.decoder)
    layers = 10 + sum(isinstance(m, LAYERS) for net in networks for m in net.modules())
    error = 3 * math.sqrt(9 * layers) * 2**-9
    cosine = float(torch.cosine_similarity(*gradients, dim=0))
    assert cosine > 1 / math.sqrt(1 + error**2)  # .984 for 109 layers


@needs_bfloat16
def test_a_style_learned_in_bfloat16_draws_the_same_picture(embedded_base: Base) -> None:
    photo, drawn = square("baciccio_woman"), []
    people = [load_image(paintings()[name]) for name in PEOPLE]
    for mixed in (False, True):
        config = replace(PRESETS["fast"], iterations=2, mixed_precision=mixed)
        picture_B = load_image(paintings()["goya_josefa"])
        style = learn_style(picture_B, base=embedded_base, preset=config, photos=people)
        drawn.append(Stylizer(embedded_base, style).redraw_squares(photo))
    plain = Stylizer(embedded_base).redraw_squares(photo)
    changed, between = ((x - drawn[0]).abs().mean() for x in (plain, drawn[1]))
    assert 0 < float(between) < float(changed) / 3


def test_bfloat16_is_for_those_who_ask() -> None:
    with mixed_precision(torch.empty(0).device):
        assert not torch.is_autocast_enabled("cpu")
    with mixed_precision(torch.empty(0).device, wanted=False, on_cpu=True):
        assert not torch.is_autocast_enabled("cpu")
    assert [c.preset for c in PRESETS.values() if c.mixed_precision] == ["fast"]


def test_fast_learns_the_same_again_and_after_a_stop(tiny_base: Base, tmp_path: Path) -> None:
    """With all that only `fast` has: bfloat16, regions, Muon."""

    def learner(snapshot: Path | None = None) -> StyleLearner:
        return StyleLearner(tiny_base, picture(1), QUICK_FAST, snapshot=snapshot)

    whole, again, first = learner(), learner(), learner(tmp_path / "snapshot")
    run(whole), run(again), run(first, updates=3)  # two updates are a walk
    second = learner(tmp_path / "snapshot")
    assert [r.done for r in run(second) if r.phase == "learn"] == [3, 4]
    expected = whole.style().tensors
    for other in (again, second):
        for name, tensor in other.style().tensors.items():
            torch.testing.assert_close(tensor, expected[name], rtol=0, atol=0)


def test_nothing_is_compiled_on_a_cpu_unless_asked(tiny_base: Base) -> None:
    assert not LearningContext(tiny_base, replace(QUICK, iterations=10_000)).compiled
    assert LearningContext(tiny_base, QUICK, compiled=True).compiled


def test_without_a_compiler_networks_run_as_they_are(tmp_path: Path) -> None:
    program = """
import warnings
import torch
from osasis.device import compile_in_place
class Network(torch.nn.Linear):
    def forward(self, x):
        return torch.nn.functional.silu(super().forward(x))
networks = [Network(3, 3) for _ in range(2)]
x = torch.ones(1, 3)
before = [network(x) for network in networks]
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for network, value in zip(networks, before):
        compile_in_place(network)
        torch.testing.assert_close(network(x), value)
        network(x).sum().backward()
        with torch.no_grad():
            torch.testing.assert_close(network(x), value)
        assert set(network.state_dict()) == {"weight", "bias"}
ours = [str(w.message) for w in caught if "compiling failed" in str(w.message)]
assert len(ours) == 1 and "so that networks run as they are" in ours[0], ours
"""
    cache = {"CXX": str(tmp_path / "none"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | cache, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_compiled_update_agrees(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    unet = replace(TINY.unet, channels=8, channel_mult=(1,), attention_resolutions=())
    torch.manual_seed(0)
    diffae = DiffAE(replace(TINY, unet=unet))
    for parameter in diffae.unet.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    base = Base(
        diffae, LatentNet(LatentNetConfig(16, 32, 3)), torch.zeros(16), torch.ones(16),
        name="small", file_hash="none", device=torch.empty(0).device,
    )  # fmt: skip
    paper = PRESETS["paper"].judged_by("vgg16-stats")
    made = []
    for compiled in (False, True):
        critic = load_critic(paper, load_judges(), base.device, compiled=compiled)
        made.append(Updates(base, critic))
        if compiled:
            compile_in_place(made[-1].student.diffae.unet)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="compiling failed")
        plain, compiled_ = (updates() for updates in made)
    assert compiled_.losses == pytest.approx(plain.losses, rel=1e-4)
    expected = made[0].gradient()
    assert float((made[1].gradient() - expected).norm() / expected.norm()) < 1e-4
