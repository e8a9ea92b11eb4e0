"""A base: what its calls promise, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from osasis.base import Base, load_base
from osasis.errors import UserError

from ..conftest import write_tiny_base


def test_shapes_and_determinism(tiny_base: Base) -> None:
    x0 = tiny_base.sample(2, seed=3, steps=4, latent_steps=4)
    assert x0.shape == (2, 3, 32, 32)
    z_sem = tiny_base.encode(x0)
    assert z_sem.shape == (2, 16)
    x_t = tiny_base.invert(x0, z_sem, t0=500, steps=10)
    assert tiny_base.decode(x_t, z_sem, t0=500, steps=10).shape == x0.shape
    assert torch.equal(x0, tiny_base.sample(2, seed=3, steps=4, latent_steps=4))


def test_a_sample_depends_on_its_seed_alone(tiny_base: Base) -> None:
    three = tiny_base.sample(3, seed=5, steps=3, latent_steps=3)
    alone = tiny_base.sample(1, seed=6, steps=3, latent_steps=3)
    torch.testing.assert_close(three[1:2], alone, atol=1e-4, rtol=1e-4)


def test_the_whole_way_up_and_down(tiny_base: Base) -> None:
    x0 = torch.rand(1, 3, 32, 32) * 2 - 1
    z_sem = tiny_base.encode(x0)
    x_T = tiny_base.invert(x0, z_sem, t0=1000, steps=20)
    assert torch.isfinite(tiny_base.decode(x_T, z_sem, t0=1000, steps=20)).all()


@pytest.mark.parametrize("kwargs", [{"t0": 0}, {"t0": 1001}, {"steps": 0}, {"steps": 2000}])
def test_out_of_range(tiny_base: Base, kwargs: dict[str, int]) -> None:
    x0 = torch.zeros(1, 3, 32, 32)
    with pytest.raises(UserError, match="must lie in"):
        tiny_base.invert(x0, torch.zeros(1, 16), **kwargs)


def test_wrong_size_says_which(tiny_base: Base) -> None:
    with pytest.raises(UserError, match=r"\(B, 3, 32, 32\).*\(1, 3, 64, 64\)"):
        tiny_base.encode(torch.zeros(1, 3, 64, 64))


def test_hash_follows_the_weights(tiny_base: Base, tmp_path: Path) -> None:
    other = load_base(write_tiny_base(tmp_path / "other.safetensors", seed=2))
    assert other.hash != tiny_base.hash
    assert len(other.hash) == 16


def test_unknown_names_and_other_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'nothing' is neither a file nor a shipped base"):
        load_base("nothing")
    text = tmp_path / "text.safetensors"
    text.write_text("this is not a base, but it is long enough to look like one")
    with pytest.raises(UserError, match="text.safetensors"):
        load_base(text)


def test_unknown_device() -> None:
    with pytest.raises(UserError, match="nonsense"):
        load_base(device="nonsense")
