"""Released parameter names to ours. Every key is accounted for: none missing, none left."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor, nn

from osasis.errors import UserError

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
UNET_RULES = (
    (r"^time_embed\.time_embed\.", "time_embed."),
    *_RES_BLOCK,
    (r"^out\.0\.", "norm_final."),
    (r"^out\.2\.", "conv_final."),
)
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
    (r"^layers\.0\.", "conv_first."),
    (r"^layers\.9\.", "conv_last."),
    (r"^layers\.1\.", "plain.0."),
    (r"^layers\.3\.", "plain.2."),
    (r"^layers\.4\.", "plain.3."),
    (r"^layers\.6\.", "plain.5."),
    (r"^layers\.7\.", "plain.6."),
)


def latent_net_rules(num_layers: int) -> tuple[tuple[str, str], ...]:
    """Rules of a latent network: its last layer is ours `out`."""
    return (
        (rf"^layers\.{num_layers - 1}\.linear\.", "out."),
        (r"\.cond_layers\.1\.", ".time_proj."),
    )


def rename(
    released: Mapping[str, Tensor], rules: tuple[tuple[str, str], ...], *, drop: str | None = None
) -> dict[str, Tensor]:
    """Apply `rules` to every name; names that match `drop` are left out."""
    renamed = {}
    for key, value in released.items():
        if drop is not None and re.search(drop, key):
            continue
        for pattern, ours in rules:
            key = re.sub(pattern, ours, key)
        renamed[key] = value
    return renamed


def load_strict(module: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Load `state` into `module`, naming every key that is missing, left over or misshapen.

    Raises:
        UserError: the keys or shapes differ.
    """
    own = module.state_dict()
    missing = sorted(set(own) - set(state))
    left = sorted(set(state) - set(own))
    shapes = [
        f"{k}: expected {tuple(own[k].shape)}, got {tuple(state[k].shape)}"
        for k in sorted(set(own) & set(state))
        if own[k].shape != state[k].shape
    ]
    if missing or left or shapes:
        parts = [("missing", missing), ("not known", left), ("misshapen", shapes)]
        listed = "; ".join(
            f"{len(keys)} {title} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
            for title, keys in parts
            if keys
        )
        raise UserError(f"these weights do not fit {what}: {listed}")
    module.load_state_dict(dict(state))


def with_prefix(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The part of `state` behind `prefix`, without it."""
    return {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}


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
    return rename(released, SPN_RULES)


def ddpm_from_released(released: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A released P2 / guided-diffusion DDPM as our `UNet`."""
    return rename(released, UNET_RULES)
