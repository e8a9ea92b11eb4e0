"""Stylizing on a tiny base: batches, seeds, controls, wrong use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from osasis.base import Base, load_base
from osasis.config.catalogue import paintings
from osasis.errors import OsasisError, UserError
from osasis.formats.style_file import Style, load_style
from osasis.imaging.load import load_image
from osasis.imaging.tensors import fit_square, to_images, to_tensor
from osasis.learn.learner import StyleLearner
from osasis.stylize.stylizer import Stylizer

from ..conftest import picture
from .test_style import QUICK, run
from .test_update import has_bfloat16


@pytest.fixture(scope="module")
def style(tiny_base: Base) -> Style:
    learner = StyleLearner(tiny_base, picture(1), QUICK)
    run(learner)
    return learner.style()


def pixels(image: object) -> np.ndarray:
    return np.asarray(image, dtype=np.int16)


def test_results_do_not_depend_on_the_batch(tiny_base: Base, style: Style) -> None:
    photos = [picture(i) for i in range(2, 7)]
    for variation in (0.0, 0.5):
        alone = Stylizer(tiny_base, style, batch_size=1, variation=variation)(photos)
        together = Stylizer(tiny_base, style, batch_size=3, variation=variation)(photos)
        assert len(alone) == len(together) == 5
        for a, b in zip(alone, together, strict=True):
            assert np.abs(pixels(a) - pixels(b)).max() <= 1


def test_a_shipped_style_rounds_otherwise_in_a_batch_by_one_level_at_most() -> None:
    base, learned = load_base("faces-256", device="cpu"), load_style("memling_maria")
    photos = [load_image(path) for path in list(paintings().values())[:3]]
    squares = torch.cat([to_tensor(fit_square(photo, base.image_size)) for photo in photos])
    stylizer = Stylizer(base, learned)
    together = to_images(stylizer.redraw_squares(squares))
    alone = to_images(torch.cat([stylizer.redraw_squares(square[None]) for square in squares]))
    for a, b in zip(alone, together, strict=True):
        assert np.abs(pixels(a) - pixels(b)).max() <= 1


def test_seed_matters_only_with_variation(tiny_base: Base, style: Style) -> None:
    def result(variation: float, seed: int) -> np.ndarray:
        stylizer = Stylizer(tiny_base, style, variation=variation, seed=seed)
        return pixels(stylizer(picture(2)))

    assert np.array_equal(result(0.0, 0), result(0.0, 1))
    assert np.array_equal(result(0.5, 1), result(0.5, 1))
    assert not np.array_equal(result(0.5, 0), result(0.5, 1))


def test_controls_change_the_result(tiny_base: Base, style: Style) -> None:
    plain = pixels(Stylizer(tiny_base, style)(picture(2)))
    for control in ({"style_levels": ()}, {"style_levels": (0, 1, 2)}, {"lambda_spn": 5.0}):
        changed = pixels(Stylizer(tiny_base, style, **control)(picture(2)))
        assert not np.array_equal(plain, changed), control


@pytest.mark.parametrize("controls", [{}, {"strength": 0.5, "variation": 0.2}])
def test_mixed_precision_draws_nearly_the_same(
    tiny_base: Base, style: Style, controls: dict[str, float]
) -> None:
    plain = Stylizer(tiny_base, style, **controls)
    mixed = Stylizer(tiny_base, style, mixed_precision=True, **controls)
    x0 = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    expected, found = plain.redraw_squares(x0), mixed.redraw_squares(x0)
    assert found.dtype == torch.float32
    assert (found - expected).abs().mean() < 0.01
    if has_bfloat16():
        assert not torch.equal(found, expected)


def test_without_learning_and_with_one_code_it_is_the_base(tiny_base: Base, style: Style) -> None:
    """eps_B = eps_A, no SPN, no style levels: the round trip of the base."""
    untouched = Style(
        style.manifest,
        style.thumbnail,
        {k: v * 0 if k.startswith("unet.") else v for k, v in style.tensors.items()},
    )
    stylizer = Stylizer(tiny_base, untouched, style_levels=(), lambda_spn=0.0)
    x0 = torch.rand(2, 3, 32, 32) * 2 - 1
    z_sem = tiny_base.encode(x0)
    back = tiny_base.decode(tiny_base.invert(x0, z_sem, 500, 8), z_sem, 500, 8)
    route = style.manifest.config.stylize_route
    assert (route.invert_steps, route.decode_steps) == (8, 4)
    assert stylizer.redraw_squares(x0).shape == back.shape
    same_grid = Stylizer(tiny_base, untouched, style_levels=(), lambda_spn=0.0)
    same_grid._route = type(route)(8, 8)
    torch.testing.assert_close(
        same_grid.redraw_squares(x0), back.clamp(-1, 1), atol=1e-5, rtol=1e-5
    )


def test_takes_paths_and_pictures(tiny_base: Base, style: Style, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    picture(3).save(path)
    from_path, from_image = Stylizer(tiny_base, style)([path, picture(3)])
    assert np.abs(pixels(from_path) - pixels(from_image)).max() <= 1
    assert from_path.size == (32, 32)


@pytest.mark.parametrize("wrong", [{"style_levels": (3,)}, {"variation": 1.5}, {"batch_size": 0}])
def test_wrong_use(tiny_base: Base, style: Style, wrong: dict[str, object]) -> None:
    with pytest.raises(UserError):
        Stylizer(tiny_base, style, **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("fitting", [3, 1, 0])
def test_too_little_memory_is_answered_by_smaller_batches(
    tiny_base: Base, style: Style, fitting: int
) -> None:
    """An encoder that has memory for `fitting` photos at once."""
    x0 = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(2)) * 2 - 1
    expected = Stylizer(tiny_base, style, variation=0.5).redraw_squares(x0)

    def refuse(_: object, inputs: tuple[torch.Tensor, ...]) -> None:
        if len(inputs[0]) > fitting:
            raise torch.OutOfMemoryError("out of memory")

    stylizer = Stylizer(tiny_base, style, variation=0.5, batch_size=5)
    hook = tiny_base.diffae.encoder.register_forward_pre_hook(refuse)
    try:
        if fitting == 0:
            with pytest.raises(OsasisError, match="one photo of 32 x 32"):
                stylizer.redraw_squares(x0)
            return
        got = stylizer.redraw_squares(x0)
    finally:
        hook.remove()
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)
    assert stylizer.batch_size <= fitting
