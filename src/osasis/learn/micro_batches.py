"""Micro-batches: how many pictures of an update are in memory at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from osasis.base import Base
from osasis.config.presets import LearnConfig
from osasis.device import total_memory, with_room
from osasis.errors import OsasisError
from osasis.models.unet import UNetConfig

T = TypeVar("T")

# From the peaks of float32 updates on a CPU, less the process before them, per picture and pixel:
# a patched base of 128 px with an SPN of 32 channels 5.4 kB, with one of 128 channels 14 kB, the
# released network for 256 px with 32 channels 52 kB. Three numbers, so that the three unknowns are
# determined.
JUDGES_BYTES = 1_700
UNET_BYTES = 52  # per channel of the U-Net's blocks, counted per pixel of the picture
SPN_BYTES = 90  # per channel of the SPN
BYTES_PER_WEIGHT = 24  # gradient, Adam's two means, and the snapshot's copy of weight and means


class MicroBatches:
    """As many pictures at once as memory allows: fewer from then on once it has run out.

    Attributes:
        at_once: pictures in memory at once, 1 or more.
    """

    def __init__(self, at_once: int) -> None:
        self.at_once = at_once

    def attempt(self, work: Callable[[int], T], pictures: int) -> T:
        """`work(n)` with the largest n, at most `pictures`, for which there is memory.

        Args:
            work: handles all pictures, n at once; it can be called again after it has failed.

        Raises:
            OsasisError: there is too little memory for one picture.
        """
        wanted = min(self.at_once, pictures)
        try:
            done, at_once = with_room(work, wanted)
        except torch.OutOfMemoryError as error:
            raise OsasisError(
                "the device has too little memory to learn on one picture at a time",
                hint="end other programs that use it, choose another device, or a base "
                "that draws smaller pictures",
            ) from error
        if at_once < wanted:
            self.at_once = at_once
        return done


def micro_batches_for(base: Base, config: LearnConfig) -> MicroBatches:
    """Micro-batches of updates that fit into half of the device's memory.

    Not of what is free at the moment: a seed would then not give the same style every time.
    """
    trained = base.diffae.unet.parameters_of_levels(config.trained_levels)
    weights = sum(parameter.numel() for parameter in trained.values())
    room = total_memory(base.device) // 2 - BYTES_PER_WEIGHT * weights
    per_picture = base.image_size**2 * bytes_per_pixel(base.diffae.config.unet, config.spn.channels)
    return MicroBatches(max(1, min(config.batch_size + 1, int(room // per_picture))))


def bytes_per_pixel(unet: UNetConfig, spn_channels: int) -> float:
    """Memory that one picture of an update needs while it is differentiated, per pixel."""
    blocks = 2 * unet.num_res_blocks + 1  # on the way down and up
    channels = sum(
        blocks * unet.channels * mult / (unet.patch_size * 2**level) ** 2
        for level, mult in enumerate(unet.channel_mult)
    )
    return JUDGES_BYTES + UNET_BYTES * channels + SPN_BYTES * spn_channels
