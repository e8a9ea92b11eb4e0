"""Photos as they come, redrawn whole: cut, drawn, put back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from osasis.imaging.faces import Face
from osasis.imaging.light import darkened, exposure, lit
from osasis.imaging.load import Picture, load_image
from osasis.imaging.photo_file import Photo
from osasis.imaging.squares import Prepared, Redrawn, Squares
from osasis.imaging.tensors import to_images, to_tensor
from osasis.stylize.stylizer import Stylizer


class PhotoStylizer:
    """Redraws photos as they come; threads may share `prepare` and `finish`.

    Args:
        stylizer: the networks; its controls say what of a photo is redrawn.
    """

    def __init__(self, stylizer: Stylizer) -> None:
        self.stylizer = stylizer
        self._squares = Squares(stylizer.controls, stylizer.base.canvas)
        self.fit = self._squares.fit

    def __call__(self, images: Picture | Sequence[Picture]) -> list[Image.Image]:
        """Redraw pictures, paths or a mix of both; one result each, in order.

        Raises:
            UserError: a picture that cannot be read, or without a face where one is needed.
        """
        if isinstance(images, (str, Path, Image.Image)):
            images = [images]
        return [redrawn.picture for redrawn in self.stream(images)]

    def stream(self, images: Sequence[Picture]) -> Iterator[Redrawn]:
        """Redraw one picture after the other; picture i has the stylizer's seed + i."""
        for index, image in enumerate(images):
            prepared = self.prepare(load_image(image))
            seed = self.stylizer.seed + index
            results = self.redraw(prepared.squares, [seed] * len(prepared.squares))
            yield self.finish(prepared, results)

    def prepare(self, photo: Photo | Image.Image, faces: Sequence[Face] | None = None) -> Prepared:
        """Find what is to be redrawn; see `Squares.prepare`."""
        return self._squares.prepare(photo, faces)

    def redraw(self, squares: Sequence[np.ndarray], seeds: Sequence[int]) -> list[np.ndarray]:
        """Redraw squares of one shape, in batches.

        Raises:
            OsasisError: a result that is not a picture.
        """
        return [result for batch in self.batches(squares, seeds) for result in batch]

    def batches(
        self, squares: Sequence[np.ndarray], seeds: Sequence[int]
    ) -> Iterator[list[np.ndarray]]:
        """The same, batch after batch, so that it can be stopped between them."""
        lights = [exposure(square) for square in squares]
        if self.fit == "tiles" and lights:  # neighbours are drawn alike
            lights = [min(lights)] * len(lights)
        step = self.stylizer.batch_size
        if squares:
            larger = squares[0].shape[0] * squares[0].shape[1] / self.stylizer.base.image_size**2
            step = max(1, int(step / larger))
        for start in range(0, len(squares), step):
            here = lights[start : start + step]
            bright = map(lit, squares[start : start + step], here)
            chunk = [to_tensor(Image.fromarray(square)) for square in bright]
            x = self.stylizer.stylize(torch.cat(chunk), seeds=seeds[start : start + step])
            drawn = [np.asarray(image) for image in to_images(x)]
            yield [darkened(p, light) for p, light in zip(drawn, here, strict=True)]

    def finish(self, prepared: Prepared, results: Sequence[np.ndarray]) -> Redrawn:
        """Put redrawn squares back."""
        return self._squares.finish(prepared, results)
