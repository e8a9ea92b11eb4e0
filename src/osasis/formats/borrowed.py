"""Autoencoders of diffusers in the place of our own (extra `diffusers`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from osasis.errors import UserError
from osasis.extras import need
from osasis.formats.card import names_repository
from osasis.formats.huggingface import hub_folder
from osasis.models.autoencoder import FACTOR, Autoencoder, Borrowed
from osasis.models.state import state_hash
from osasis.perception.clip import quiet

PREFIX = "diffusers:"  # of a configuration's `autoencoder`
KINDS = ("AutoencoderTiny", "AutoencoderKL")
CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"
_PROBE = 64  # pixels along a side of a picture that tells its factor


class Mean(nn.Module):
    """The mean of a posterior, (B, C, h, w), of its mean and log variance, (B, 2C, h, w)."""

    def forward(self, moments: Tensor) -> Tensor:
        return moments.chunk(2, dim=1)[0]


def borrow(source: str, *, download: bool = False) -> Autoencoder:
    """An autoencoder of diffusers, frozen, on the CPU; its linear map is yet to be found.

    Args:
        source: folder written by `save_pretrained`, or repository of the hub, "owner/name".
        download: the repository where it is not here.

    Raises:
        UserError: diffusers is not installed, or there is no autoencoder of 8 x 8 pixels a latent.
        OsasisError: the repository cannot be downloaded.
    """
    config, halves = _find(source, download=download)
    made = Autoencoder(config)
    made.encoder, made.decoder = halves
    return made.eval().requires_grad_(False)


def lend(autoencoder: Autoencoder, file: Path) -> None:
    """Give the autoencoder that a file describes its halves, if they are borrowed.

    Args:
        file: where it names a folder that is gone, one of that name beside it is taken.

    Raises:
        UserError: as `borrow`, or its weights are not those that the file names.
    """
    config = autoencoder.config
    if not isinstance(config, Borrowed):
        return
    beside = file.parent / Path(config.source).name
    gone = not Path(config.source).is_dir() and beside.is_dir()
    found, halves = _find(str(beside) if gone else config.source)
    if (found.hash, found.latent_channels) != (config.hash, config.latent_channels):
        raise UserError(
            f"{file.name} works in the autoencoder {config.hash}, and {found.source} "
            f"is {found.hash}",
            hint="put the one it was trained with there",
        )
    autoencoder.encoder, autoencoder.decoder = halves


def _find(source: str, *, download: bool = False) -> tuple[Borrowed, nn.ModuleList]:
    """What a source is, and its encoder and decoder."""
    folder = Path(source).expanduser()
    if folder.is_dir():
        source = str(folder.resolve())
    elif names_repository(source):
        folder = hub_folder(source, (CONFIG, WEIGHTS), download=download)
    else:
        raise UserError(
            f"there is no folder {source} with an autoencoder of diffusers",
            hint="give a folder with its config.json, or a repository of the hub as OWNER/NAME",
        )
    encoder, decoder = _halves(folder, source)
    channels = _latent_channels(encoder, decoder, source)
    halves = nn.ModuleList([encoder, decoder])
    return Borrowed(source, state_hash(halves), channels), halves


def _halves(folder: Path, source: str) -> tuple[nn.Module, nn.Module]:
    """Pictures in [-1, 1] to raw latents, and back."""
    try:
        said = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        kind = said.get("_class_name")
    except (OSError, ValueError, RecursionError, AttributeError) as error:
        raise UserError(f"{source} has no {CONFIG} that can be read: {error}") from error
    if kind not in KINDS:
        raise UserError(f"{source} holds {kind!r:.80}, expected {' or '.join(KINDS)}")
    vae = _network(folder, source, kind)
    if kind == "AutoencoderTiny":
        return vae.encoder, vae.decoder
    quantise, back = vae.quant_conv or nn.Identity(), vae.post_quant_conv or nn.Identity()
    return nn.Sequential(vae.encoder, quantise, Mean()), nn.Sequential(back, vae.decoder)


def _network(folder: Path, source: str, kind: str) -> Any:
    diffusers = need("diffusers", source, "diffusers")
    try:
        with quiet(diffusers):
            # never a pickle
            vae, report = getattr(diffusers, kind).from_pretrained(
                str(folder),
                use_safetensors=True,
                local_files_only=True,
                low_cpu_mem_usage=False,
                output_loading_info=True,
                torch_dtype=torch.float32,
            )
    except (OSError, ValueError, LookupError, TypeError, RuntimeError, ArithmeticError) as error:
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{source} holds no {kind} that can be read: {first_line}") from error
    if lacking := report["missing_keys"]:
        raise UserError(f"{source} lacks {len(lacking)} tensors of its {kind}, as {lacking[0]}")
    return vae


@torch.no_grad()
def _latent_channels(encoder: nn.Module, decoder: nn.Module, source: str) -> int:
    """Channels of its latents.

    Raises:
        UserError: it takes no RGB, or another number of pixels to a latent.
    """
    try:
        latents = encoder(torch.zeros(1, 3, _PROBE, _PROBE))
        side = _PROBE // latents.shape[3]
        again = decoder(latents)
    except RuntimeError as error:
        raise UserError(f"{source} is no autoencoder of RGB pictures: {error}") from error
    if side != FACTOR or again.shape != (1, 3, _PROBE, _PROBE):
        raise UserError(
            f"{source} takes {side} x {side} pixels to a latent and gives "
            f"{again.shape[3] // latents.shape[3]} x {again.shape[3] // latents.shape[3]} back, "
            f"expected {FACTOR} x {FACTOR}"
        )
    return int(latents.shape[1])
