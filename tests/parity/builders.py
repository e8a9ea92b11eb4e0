"""Our networks in the goldens' configurations, with the goldens' weights."""

from __future__ import annotations

from osasis.hub import convert
from osasis.models.diffae import DiffAE, DiffAEConfig
from osasis.models.encoder import EncoderConfig
from osasis.models.latent_net import LatentNet, LatentNetConfig
from osasis.models.spn import SPN, SPNConfig
from osasis.models.state import load_strict
from osasis.models.unet import UNet, UNetConfig

from .conftest import Golden


def build_diffae(golden: Golden) -> DiffAE:
    c = golden.config
    attention = tuple(c["attention_resolutions"])
    unet = UNetConfig(
        image_size=c["image_size"],
        channels=c["model_channels"],
        channel_mult=tuple(c["channel_mult"]),
        num_res_blocks=c["num_res_blocks"],
        attention_resolutions=attention,
        time_dim=c["embed_channels"],
        z_dim=c["z_dim"],
    )
    encoder = EncoderConfig(
        image_size=c["image_size"],
        channels=c["model_channels"],
        channel_mult=tuple(c["enc_channel_mult"]),
        num_res_blocks=c["num_res_blocks"],
        attention_resolutions=attention,
        z_dim=c["z_dim"],
    )
    model = DiffAE(DiffAEConfig(unet, encoder)).eval()
    released = golden.weights("ema_model.")
    load_strict(model, convert.diffae_from_released(released), "the golden's DiffAE")
    return model


def build_latent_net(golden: Golden) -> LatentNet:
    c = golden.config["latent"]
    config = LatentNetConfig(c["num_channels"], c["num_hid_channels"], c["num_layers"])
    net = LatentNet(config).eval()
    state = convert.latent_net_from_released(golden.weights("ema_model."), config.num_layers)
    load_strict(net, state, "the golden's latent network")
    return net


def build_spn(golden: Golden, *, timed: bool = True) -> SPN:
    net = SPN(SPNConfig(time_dim=512 if timed else None)).eval()
    prefix = "model_map." if timed else "model_map_untimed."
    state = convert.spn_from_released(golden.weights(prefix))
    load_strict(net, state, "the golden's SPN")
    return net


def build_ddpm(golden: Golden) -> UNet:
    c = golden.config
    config = UNetConfig(
        image_size=c["image_size"],
        channels=c["num_channels"],
        channel_mult=tuple(c["channel_mult"]),
        num_res_blocks=c["num_res_blocks"],
        attention_resolutions=tuple(c["attention_resolutions"]),
        time_dim=4 * c["num_channels"],
        out_channels=6 if c["learn_sigma"] else 3,
        head_channels=c["num_head_channels"],
    )
    net = UNet(config).eval()
    state = convert.ddpm_from_released(golden.weights("p2."))
    load_strict(net, state, "the golden's DDPM")
    return net
