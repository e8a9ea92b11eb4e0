"""Learning a style on a tiny base: records, resume, style file, bank."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open

from osasis.base import Base, load_base
from osasis.config.catalogue import assets
from osasis.config.presets import (
    PRESETS,
    BankConfig,
    BridgeConfig,
    LearnConfig,
    SPNSettings,
)
from osasis.config.tables import from_table
from osasis.diffusion.route import Route
from osasis.errors import OsasisError, UserError
from osasis.formats.style_file import Style, load_style
from osasis.imaging.load import load_image
from osasis.imaging.tensors import to_tensor
from osasis.learn import learner as learn_module
from osasis.learn.bridge import bridge
from osasis.learn.content import DrawnBank, PhotoBank, cache_folder, squares_of
from osasis.learn.context import LearningContext
from osasis.learn.learner import (
    StepRecord,
    StyleLearner,
    default_style_levels,
    photo_order,
)
from osasis.learn.save import learn_style
from osasis.models.diffae import invert
from osasis.perception import judges as judges_module
from osasis.perception.vgg import load_vgg
from osasis.stylize.model import student as student_of

from ..conftest import picture, write_tiny_base

QUICK = LearnConfig(
    preset="quick",
    iterations=2,
    batch_size=2,
    lr_unet=1e-3,
    lr_spn=1e-3,
    learn_route=Route(4, 4),
    stylize_route=Route(8, 4),
    bridge=BridgeConfig(steps=8, candidates=2),
    bank=BankConfig(size=8, latent_steps=4, decode_steps=4),
    spn=SPNSettings(channels=32, zero_init=True),
    trained_levels=(0, 1),
)


def run(learner: StyleLearner, updates: int | None = None) -> list[StepRecord]:
    """All records, or those until `updates` updates are made; then the generator is closed."""
    records = []
    steps = learner.steps()
    for record in steps:
        records.append(record)
        if updates is not None and record.phase == "learn" and record.done == updates:
            break
    steps.close()  # type: ignore[attr-defined]
    return records


@pytest.fixture(scope="module")
def learned(tiny_base: Base) -> tuple[Style, list[StepRecord]]:
    learner = StyleLearner(tiny_base, picture(1), QUICK, name="quick")
    records = run(learner)
    return learner.style(), records


def test_records_count_every_phase(learned: tuple[Style, list[StepRecord]]) -> None:
    phases = {}
    for record in learned[1]:
        phases.setdefault(record.phase, []).append((record.done, record.total))
    assert phases == {
        "bridge": [(1, 2), (2, 2)],
        "bank": [(8, 8)],
        "learn": [(i, 4) for i in range(1, 5)],
    }
    last = learned[1][-1].losses
    assert last["total"] == pytest.approx(sum(v for k, v in last.items() if k != "total"))


def test_learning_brings_the_style_image_nearer(tiny_base: Base) -> None:
    config = replace(QUICK, iterations=6, lr_unet=3e-3)
    records = run(StyleLearner(tiny_base, picture(1), config))
    losses = [r.losses["total"] for r in records if r.phase == "learn"]
    assert sum(losses[-4:]) < 0.8 * sum(losses[:4])


def test_too_long_a_name_is_refused_before_it_is_learned(tiny_base: Base) -> None:
    with pytest.raises(UserError, match="name may have 255 letters, got 300"):
        StyleLearner(tiny_base, picture(1), QUICK, name="x" * 300)


def test_a_seed_gives_the_same_style(
    tiny_base: Base, learned: tuple[Style, list[StepRecord]]
) -> None:
    again = StyleLearner(tiny_base, picture(1), QUICK, name="quick")
    run(again)
    for name, tensor in again.style().tensors.items():
        torch.testing.assert_close(tensor, learned[0].tensors[name], rtol=0, atol=0)


@pytest.mark.parametrize("stop", [1, 2])
def test_interrupted_learning_continues_to_the_same_style(
    tiny_base: Base, learned: tuple[Style, list[StepRecord]], tmp_path: Path, stop: int
) -> None:
    snapshot = tmp_path / "snapshot.safetensors"
    first = StyleLearner(tiny_base, picture(1), QUICK, name="quick", snapshot=snapshot)
    run(first, updates=stop)
    second = StyleLearner(tiny_base, picture(1), QUICK, name="quick", snapshot=snapshot)
    records = run(second)
    assert "bridge" not in {r.phase for r in records}
    for name, tensor in second.style().tensors.items():
        torch.testing.assert_close(tensor, learned[0].tensors[name], rtol=0, atol=1e-7)
    second.finish()
    assert not snapshot.exists()
    assert list(tmp_path.iterdir()) == []


def test_a_snapshot_of_something_else_is_left_alone(tiny_base: Base, tmp_path: Path) -> None:
    snapshot = tmp_path / "snapshot.safetensors"
    run(StyleLearner(tiny_base, picture(1), QUICK, snapshot=snapshot), updates=2)
    other = StyleLearner(tiny_base, picture(2), QUICK, snapshot=snapshot)
    assert next(other.steps()).phase == "bridge"


def test_only_chosen_levels_change(learned: tuple[Style, list[StepRecord]]) -> None:
    names = {name for name in learned[0].tensors if name.startswith("unet.")}
    assert names
    assert not any("middle_block" in name or "time_embed" in name for name in names)


def test_a_style_file_needs_no_flags(
    learned: tuple[Style, list[StepRecord]], tiny_base: Base, tmp_path: Path
) -> None:
    path = tmp_path / "s.safetensors"
    learned[0].save(path)
    loaded = load_style(path)
    assert loaded.manifest == learned[0].manifest
    assert loaded.manifest.base_hash == tiny_base.hash
    assert loaded.manifest.style_levels == default_style_levels(3) == (0, 1)
    assert loaded.thumbnail.size == (32, 32)
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["osasis"])["format"] == "osasis-style-3"


def test_another_base_is_refused(learned: tuple[Style, list[StepRecord]], tmp_path: Path) -> None:
    other = load_base(write_tiny_base(tmp_path / "other.safetensors", seed=9))
    with pytest.raises(UserError, match="was learned on base 'tiny'"):
        student_of(learned[0], other)


@pytest.mark.parametrize("content", [b"", b"not a style", b"\x10" + b"\0" * 7 + b'{"a": 1}       '])
def test_files_that_are_no_styles(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match="not a style"):
        load_style(path)


def test_a_base_is_not_a_style(tiny_base_path: Path) -> None:
    with pytest.raises(UserError, match="not an osasis style"):
        load_style(tiny_base_path)


def test_presets_survive_the_style_file() -> None:
    for config in (*PRESETS.values(), QUICK):
        assert from_table(LearnConfig, json.loads(json.dumps(asdict(config)))) == config


def test_released_numbers() -> None:
    """What the presets must say."""
    release, paper = PRESETS["release"], PRESETS["paper"]
    for config in (release, paper):
        assert config.iterations * len(config.learn_route.decoding()) == 2000
        assert (config.batch_size, config.lr_unet, config.lr_spn) == (8, 5e-6, 1e-4)
        assert tuple(asdict(config.weights).values()) == (1.0, 0.5, 30.0, 10.0, 10.0)
        assert config.bridge.t0_ratio == 0.5
        assert len(config.stylize_route.inversion()) == 50
        assert len(config.stylize_route.decoding()) == 25
    assert release.spn.style_lambda == 1.0 and release.spn.index_time
    assert paper.spn.style_lambda == paper.spn.lambda_spn == 0.1 and not paper.spn.index_time
    assert default_style_levels(6) == (0, 1, 2, 3)


@pytest.mark.parametrize("preset", ["fast", "paper", "release"])
def test_a_rehearsed_update_is_a_whole_one(tiny_base: Base, preset: str) -> None:
    """A benchmark times it: an update that is not finite would leave Adam out."""
    config = replace(PRESETS[preset].judged_by("vgg16-stats"), trained_levels=(0,))
    learner = StyleLearner(tiny_base, picture(1), config)
    before = learner._state()
    before = {k: v.clone() for k, v in before.items() if k.startswith("unet.")}
    learner.rehearse()()
    assert any(not torch.equal(v, learner._state()[k]) for k, v in before.items())


def test_photo_order_visits_all_photos_once_an_epoch() -> None:
    drawn = [i for it in range(10) for i in photo_order(it, batch=4, size=10, seed=1)]
    for epoch in range(4):
        assert sorted(drawn[epoch * 10 : (epoch + 1) * 10]) == list(range(10))
    assert drawn[:10] != drawn[10:20]


def test_banks_share_parts_and_recover(tiny_base: Base) -> None:
    config = BankConfig(size=16, latent_steps=3, decode_steps=3, seed=7)
    bank = DrawnBank(tiny_base, config, Route(4, 4))
    assert list(bank.fill()) == [8, 16]
    first = bank.photos([3, 12])
    small = DrawnBank(tiny_base, replace(config, size=8), Route(4, 4))
    assert list(small.fill()) == [8]
    assert torch.equal(small.photos([3]).x_t, first.x_t[:1])
    part = max(cache_folder().rglob("00001.safetensors"), key=lambda p: p.stat().st_mtime)
    part.write_bytes(b"damaged")
    with pytest.raises(OsasisError, match="damaged"):
        DrawnBank(tiny_base, config, Route(4, 4)).photos([12])
    again = DrawnBank(tiny_base, config, Route(4, 4))
    assert list(again.fill()) == [8, 16]
    torch.testing.assert_close(again.photos([3, 12]).x_t, first.x_t)


@pytest.mark.parametrize("nearest", [0, 1, 2])
def test_the_bridge_keeps_the_best_candidate(tiny_base: Base, nearest: int) -> None:
    """By 10 L1 + LPIPS; here LPIPS is a number that decides for one of them."""
    style_B = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    config = BridgeConfig(steps=6, candidates=3)
    seen: list[torch.Tensor] = []

    def lpips(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        seen.append(x)
        assert torch.equal(y, style_B)
        return torch.tensor([0.0 if len(seen) - 1 == nearest else 100.0])

    best = list(bridge(tiny_base, style_B, config, 4, lpips))
    assert len(best) == len(seen) == 3
    assert all(not torch.equal(a, b) for a, b in zip(seen, seen[1:], strict=False))
    assert torch.equal(best[-1], seen[nearest])


def test_the_bridge_weighs_l1_and_lpips(tiny_base: Base) -> None:
    """The sum decides where L1 and LPIPS disagree: a little more L1 is worth ten times as much."""
    style_B = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    config = BridgeConfig(steps=6, candidates=2)
    twins: list[torch.Tensor] = []

    def first(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        twins.append(x)
        return torch.zeros(1)

    list(bridge(tiny_base, style_B, config, 4, first))
    l1 = [float((x - style_B).abs().mean()) for x in twins]
    gap = l1[0] - l1[1]  # LPIPS makes up for it, by a little too much or too little
    for factor, expected in ((9.0, 1), (11.0, 0)) if gap > 0 else ((9.0, 0), (11.0, 1)):
        worse = 1 if gap > 0 else 0
        answers = iter([torch.tensor([factor * abs(gap) if i == worse else 0.0]) for i in range(2)])
        best = list(bridge(tiny_base, style_B, config, 4, lambda x, y, a=answers: next(a)))
        assert torch.equal(best[-1], twins[expected])


def test_a_single_candidate_is_not_judged(tiny_base: Base) -> None:
    def lpips(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        raise AssertionError("there is nothing to choose from")

    twins = list(bridge(tiny_base, torch.zeros(1, 3, 32, 32), BridgeConfig(steps=6), 4, lpips))
    assert len(twins) == 1


def test_styles_of_one_context_load_the_judges_once(
    tiny_base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []

    def count(path: Path) -> Any:
        loaded.append(path)
        return load_vgg(path)

    monkeypatch.setattr(judges_module, "load_vgg", count)
    context = LearningContext(tiny_base, QUICK)
    for seed in (1, 2):
        run(StyleLearner(tiny_base, picture(seed), QUICK, context=context), updates=1)
    assert len(loaded) == 1


def test_updates_that_are_not_finite_stop(tiny_base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learn_module, "MAX_BAD_UPDATES", 2)
    config = replace(QUICK, weights=replace(QUICK.weights, l1=float("inf")))
    learner = StyleLearner(tiny_base, picture(1), config)
    with pytest.raises(OsasisError, match="2 updates in a row were not finite"):
        run(learner)
    changes = [t for k, t in learner.style().tensors.items() if k.startswith("unet.")]
    assert all(float(t.abs().max()) == 0 for t in changes)


def test_wrong_use(tiny_base: Base) -> None:
    with pytest.raises(UserError, match="levels 0 to 2"):
        StyleLearner(tiny_base, picture(1), replace(QUICK, trained_levels=(5,)))
    with pytest.raises(UserError, match="fast, paper, release"):
        learn_style(picture(1), base=tiny_base, preset="quickest")
    with pytest.raises(OsasisError, match="nothing has been learned"):
        StyleLearner(tiny_base, picture(1), QUICK).style()


def test_learning_on_photos_of_ones_own(
    tiny_base: Base, learned: tuple[Style, list[StepRecord]], tmp_path: Path
) -> None:
    photos = [picture(seed, size=60) for seed in range(20, 31)]
    records: list[StepRecord] = []

    def learn(given: list[Image.Image]) -> Style:
        return learn_style(
            picture(1), base=tiny_base, preset=QUICK, photos=given, callback=records.append
        )

    style = learn(photos)
    # as many as the bank holds, evenly over what was given
    assert [r.done for r in records if r.phase == "bank"] == [8]
    assert style.manifest.content.startswith("8 photos, ")
    assert learned[0].manifest.content == "drawn"
    drawn = learned[0].tensors
    assert all(not torch.equal(t, drawn[k]) for k, t in style.tensors.items() if k[:4] == "unet")
    for name, tensor in learn(photos).tensors.items():
        torch.testing.assert_close(tensor, style.tensors[name], rtol=0, atol=0)
    assert learn(photos[:8]).manifest.content != style.manifest.content
    path = tmp_path / "own.safetensors"
    style.save(path)
    assert load_style(path).manifest == style.manifest


def test_the_bank_of_photos_holds_what_the_base_makes_of_them(tiny_base: Base) -> None:
    squares = torch.cat([to_tensor(picture(seed, size=32)) for seed in range(10)])
    bank = PhotoBank(tiny_base, squares, QUICK.learn_route)
    assert list(bank.fill()) == [8, 10] and list(bank.fill()) == []
    branch = bank.photos([9, 0])
    assert torch.equal(branch.x0, squares[[9, 0]])
    alone = tiny_base.encode(squares[9:])
    torch.testing.assert_close(branch.z_sem[:1], alone)
    expected = invert(tiny_base.diffae, squares[9:], alone, QUICK.learn_route)
    torch.testing.assert_close(branch.x_t[:1], expected, rtol=0, atol=1e-4)


def test_photos_that_cannot_be_learned_on(tiny_base: Base, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    picture(1).save(good)
    bad.write_text("no picture")
    squares, refused = squares_of(tiny_base, [good, bad], 8)
    assert squares.shape == (1, 3, 32, 32)
    assert len(refused) == 1 and "bad.png" in refused[0]
    with pytest.raises(UserError, match="none of the 1 photos"):
        squares_of(tiny_base, [bad], 8)


def test_portraits_to_learn_on_are_cut_to_one_size(
    latent_base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A portrait that would be redrawn whole, at its own shape, is a square here."""
    photo = load_image(assets() / "photos" / "astronaut.png")
    monkeypatch.setattr(latent_base, "domain", "faces")
    shapes = [photo.crop((96, 0, 352, 300)), photo.crop((96, 0, 352, 360))]
    squares, refused = squares_of(latent_base, shapes, 8)
    assert squares.shape == (2, 3, latent_base.image_size, latent_base.image_size) and not refused


def test_by_region_the_bank_is_not_inverted(latent_base: Base) -> None:
    """Photos are inverted once, as the style dresses them."""
    context = LearningContext(latent_base, replace(PRESETS["fast"], bank=QUICK.bank))
    list(context.bank.fill())
    assert context.bank.x0([0]).shape == (1, *latent_base.x0_shape)
    with pytest.raises(KeyError):
        context.bank.photos([0])
    assert LearningContext(latent_base, replace(QUICK)).bank._route is not None
