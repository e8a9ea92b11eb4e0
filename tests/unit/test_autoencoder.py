"""The autoencoder, the region network and Muon."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from osasis.models import autoencoder as module
from osasis.models.autoencoder import Autoencoder, AutoencoderConfig
from osasis.models.layers import AttentionBlock
from osasis.models.muon import Muon, muon_groups, orthogonal
from osasis.models.regions import REGIONS, RegionConfig, RegionNet

SMALL = AutoencoderConfig(8, (8, 12, 16), (16, 12, 8), (1, 1, 2), (2, 1, 1))


@pytest.fixture(scope="module")
def random() -> Autoencoder:
    """Random weights everywhere, those that training starts from at 0 included."""
    torch.manual_seed(0)
    made = Autoencoder(SMALL)
    for parameter in made.parameters():
        if parameter.ndim == 4:
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    raw = torch.randn(500, 8) * torch.arange(1, 9) + 3
    made.whiten(raw.mean(0), raw.T.cov())
    return made.requires_grad_(False)


def test_shapes_and_sizes(random: Autoencoder) -> None:
    latents = random.encode(torch.zeros(2, 3, 64, 40))
    assert latents.shape == (2, 8, 8, 5)
    assert random.decode(latents).shape == (2, 3, 64, 40)
    with pytest.raises(ValueError, match="multiple of 8, got 64 x 44"):
        random.encode(torch.zeros(1, 3, 64, 44))


def test_latents_of_a_flat_picture_have_no_frame(random: Autoencoder) -> None:
    flat = torch.tensor([0.3, -0.6, 0.1])[None, :, None, None].expand(1, 3, 96, 72)
    latents = random.encode(flat)
    torch.testing.assert_close(latents, latents[:, :, 4:5, 4:5].expand_as(latents))


@pytest.mark.parametrize("size", [(40, 24), (33, 16)])
def test_tiles_give_the_whole(
    random: Autoencoder, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    torch.manual_seed(1)
    picture = torch.rand(1, 3, 8 * size[0], 8 * size[1]) * 2 - 1
    latents = random.encode(picture)
    back = random.decode(latents)
    monkeypatch.setattr(module, "TILE", 14)
    torch.testing.assert_close(random.encode(picture), latents, atol=1e-4, rtol=0)
    torch.testing.assert_close(random.decode(latents), back, atol=1e-4, rtol=0)


@pytest.mark.parametrize("seed", range(3))
def test_reach_is_where_dependence_ends(random: Autoencoder, seed: int) -> None:
    """No latent further away than the reach moves, whichever pixel of the cell does."""
    torch.manual_seed(seed)
    side, at = 24, 12
    reach = module._reach(SMALL.blocks[::-1])
    one = torch.rand(1, 3, 8 * side, 8 * side)
    other = one.clone()
    other[:, :, 8 * at : 8 * at + 8, 8 * at : 8 * at + 8] += 1
    moved = (random.encode(one) - random.encode(other)).abs().amax(1)[0].amax(1)
    touched = torch.nonzero(moved > 0).flatten()
    assert touched.min() >= at - reach and touched.max() <= at + reach
    assert touched.min() <= at - reach + 1  # and the margin is no wider than it must be


def test_a_shift_of_one_latent_shifts_the_latents(random: Autoencoder) -> None:
    torch.manual_seed(2)
    picture = torch.rand(1, 3, 256, 256)
    plain, shifted = random.encode(picture), random.encode(picture.roll(8, 3))
    inside = slice(9, -9)
    torch.testing.assert_close(
        plain.roll(1, 3)[..., inside, inside], shifted[..., inside, inside], atol=1e-5, rtol=0
    )


def test_whitening(random: Autoencoder) -> None:
    torch.manual_seed(3)
    raw = torch.randn(4000, 8) @ torch.randn(8, 8) + 2
    made = Autoencoder(SMALL)
    made.whiten(raw.mean(0), raw.T.cov(), power=1)
    x0 = made.normalise(raw[:, :, None, None])[:, :, 0, 0]
    torch.testing.assert_close(x0.T.cov(), torch.eye(8), atol=1e-3, rtol=0)
    torch.testing.assert_close(x0.mean(0), torch.zeros(8), atol=1e-4, rtol=0)
    back = made.raw(x0[:, :, None, None])[:, :, 0, 0]
    torch.testing.assert_close(back, raw, atol=1e-4, rtol=1e-4)
    made.whiten(raw.mean(0), raw.T.cov())
    half = made.normalise(raw[:, :, None, None])[:, :, 0, 0].var(0)
    assert half.mean() == pytest.approx(1, abs=1e-3)
    assert (half[:-1] >= half[1:]).all()  # in order of energy


@pytest.mark.parametrize(("height", "width"), [(32, 32), (5, 7), (1, 3)])
def test_regions_have_twice_the_resolution(height: int, width: int) -> None:
    net = RegionNet(RegionConfig(8, (8, 8, 8)))
    logits = net(torch.randn(2, 8, height, width))
    assert logits.shape == (2, len(REGIONS), 2 * height, 2 * width)


@pytest.mark.parametrize("shape", [(3, 20, 50), (1, 50, 20), (2, 16, 16)])
def test_orthogonal(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    matrices = torch.randn(shape)
    found = orthogonal(matrices)
    values = torch.linalg.svdvals(found)
    assert values.max() < 1.3 and values[:, :-4].min() > 0.6  # what five rounds give
    x = matrices / matrices.norm(dim=(1, 2), keepdim=True)
    for _ in range(5):  # as it was published: in the matrix itself
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    torch.testing.assert_close(found, x, atol=1e-3, rtol=0)


def test_muon_learns_a_kernel_and_goes_on_from_its_state() -> None:
    def run(updates: int, state: dict[str, Tensor] | None, optimizer_state: object) -> tuple:
        torch.manual_seed(0)
        layer = nn.Conv2d(4, 6, 3, padding=1)
        x = torch.randn(16, 4, 8, 8)
        aim = nn.functional.conv2d(x, torch.randn(6, 4, 3, 3) / 6, layer.bias, padding=1).detach()
        optimizer = Muon([layer.weight], lr=0.05)
        if state is not None:
            layer.load_state_dict(state)
            optimizer.load_state_dict(optimizer_state)
        losses = []
        for _ in range(updates):
            loss = (layer(x) - aim).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        return losses, layer.state_dict(), optimizer.state_dict()

    whole, *_ = run(20, None, None)
    first, state, optimizer_state = run(8, None, None)
    second, *_ = run(12, state, optimizer_state)
    assert whole[-1] < 0.5 * whole[0]
    assert first + second == pytest.approx(whole)


def test_muon_takes_hidden_kernels_and_heads_apart() -> None:
    network = nn.ModuleDict(
        {
            "first": nn.Conv2d(3, 128, 3),
            "hidden": nn.Conv2d(128, 128, 3),
            "attention": AttentionBlock(128, 64),
            "linear": nn.Linear(4, 4),
        }
    )
    groups, rest = muon_groups(network, ("first",))
    assert [group["parts"] for group in groups] == [1, 6]  # q, k, v of two heads
    shapes = [[tuple(p.shape) for p in group["params"]] for group in groups]
    assert shapes == [[(128, 128, 3, 3), (128, 128, 1)], [(384, 128, 1)]]
    everything = itertools.chain(rest, *(group["params"] for group in groups))
    assert sorted(map(id, everything)) == sorted(map(id, network.parameters()))
