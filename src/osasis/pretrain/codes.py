"""Semantic codes of a whole data set, and the encoder that statistics of one give."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from osasis.errors import UserError
from osasis.models.diffae import DiffAE
from osasis.models.encoder import ThumbnailEncoder
from osasis.pretrain.data import Entry, stack_images, try_decode
from osasis.pretrain.train import TrainRecord

BATCH = 32

Batches = Iterable[tuple[int, Tensor]]
"""Images done so far, and x0 (B, C, H, W) of some more, mirror images among them."""


def decoded(entries: Sequence[Entry], size: int) -> Iterator[tuple[int, list[str], Tensor]]:
    """Entries done, and names without folder and suffix of the readable ones with their images."""
    for start in range(0, len(entries), BATCH):
        chunk = entries[start : start + BATCH]
        read = [(Path(e.name).stem, try_decode(e, size)) for e in chunk]
        readable = [(name, image) for name, image in read if image is not None]
        if readable:
            images = stack_images([image for _, image in readable])
            yield start + len(chunk), [name for name, _ in readable], images


def with_mirrored(entries: Sequence[Entry], size: int) -> Iterator[tuple[int, Tensor]]:
    """`Batches` of images in [-1, 1]."""
    for done, _, images in decoded(entries, size):
        yield done, torch.cat([images, images.flip(3)])


@torch.no_grad()
def encode_entries(
    encode: Callable[[Tensor], Tensor], entries: Sequence[Entry], size: int
) -> Generator[TrainRecord, None, tuple[list[str], Tensor]]:
    """Encode images; unreadable ones are left out.

    Args:
        encode: z_sem of images (B, 3, size, size) in [-1, 1].
        entries: the images.

    Returns:
        Names without folder and suffix, and z_sem (N, z_dim) on the CPU, in the same order.
    """
    names: list[str] = []
    codes: list[Tensor] = []
    for done, found, images in decoded(entries, size):
        names += found
        codes.append(encode(images).float().cpu())
        yield TrainRecord("encode", done, len(entries))
    return names, torch.cat(codes) if codes else torch.empty(0, 0)


@torch.no_grad()
def encode_batches(
    diffae: DiffAE, batches: Batches, total: int, device: torch.device
) -> Generator[TrainRecord, None, Tensor]:
    """z_sem (N, z_dim), on the CPU, of x0 of `total` images with their mirror images."""
    codes = []
    for done, x0 in batches:
        codes.append(diffae.encode(x0.to(device)).float().cpu())
        yield TrainRecord("encode", done, total)
    return torch.cat(codes)


@torch.no_grad()
def fit_thumbnails(
    diffae: DiffAE, batches: Batches, total: int, device: torch.device
) -> Generator[TrainRecord, None, None]:
    """Find a thumbnail encoder's components, and start the U-Net's draft as the way back.

    Nothing is done for other encoders.

    Raises:
        UserError: no image can be read.
    """
    encoder, draft = diffae.encoder, diffae.unet.draft
    if not isinstance(encoder, ThumbnailEncoder):
        return
    size = encoder.project.in_features
    seen, sums = 0, torch.zeros(size, dtype=torch.float64)
    products = torch.zeros(size, size, dtype=torch.float64)
    for done, x0 in batches:
        thumbnails = encoder.thumbnails(x0.to(device)).cpu()
        seen += len(thumbnails)
        sums += thumbnails.sum(0)
        products += thumbnails.T @ thumbnails
        yield TrainRecord("fit", done, total)
    if not seen:
        raise UserError(f"none of {total} training images can be read")
    mean = sums / seen
    back = encoder.fit(mean, products / seen - torch.outer(mean, mean))
    if draft is not None and draft.out_features == size:
        draft.load_state_dict(back.state_dict())
