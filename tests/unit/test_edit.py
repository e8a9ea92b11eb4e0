"""Edits: along attribute directions, and by texts with a small random CLIP."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from osasis.base import Base, load_base
from osasis.cli.main import main
from osasis.config.catalogue import assets
from osasis.config.controls import Controls
from osasis.diffusion.route import Route
from osasis.errors import UserError
from osasis.imaging.load import load_image
from osasis.perception.clip import ClipEmbedder
from osasis.stylize.edit import AttributeEdit, attribute_scores
from osasis.stylize.stylizer import Stylizer
from osasis.stylize.text import TextEdit, TextSettings, TextStep, edits_of

from ..conftest import write_tiny_base

QUICK = TextSettings(iterations=8, rate=0.4, max_lpips=10, keep=0.0, route=Route(4, 4))


@pytest.fixture(scope="module")
def x0() -> Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_an_attribute_moves_every_code_along_its_direction(tiny_base: Base, x0: Tensor) -> None:
    z = tiny_base.encode(x0)
    moved = AttributeEdit(tiny_base, {"smiling": -1.5})(x0, z)
    torch.testing.assert_close(moved - z, (-1.5 * tiny_base.directions["smiling"]).expand(2, -1))


def test_scores_are_in_units_of_the_amounts(tiny_base: Base, x0: Tensor) -> None:
    z = tiny_base.encode(x0)
    before = attribute_scores(tiny_base, z)["smiling"]
    edited = AttributeEdit(tiny_base, {"smiling": 2.0})(x0, z)
    after = attribute_scores(tiny_base, edited)["smiling"]
    torch.testing.assert_close(after - before, torch.full((2,), 2.0))
    at_mean = attribute_scores(tiny_base, tiny_base.z_mean[None])["smiling"]
    assert float(at_mean) == pytest.approx(0)


def test_edits_reach_the_picture_and_add_up(tiny_base: Base, x0: Tensor) -> None:
    def result(*amounts: float, guidance: float = 1.0) -> Tensor:
        edits = [AttributeEdit(tiny_base, {"smiling": a}) for a in amounts]
        return Stylizer(tiny_base, edits=edits, guidance=guidance, t0=150).redraw_squares(x0)

    plain = result()
    assert not torch.equal(result(1.0), plain)
    torch.testing.assert_close(result(1.0, 0.5), result(1.5), atol=1e-5, rtol=0)
    torch.testing.assert_close(result(0.0), plain, atol=1e-6, rtol=0)
    torch.testing.assert_close(result(2.0, guidance=0.0), plain, atol=1e-6, rtol=0)
    near, far = ((result(1.0, guidance=g) - plain).abs().mean() for g in (1.0, 3.0))
    assert 0 < near < far


def test_attributes_that_do_not_exist(tiny_base: Base, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no attribute 'smilling'") as caught:
        AttributeEdit(tiny_base, {"smilling": 1.0})
    assert "smiling" in caught.value.hint
    with pytest.raises(UserError, match="between -100 and 100"):
        AttributeEdit(tiny_base, {"smiling": float("nan")})
    bare = load_base(write_tiny_base(tmp_path / "bare.safetensors", seed=1))
    bare.directions = {}
    with pytest.raises(UserError, match="has no attribute directions") as caught:
        AttributeEdit(bare, {"smiling": 1.0})
    assert "models list" in caught.value.hint


@pytest.fixture(scope="module")
def clip(clip_folder: Path) -> ClipEmbedder:
    return ClipEmbedder(clip_folder)


def optimise(
    base: Base, clip: ClipEmbedder, x0: Tensor, settings: TextSettings, **more: object
) -> tuple[Tensor, list[TextStep]]:
    steps: list[TextStep] = []
    edit = TextEdit(base, clip, "zzz happy", "sad", settings=settings, report=steps.append, **more)  # type: ignore[arg-type]
    return edit(x0, base.encode(x0)), steps


def test_the_directional_loss_falls_and_nothing_else_changes(
    tiny_base: Base, clip: ClipEmbedder, x0: Tensor
) -> None:
    weights = {k: v.clone() for k, v in tiny_base.diffae.state_dict().items()}
    judge = {k: v.clone() for k, v in clip._model.state_dict().items()}
    photo, z_sem = x0.clone(), tiny_base.encode(x0)
    edited, steps = optimise(tiny_base, clip, x0, QUICK)
    assert not torch.equal(edited, z_sem)
    for number in range(2):  # each photo for itself
        losses = [step.loss for step in steps[number * 8 : (number + 1) * 8]]
        assert min(losses) < losses[0] - 0.1
    assert torch.equal(x0, photo) and torch.equal(tiny_base.encode(x0), z_sem)
    for before, module in ((weights, tiny_base.diffae), (judge, clip._model)):
        assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())
        assert all(p.grad is None for p in module.parameters())
    alone, _ = optimise(tiny_base, clip, x0[1:], QUICK)
    torch.testing.assert_close(alone, edited[1:], atol=1e-3, rtol=0)


def test_the_result_has_the_loss_that_was_promised(
    tiny_base: Base, clip: ClipEmbedder, x0: Tensor
) -> None:
    edited, steps = optimise(tiny_base, clip, x0[:1], QUICK)
    again = TextEdit(tiny_base, clip, "zzz happy", "sad", settings=replace(QUICK, iterations=1))
    seen: list[TextStep] = []
    again._report = seen.append
    again._decode = lambda x_t0, z, _: TextEdit._decode(again, x_t0, z, edited.requires_grad_())  # type: ignore[method-assign]
    again(x0[:1], tiny_base.encode(x0[:1]))
    assert seen[0].loss == pytest.approx(min(s.loss for s in steps), abs=1e-4)


def test_it_stops_where_the_picture_changes_too_much(
    tiny_base: Base, clip: ClipEmbedder, x0: Tensor
) -> None:
    _, free = optimise(tiny_base, clip, x0[:1], QUICK)
    limit = free[3].lpips
    assert limit > 0
    _, held = optimise(tiny_base, clip, x0[:1], replace(QUICK, max_lpips=limit * 0.99))
    assert len(held) == 4 and "LPIPS" in held[-1].stopped
    z_sem = tiny_base.encode(x0[:1])
    kept, steps = optimise(tiny_base, clip, x0[:1], replace(QUICK, max_lpips=0.0))
    assert torch.equal(kept, z_sem) and len(steps) == 2


def test_it_stops_where_it_becomes_another_person(
    tiny_base: Base, clip: ClipEmbedder, x0: Tensor
) -> None:
    seen: list[Image.Image] = []

    def similarity(output: Image.Image, photo: Image.Image) -> float:
        seen.append(output)
        return 1.0 - 0.2 * len(seen)

    settings = replace(QUICK, min_identity=0.5)
    _, steps = optimise(tiny_base, clip, x0[:1], settings, identity=similarity)
    assert [s.identity for s in steps] == pytest.approx([0.8, 0.6, 0.4])
    assert "another person" in steps[-1].stopped
    assert seen[0].size == (32, 32)


def test_it_stops_early_where_nothing_is_gained(
    tiny_base: Base, clip: ClipEmbedder, x0: Tensor
) -> None:
    settings = replace(QUICK, patience=2, min_gain=5.0)
    _, steps = optimise(tiny_base, clip, x0[:1], settings)
    assert len(steps) == 3 and "no further" in steps[-1].stopped
    _, steps = optimise(tiny_base, clip, x0[:1], replace(QUICK, iterations=1))
    assert steps[-1].stopped == "all updates are made"


@pytest.mark.parametrize(("target", "source"), [("", "a face"), ("a face", " "), ("a", "a ")])
def test_texts_that_say_nothing(
    tiny_base: Base, clip: ClipEmbedder, target: str, source: str
) -> None:
    with pytest.raises(UserError, match="from one description to another"):
        TextEdit(tiny_base, clip, target, source)


def test_a_limit_on_identity_needs_its_network(tiny_base: Base, clip_folder: Path) -> None:
    asked = Controls(text="a smile", min_identity=0.6)
    with pytest.raises(UserError, match="sface is not here") as error:
        edits_of(tiny_base, (), asked, clip=str(clip_folder))
    assert "osasis models fetch sface" in error.value.hint
    [edit] = edits_of(tiny_base, (), replace(asked, min_identity=None), clip=str(clip_folder))
    assert isinstance(edit, TextEdit)


def test_controls_alone_edit_as_edits_do(tiny_base: Base, x0: Tensor) -> None:
    edits = [AttributeEdit(tiny_base, {"smiling": 1.0})]
    given = Stylizer(tiny_base, edits=edits, guidance=2.0, t0=150)
    asked = Stylizer(tiny_base, attributes=(("smiling", 0.4), ("smiling", 0.6)), t0=150)
    torch.testing.assert_close(
        asked.redraw_squares(x0), given.redraw_squares(x0), atol=1e-5, rtol=0
    )
    photo = load_image(assets() / "photos" / "astronaut.png")
    plain = Stylizer(tiny_base, t0=150, fit="crop")
    smiling = plain(photo, attributes=(("smiling", 1.0),))
    assert smiling.tobytes() != plain(photo).tobytes()
    given = Stylizer(tiny_base, edits=edits, t0=150, fit="crop")
    assert given(photo, guidance=2.0).tobytes() == smiling.tobytes()


def test_a_portrait_of_any_size_is_scored(tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    photo = tmp_path / "me.png"
    load_image(assets() / "photos" / "astronaut.png").resize((320, 384)).save(photo)
    command = ["edit", str(photo), "--attribute", "smiling=1", "-o", str(tmp_path / "out")]
    assert main([*command, "--device", "cpu"]) == 0
    assert "smiling: " in capsys.readouterr().out
