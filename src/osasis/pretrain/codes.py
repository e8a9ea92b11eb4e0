"""Semantic codes of a whole data set, and the encoder that statistics of one give."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from osasis.errors import UserError
from osasis.models.diffae import DiffAE
from osasis.models.encoder import ThumbnailEncoder
from osasis.pretrain.data import Entry, stack_images, try_decode
from osasis.pretrain.train import TrainRecord

BATCH = 32


def _decoded(entries: Sequence[Entry], size: int) -> Iterator[tuple[int, list[str], Tensor]]:
    """Entries done, and names without folder and suffix of the readable ones with their images."""
    for start in range(0, len(entries), BATCH):
        chunk = entries[start : start + BATCH]
        decoded = [(Path(e.name).stem, try_decode(e, size)) for e in chunk]
        readable = [(name, image) for name, image in decoded if image is not None]
        if readable:
            images = stack_images([image for _, image in readable])
            yield start + len(chunk), [name for name, _ in readable], images


@torch.no_grad()
def encode_entries(
    encode: Callable[[Tensor], Tensor],
    entries: Sequence[Entry],
    size: int,
    device: torch.device,
    *,
    mirrored: bool = False,
) -> Generator[TrainRecord, None, tuple[list[str], Tensor]]:
    """Encode images; unreadable ones are left out.

    Args:
        encode: pictures (B, 3, H, W) in [-1, 1] to z_sem.
        entries: the images.
        size: height and width that they are brought to, in pixels.
        device: where `encode` computes.
        mirrored: encode the mirror images too.

    Returns:
        Names without folder and suffix, and z_sem (N, z_dim) on the CPU, in the same order.
    """
    names: list[str] = []
    codes: list[Tensor] = []
    for done, found, x0 in _decoded(entries, size):
        for images in (x0, x0.flip(3)) if mirrored else (x0,):
            names += found
            codes.append(encode(images.to(device)).float().cpu())
        yield TrainRecord("encode", done, len(entries))
    return names, torch.cat(codes) if codes else torch.empty(0, 0)


@torch.no_grad()
def fit_thumbnails(
    diffae: DiffAE, entries: Sequence[Entry], device: torch.device
) -> Generator[TrainRecord, None, None]:
    """Find a thumbnail encoder's components, and start the U-Net's draft as the way back.

    Photos count with their mirror images. Nothing is done for other encoders.

    Raises:
        UserError: no image can be read.
    """
    encoder, draft = diffae.encoder, diffae.unet.draft
    if not isinstance(encoder, ThumbnailEncoder):
        return
    size = encoder.project.in_features
    seen, total = 0, torch.zeros(size, dtype=torch.float64)
    products = torch.zeros(size, size, dtype=torch.float64)
    for done, _, x0 in _decoded(entries, encoder.config.image_size):
        both = torch.cat([x0, x0.flip(3)]).to(device)
        thumbnails = encoder.thumbnails(both).cpu()
        seen += len(thumbnails)
        total += thumbnails.sum(0)
        products += thumbnails.T @ thumbnails
        yield TrainRecord("fit", done, len(entries))
    if not seen:
        raise UserError(f"none of {len(entries)} training images can be read")
    mean = total / seen
    back = encoder.fit(mean, products / seen - torch.outer(mean, mean))
    if draft is not None and draft.out_features == size:
        draft.load_state_dict(back.state_dict())
