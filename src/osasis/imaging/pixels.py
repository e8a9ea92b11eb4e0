"""Pixels of any kind as 8-bit sRGB: depth, transparency, colour profiles."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageCms

_PHOTOMETRIC = 262  # tag of TIFF


def flattened(
    colour: Image.Image, alpha: Image.Image | None, profile: bytes | None
) -> tuple[Image.Image, str]:
    """A new RGB image on white, and the name of the colour space it was converted from."""
    rgb, space = _to_srgb(colour, profile)
    canvas = Image.new("RGB", colour.size, "white")  # new, so that no stale profile is saved later
    canvas.paste(rgb, mask=alpha)
    return canvas, space


def split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Colour as 8-bit L, RGB or CMYK, and the alpha channel (L) where there is one."""
    if image.mode.startswith("I;16"):
        pixels = np.asarray(image)
        tags = getattr(image, "tag_v2", {})
        return _grey(65535 - pixels if tags.get(_PHOTOMETRIC) == 0 else pixels, (65535,)), None
    if image.mode == "I":  # 32 bits that nearly always hold 8 or 16
        return _grey(np.asarray(image), (255, 65535, 2**31 - 1)), None
    if image.mode == "F":
        return _float_grey(np.asarray(image)), None
    if image.mode in ("RGBA", "RGBa", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return rgba.convert("RGB"), rgba.getchannel("A")
    if image.mode in ("L", "RGB", "CMYK"):
        return image, None
    return image.convert("RGB"), None


def _grey(pixels: np.ndarray, tops: tuple[int, ...]) -> Image.Image:
    """Scale integers to 8 bits by the smallest of `tops` that holds them all."""
    largest = int(pixels.max())
    top = next(t for t in tops if largest <= t)
    scaled = np.rint(pixels.astype(np.float64).clip(0, top) * (255 / top))
    return Image.fromarray(scaled.astype(np.uint8))


def _float_grey(pixels: np.ndarray) -> Image.Image:
    """Scale floats to 8 bits: [0, 1], [0, 255] or [0, 65535] by their range, else stretched.

    A largest value up to 2 still counts as [0, 1], a little overexposed.
    """
    values = np.nan_to_num(pixels.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 65535:
        values = (values - low) / max(high - low, 1e-12)
    else:
        values = values / (1 if high <= 2 else 255 if high <= 255 else 65535)
    return Image.fromarray(np.rint(values.clip(0, 1) * 255).astype(np.uint8))


def _to_srgb(image: Image.Image, profile_bytes: bytes | None) -> tuple[Image.Image, str]:
    """RGB pixels in sRGB, and the name of the space they were in if that was another.

    A profile that is broken or of another kind of pixels is ignored.
    """
    if profile_bytes:
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(profile_bytes))
            described = ImageCms.getProfileDescription(profile)
            space = profile.profile.xcolor_space.strip()
            mode = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}.get(space)
            if mode == "L" and image.mode == "RGB":  # grey that had an alpha channel
                image = image.convert("L")
            if mode == image.mode and not described.startswith("sRGB"):
                srgb = ImageCms.createProfile("sRGB")
                converted = ImageCms.profileToProfile(image, profile, srgb, outputMode="RGB")
                if converted is not None:
                    return converted, "" if mode == "L" else described.strip()[:60]
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError, ImportError):
            pass
    return image.convert("RGB"), ""
