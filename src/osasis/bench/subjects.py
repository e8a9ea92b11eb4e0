"""What is measured on: bases and styles; untrained ones cost the same as trained ones."""

from __future__ import annotations

from dataclasses import replace

import torch
from PIL import Image
from torch import nn

from osasis.base import Base, load_base
from osasis.config.catalogue import configs
from osasis.config.presets import LearnConfig
from osasis.device import choose_device
from osasis.formats.style_file import Style
from osasis.learn.regions import Statistics, Wardrobe, spn_channels
from osasis.models.diffae import DiffAE
from osasis.models.latent_net import LatentNet
from osasis.models.spn import new_spn
from osasis.pretrain.config import load_config
from osasis.stylize.preview import preview_style

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
