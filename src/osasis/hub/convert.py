"""Released parameter names to ours and back; every one is accounted for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor

from osasis.models.state import with_prefix

T = TypeVar("T")

# (pattern in the released name, our name); applied in order, the first match of each row counts
_RES_BLOCK = (
    (r"\.in_layers\.0\.", ".norm_in."),
    (r"\.in_layers\.2\.", ".conv_in."),
    (r"\.cond_emb_layers\.1\.", ".z_proj."),
    (r"\.emb_layers\.1\.", ".time_proj."),
    (r"\.out_layers\.0\.", ".norm_out."),
    (r"\.out_layers\.3\.", ".conv_out."),
    (r"\.skip_connection\.", ".skip."),
)
DDPM_RULES = (*_RES_BLOCK, (r"^out\.0\.", "norm_final."), (r"^out\.2\.", "conv_final."))
UNET_RULES = ((r"^time_embed\.time_embed\.", "time_embed."), *DDPM_RULES)
ENCODER_RULES = (*_RES_BLOCK, (r"^out\.0\.", "norm_final."), (r"^out\.3\.", "conv_final."))
SPN_RULES = (
    (r"^in_layer\.0\.", "conv_first."),
    (r"^out_layer\.0\.", "conv_last."),
    (r"^block1\.", "blocks.0."),
    (r"^block2\.", "blocks.1."),
    (r"\.pre_layer\.0\.", ".norm_in."),
    (r"\.pre_layer\.2\.", ".conv_in."),
    (r"\.pre_layer\.3\.", ".norm_out."),
    (r"\.post_layer\.1\.", ".conv_out."),
    (r"\.emb_layer\.1\.", ".time_proj."),
)
UNTIMED_SPN_RULES = (
    (r"^layers\.0\.", "conv_first."),
    (r"^layers\.9\.", "conv_last."),
    (r"^layers\.1\.", "plain.0."),
    (r"^layers\.3\.", "plain.2."),
    (r"^layers\.4\.", "plain.3."),
    (r"^layers\.6\.", "plain.5."),
    (r"^layers\.7\.", "plain.6."),
)
Rules = tuple[tuple[str, str], ...]


def latent_net_rules(num_layers: int) -> Rules:
    """Rules of a latent network: its last layer is ours `out`."""
    return (
        (rf"^layers\.{num_layers - 1}\.linear\.", "out."),
        (r"\.cond_layers\.1\.", ".time_proj."),
    )


def rename(released: Mapping[str, T], rules: Rules, *, drop: str | None = None) -> dict[str, T]:
    """Apply `rules` to every name; names that match `drop` are left out."""
    renamed = {}
    for key, value in released.items():
        if drop is not None and re.search(drop, key):
            continue
        for pattern, ours in rules:
            key = re.sub(pattern, ours, key)
        renamed[key] = value
    return renamed


def unrename(ours: Mapping[str, T], rules: Rules) -> dict[str, T]:
    """The way back of `rename`: our names to the released ones."""
    back = []
    for pattern, name in reversed(rules):
        anchor = "^" if pattern.startswith("^") else ""
        back.append((anchor + re.escape(name), pattern.removeprefix("^").replace("\\.", ".")))
    return rename(ours, tuple(back))


def diffae_from_released(released: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A released DiffAE state (behind `ema_model.`) as the state of our `DiffAE`."""
    unet = {k: v for k, v in released.items() if not k.startswith(("encoder.", "latent_net."))}
    encoder = rename(with_prefix(released, "encoder."), ENCODER_RULES)
    state = {f"unet.{k}": v for k, v in rename(unet, UNET_RULES).items()}
    return state | {f"encoder.{k}": v for k, v in encoder.items()}


def latent_net_from_released(released: Mapping[str, Tensor], num_layers: int) -> dict[str, Tensor]:
    """A released DiffAE state's latent network as ours.

    The release lists each time projection twice (`linear_emb` is the same parameter as
    `cond_layers.1`); loading keeps the latter, and so do we.
    """
    part = with_prefix(released, "latent_net.")
    return rename(part, latent_net_rules(num_layers), drop=r"\.linear_emb\.")


def spn_from_released(released: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A released SPN, with or without time, as ours."""
    return rename(released, SPN_RULES if "in_layer.0.weight" in released else UNTIMED_SPN_RULES)


def ddpm_from_released(released: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A released P2 / guided-diffusion DDPM as our `UNet`."""
    return rename(released, DDPM_RULES)


def diffae_to_released(ours: Mapping[str, T]) -> dict[str, T]:
    """The state of our `DiffAE` under its released names."""
    encoder = unrename(with_prefix(ours, "encoder."), ENCODER_RULES)
    released = unrename(with_prefix(ours, "unet."), UNET_RULES)
    return released | {f"encoder.{k}": v for k, v in encoder.items()}


def latent_net_to_released(ours: Mapping[str, T], num_layers: int) -> dict[str, T]:
    """The state of our latent network under its released names, the doubled ones included."""
    released = unrename(ours, latent_net_rules(num_layers))
    doubled = {k.replace(".cond_layers.1.", ".linear_emb."): v for k, v in released.items()}
    return {f"latent_net.{k}": v for k, v in (released | doubled).items()}


def spn_to_released(ours: Mapping[str, T]) -> dict[str, T]:
    """The state of our SPN under its released names."""
    return unrename(ours, UNTIMED_SPN_RULES if "plain.0.weight" in ours else SPN_RULES)


def ddpm_to_released(ours: Mapping[str, T]) -> dict[str, T]:
    """The state of an unconditional `UNet` under its P2 names."""
    return unrename(ours, DDPM_RULES)
