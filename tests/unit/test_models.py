"""Networks: shapes of the released configurations, conditioning, wrong use."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from osasis.errors import UserError
from osasis.hub import convert
from osasis.models.conditioning import Conditioning
from osasis.models.diffae import DiffAE, DiffAEConfig
from osasis.models.encoder import EncoderConfig
from osasis.models.latent_net import LatentNet, LatentNetConfig
from osasis.models.spn import SPN, SPNConfig
from osasis.models.state import load_strict
from osasis.models.unet import UNet, UNetConfig

from ..conftest import TINY

GOLDENS = Path(__file__).parents[1] / "goldens"
FFHQ_UNET = UNetConfig(256, 128, (1, 1, 2, 2, 4, 4), 2, (16,), 512, 512)
FFHQ_ENCODER = EncoderConfig(256, 128, (1, 1, 2, 2, 4, 4, 4), 2, (16,), 512)
P2_UNET = UNetConfig(256, 128, (1, 1, 2, 2, 4, 4), 1, (16,), 512, out_channels=6, head_channels=64)


def released(name: str) -> dict[str, torch.Tensor]:
    described = json.loads((GOLDENS / name).read_text())
    keys = described.get("keys", described)
    return {k: torch.empty(tuple(shape), device="meta") for k, shape in keys.items()}


def shapes(state: dict[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {k: tuple(v.shape) for k, v in state.items()}


def test_released_diffae_is_one_of_our_configurations() -> None:
    with torch.device("meta"):
        model = DiffAE(DiffAEConfig(FFHQ_UNET, FFHQ_ENCODER))
        latent = LatentNet(LatentNetConfig(512, 2048, 10))
    theirs = released("diffae_ffhq256_latent.keys.json")
    assert shapes(convert.diffae_from_released(theirs)) == shapes(model.state_dict())
    assert shapes(convert.latent_net_from_released(theirs, 10)) == shapes(latent.state_dict())


def test_released_ddpm_is_one_of_our_configurations() -> None:
    with torch.device("meta"):
        model = UNet(P2_UNET)
    theirs = convert.ddpm_from_released(released("p2_ffhq256.keys.json"))
    assert shapes(theirs) == shapes(model.state_dict())


def test_the_draft_is_the_content_s_in_mixed_conditioning() -> None:
    torch.manual_seed(0)
    unet, seen = UNet(TINY.unet), []
    unet.input_blocks[0].register_forward_hook(lambda _, args, out: seen.append(args[0][:, 12:]))
    x_t, t, z = torch.randn(1, 3, 48, 32), torch.tensor([400]), torch.randn(3, 1, 16)
    with torch.no_grad():
        for style in z[:2]:
            unet(x_t, t, Conditioning.mixed(style, z[2], (0, 1), 3))
        small = unet.draft(z[2]).view(1, 3, 8, 8) if unet.draft else z
    assert torch.equal(seen[0], seen[1])
    large = torch.nn.functional.interpolate(small, (48, 32), mode="bicubic")
    assert torch.allclose(torch.nn.functional.pixel_shuffle(seen[0], 2), large, atol=1e-5)


def test_borders_that_repeat_leave_no_frame_around_a_flat_x_t() -> None:
    """Zeros, those of the released networks, do."""
    z, t = torch.randn(1, 16), torch.tensor([400])
    flat = torch.tensor([0.3, -0.6, 0.1])[None, :, None, None].expand(1, 3, 32, 32)
    spread = {}
    for borders in ("replicate", "zeros"):
        torch.manual_seed(0)
        unet = UNet(replace(TINY.unet, draft_size=0, borders=borders)).requires_grad_(False)
        for parameter in unet.parameters():
            if parameter.ndim == 4:
                torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
        out = torch.nn.functional.pixel_unshuffle(
            unet(flat, t, Conditioning.plain(z, 3)), unet.config.patch_size
        )
        spread[borders] = (out.amax((2, 3)) - out.amin((2, 3))).max()
    assert spread["replicate"] < 1e-4 < 0.1 < spread["zeros"]


def test_a_draft_needs_a_code() -> None:
    with pytest.raises(ValueError, match="without z_dim has none"):
        replace(TINY.unet, z_dim=None)


def test_weights_that_do_not_fit_are_named() -> None:
    spn = SPN(SPNConfig(32, None))
    state = dict(spn.state_dict())
    state["odd"] = state.pop("conv_last.bias")
    state["conv_first.bias"] = torch.zeros(7)
    with pytest.raises(UserError) as error:
        load_strict(spn, state, "this SPN")
    for part in ("conv_last.bias", "odd", "expected (32,), got (7,)"):
        assert part in str(error.value)


def test_mixing_with_one_code_is_plain_conditioning() -> None:
    z = torch.randn(2, 16)
    mixed, plain = Conditioning.mixed(z, z, (0, 2), 3), Conditioning.plain(z, 3)
    assert all(torch.equal(a, b) for a, b in zip(mixed.levels, plain.levels, strict=True))
    assert torch.equal(mixed.middle, plain.middle)


def test_mixing_puts_the_style_where_asked() -> None:
    style, content = torch.zeros(1, 4), torch.ones(3, 4)
    mixed = Conditioning.mixed(style, content, (1,), 3)
    assert [float(z.mean()) for z in mixed.levels] == [1, 0, 1]
    assert mixed.levels[1].shape == (3, 4)
    assert float(mixed.middle.mean()) == 1
    with pytest.raises(ValueError, match="0 to 2"):
        Conditioning.mixed(style, content, (3,), 3)


def test_v_prediction_gives_the_noise_back() -> None:
    """If the network returned the true v, `eps` would return the true noise."""
    model = DiffAE(TINY).eval()
    x0, eps = torch.rand(2, 3, 32, 32) * 2 - 1, torch.randn(2, 3, 32, 32)
    t = torch.tensor([100, 700])
    from osasis.diffusion.schedule import IMAGE_SCHEDULE

    ab = IMAGE_SCHEDULE.alpha_bar_at(t)
    v = ab.sqrt() * eps - (1 - ab).sqrt() * x0
    model.unet.forward = lambda *_: v  # type: ignore[method-assign]
    x_t = ab.sqrt() * x0 + (1 - ab).sqrt() * eps
    torch.testing.assert_close(model.eps(x_t, t, model.null(2)), eps, atol=1e-5, rtol=1e-5)


def test_levels_own_disjoint_parameters() -> None:
    unet = UNet(TINY.unet)
    per_level = [unet.parameters_of_levels([level]) for level in range(3)]
    names = [name for part in per_level for name in part]
    assert len(names) == len(set(names))
    left = set(dict(unet.named_parameters())) - set(names)
    assert {name.split(".")[0] for name in left} == {"time_embed", "middle_block", "draft"}


def test_a_base_without_null_code_says_so() -> None:
    config = DiffAEConfig(TINY.unet, TINY.encoder)
    with pytest.raises(ValueError, match="null code"):
        DiffAE(config).null(1)


def test_spn_can_start_at_nothing() -> None:
    x = torch.randn(2, 3, 8, 8)
    t = torch.tensor([1, 500])
    assert not SPN(SPNConfig(32, 64, zero_init=True))(x, t).any()
    assert SPN(SPNConfig(32, 64))(x, t).any()
