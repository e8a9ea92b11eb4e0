"""A picture up with its own code, and down with mixed codes and the SPN."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from osasis.base import Base
from osasis.config.controls import Controls
from osasis.device import mixed_precision
from osasis.diffusion.noise import SeededNoise
from osasis.diffusion.route import Route
from osasis.diffusion.sample import EpsModel, follow
from osasis.imaging.colors import with_colors_of
from osasis.learn.regions import PhotoRegions, face_squares, share_of
from osasis.models.autoencoder import TILE
from osasis.models.conditioning import Conditioning
from osasis.models.diffae import DiffAE
from osasis.models.regions import REGIONS
from osasis.models.windows import in_tiles, scaled
from osasis.stylize.edit import Edit
from osasis.stylize.ground import without_halos
from osasis.stylize.light import LightFloor, keep_dark_skin, keep_relief
from osasis.stylize.model import StyledModel
from osasis.stylize.smooth import smooth_flat_places, to_size, with_tones_of, without_lattice

_LIPS = (REGIONS.index("mouth"),)
_CALM = 0.8  # of lips of large faces that is the small picture's: strokes would crack them
_LATTICE = 3  # latents that `without_lattice` looks to each side
_SEEN = 0.7  # size at which regions of large pictures are looked for; at .32 no eyes were found


@dataclass(frozen=True)
class Drawing:
    """Inverts pictures and decodes them in a style.

    Attributes:
        base: what inverts.
        model: what decodes.
        route: up and down.
        controls: `variation`, `mixed_precision` and `keep_colors` are read here.
        edits: changes of z_sem; they add up.
        guidance: how much of their effect is taken, see `guided`.
        floor: what keeps regions from becoming much darker than they were.
    """

    base: Base
    model: StyledModel
    route: Route
    controls: Controls
    edits: Sequence[Edit]
    guidance: float
    floor: LightFloor | None

    def __call__(self, x0: Tensor, seeds: Sequence[int]) -> Tensor:
        """Redraw pictures.

        A face larger than the base knows is drawn twice: small, where each part of it is seen
        whole, and as it is, for strokes and lines; tones are of the first (`with_tones_of`).

        Args:
            x0: (B, 3, H, W) pictures in [-1, 1] on the base's device.
            seeds: one a picture, of what `variation` draws.

        Returns:
            (B, 3, H, W), clamped to [-1, 1].
        """
        result, regions = self._once(x0, seeds)
        cells = _cells(self.base)
        if regions is not None:
            for number, square in enumerate(regions.squares):
                if square is not None and square.side > cells:
                    one = slice(number, number + 1)
                    small = _resized(x0[one], cells / square.side, self.base.stride)
                    coarse, _ = self._once(small, seeds[one])
                    result[one] = _of_two_sizes(coarse, result[one], x0[one], regions.maps[one])
        return with_colors_of(x0, result) if self.controls.keep_colors else result

    def _once(self, x0: Tensor, seeds: Sequence[int]) -> tuple[Tensor, PhotoRegions | None]:
        """Pictures redrawn at one size, in the style's colours; and the regions it saw."""
        base, model, route = self.base, self.model, self.route
        wanted = self.controls.mixed_precision
        precision = mixed_precision(base.device, wanted=wanted, on_cpu=True)
        seen = torch.lerp(x0, smooth_flat_places(x0), model.dressing) if model.dressing else x0
        with precision:
            photo = base.to_x0(seen).float()
        regions, z_sem = seen_small(base, model, seen, photo)
        dressed, inputs = model.dressed(photo, regions)
        if z_sem is None:
            z_sem = base.encode_x0(base.squeeze(dressed))
        with precision:
            x_t0 = base.invert_x0(dressed, z_sem, route)
        if self.controls.variation:
            x_t0 = _vary(dressed, x_t0, route, self.controls.variation, seeds)
        z_edited = None
        if self.edits:
            shifts = [edit(base.squeeze(dressed), z_sem) - z_sem for edit in self.edits]
            z_edited = z_sem + torch.stack(shifts).sum(0)
        with precision:
            decoded = decode(
                model, inputs, x_t0, z_sem, route, z_edited=z_edited, guidance=self.guidance
            )
            if regions is not None and z_edited is None:
                decoded = model.held_to_photo(decoded, dressed, regions.maps)
            with torch.no_grad():
                pictures = base.to_picture(decoded)
        with torch.no_grad():
            result = self._mended(x0, pictures.float().clamp(-1, 1), regions)
            if self.floor is not None:
                maps = base.region_maps(base.squeeze(photo)) if regions is None else regions.maps
                result = self.floor(x0, result, maps)
            if regions is not None:
                result = keep_relief(x0, result, regions.maps, model.dressing)
        return result, regions

    def _mended(self, x0: Tensor, result: Tensor, regions: PhotoRegions | None) -> Tensor:
        """Dressed results without lattice, halos, pale dark skin, colours in a drawing."""
        base, model = self.base, self.model
        if not model.dressing:
            return result
        if not base.in_pixels:
            result = torch.lerp(result, _without_lattice(result, base.factor), model.dressing)
        if regions is not None and base.regions is not None:
            result = without_halos(x0, result, regions.maps, model.dressing)
            result = keep_dark_skin(x0, result, regions, model.dressing, model.monochrome)
        return model.in_one_tint(result)


def _of_two_sizes(coarse: Tensor, fine: Tensor, photo: Tensor, maps: Tensor) -> Tensor:
    """`fine` with the tones of `coarse`, a smaller result, and most of its lips."""
    lips = to_size(share_of(maps, _LIPS), fine)
    calm = F.interpolate(coarse, fine.shape[2:], mode="bicubic")
    return with_tones_of(coarse, fine, photo).lerp(calm, _CALM * lips).clamp(-1, 1)


def _without_lattice(pictures: Tensor, factor: int) -> Tensor:
    """Pictures without lattice, in tiles: what it compares takes 25 times a picture's memory."""

    def work(rows: slice, columns: slice) -> Tensor:
        return without_lattice(
            pictures[:, :, scaled(rows, factor), scaled(columns, factor)], factor
        )

    height, width = (side // factor for side in pictures.shape[2:])
    return in_tiles(work, height, width, TILE, _LATTICE, factor)


def seen_small(
    base: Base, model: StyledModel, pictures: Tensor, x0: Tensor
) -> tuple[PhotoRegions | None, Tensor | None]:
    """Regions, if a style asks for them, and codes of pictures larger than the base's.

    Both networks know what a face of the base's size has around it, so a larger picture is shown
    to them smaller: to the encoder in the base's size, to the regions' network less small, so that
    it still finds the eyes of a person up to the waist. The code is None where the picture is not
    larger: it is the dressed picture's own.
    """
    if base.in_pixels or min(x0.shape[2:]) <= base.x0_shape[1]:
        if not model.sees_regions:
            return None, None
        return PhotoRegions.of(base.region_maps(x0), _cells(base)), None
    scale = max(base.image_size / min(pictures.shape[2:]), _SEEN)
    small = base.to_x0(_resized(pictures, scale, base.stride))
    if not model.sees_regions:
        return None, base.encode_x0(base.squeeze(small))
    full = (2 * x0.shape[2], 2 * x0.shape[3])
    maps = F.interpolate(base.region_maps(small), full, mode="bilinear", align_corners=False)
    return with_faces(base, model, pictures, x0, maps)


def _cells(base: Base) -> int:
    """Places of region maps along a side of the base's own pictures."""
    return 2 * base.x0_shape[1]


def with_faces(
    base: Base, model: StyledModel, pictures: Tensor, x0: Tensor, maps: Tensor
) -> tuple[PhotoRegions, Tensor]:
    """Regions of large pictures, their clearest face seen close, and that face's codes.

    In a face's own square, brought to the base's size, the regions' network sees teeth, and z_sem
    describes the person; a picture without a face is taken whole.

    Args:
        pictures: (B, 3, H, W).
        x0: (B, C, h, w), their latents.
        maps: (B, R, 2 h, 2 w), coarse.
    """
    maps, places = maps.clone(), []
    for number, square in enumerate(face_squares(maps, _cells(base))):
        rows = columns = slice(None)
        if square is not None:
            rows, columns = _halved(square.rows), _halved(square.columns)
            factor = base.factor
            face = pictures[number, None, :, scaled(rows, factor), scaled(columns, factor)]
            small = _resized(face, base.image_size / face.shape[2], base.stride)
            seen = base.region_maps(base.to_x0(small))
            within = maps[number, None, :, scaled(rows, 2), scaled(columns, 2)]
            within.copy_(to_size(seen, within))
        places.append((rows, columns))
    regions = PhotoRegions.of(maps, _cells(base))
    dressed, _ = model.dressed(x0, regions)
    faces = [
        base.squeeze(picture[None, :, rows, columns])
        for picture, (rows, columns) in zip(dressed, places, strict=True)
    ]
    return regions, base.encode_x0(torch.cat(faces))


def _halved(places: slice) -> slice:
    start = places.start // 2
    return slice(start, start + (places.stop - places.start) // 2)


def _resized(pictures: Tensor, scale: float, stride: int) -> Tensor:
    """Pictures times `scale`, sides multiples of `stride`."""
    size = [max(stride, round(side * scale / stride) * stride) for side in pictures.shape[2:]]
    return F.interpolate(pictures, size, mode="bicubic", antialias=True)


def _vary(x0: Tensor, x_t0: Tensor, route: Route, variation: float, seeds: Sequence[int]) -> Tensor:
    """Draw part of the noise in x_t0 = sqrt(ab) * x0 + sqrt(1 - ab) * eps anew."""
    alpha_bar = route.inversion()[-1].alpha_bar_s
    signal = alpha_bar**0.5 * x0
    noise = SeededNoise(seeds, x0.shape[1:], x0.device)()
    kept = (1 - variation**2) ** 0.5
    drawn = variation * (1 - alpha_bar) ** 0.5 * noise
    return signal + kept * (x_t0 - signal) + drawn


def decode(
    model: StyledModel,
    inputs: Sequence[Tensor],
    x_t0: Tensor,
    z_sem: Tensor,
    route: Route,
    *,
    z_edited: Tensor | None = None,
    guidance: float = 1.0,
) -> Tensor:
    """Decode structural codes with eps_B, SPN and mixed conditioning (Eqs. 12 to 14).

    Args:
        inputs: what the SPN of each part sees of the photos, see `StyledModel.dressed`.
        x_t0: (B, C, H, W) their structural codes.
        z_sem: (B, z_dim) their semantic codes.
        z_edited: (B, z_dim) what takes the place of `z_sem`; None for no edit.
        guidance: see `guided`; 1 costs one evaluation a step, all else two.

    Returns:
        (B, C, H, W) x0 of the pictures.
    """
    own = model.conditioning(z_sem)
    edited = own if z_edited is None else model.conditioning(z_edited)
    weight = 1.0 if z_edited is None else guidance
    return follow(
        guided(model.diffae, own, edited, weight),
        x_t0,
        route,
        route.decoding(),
        spn_term=model.spn_term(inputs),
    )


def guided(diffae: DiffAE, own: Conditioning, edited: Conditioning, guidance: float) -> EpsModel:
    """`eps_hat = eps(own) + guidance * (eps(edited) - eps(own))`.

    Classifier-free guidance (2207.12598, Eq. 6) with the photo's own code in place of the null
    code: what an edit changes in the prediction is made larger, all else stays.
    """
    if guidance == 1:
        return lambda x, t: diffae.eps(x, t, edited)

    def model(x: Tensor, t: Tensor) -> Tensor:
        return torch.lerp(diffae.eps(x, t, own), diffae.eps(x, t, edited), guidance)

    return model
