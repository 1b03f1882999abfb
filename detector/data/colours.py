"""Any mode of a decoded image to opaque 8-bit sRGB; the choices stand in `images.py`."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageCms

_BAND_ROWS = 64  # converted at a time: the intermediate arrays stay in the processor's cache, and small
_SIXTEEN_BIT_MODES = ("I;16", "I;16L", "I;16B", "I;16N")
_MODES_WITH_TRANSPARENCY = ("1", "L", "P", "RGB", "LA", "La", "PA", "RGBA", "RGBa")


class Refusal(Exception):
    """What is wrong and what to do, without the subject and the full stop that `load_photo` puts around it."""


def to_rgb(image: Image.Image) -> Image.Image:
    """Mode RGB, 8 bits, opaque, sRGB as far as that is known."""
    profile = image.info.get("icc_profile")
    if image.mode in _SIXTEEN_BIT_MODES or image.mode in ("I", "F"):
        image = Image.fromarray(_eight_bits(image))
    elif image.mode == "LAB":
        image = _through_profile(image, ImageCms.createProfile("LAB"))
    elif _may_be_transparent(image):
        image = _on_white(image)
    if image.mode != "CMYK":  # its own profile describes inks, so that must come before the conversion
        image = image if image.mode == "RGB" else image.convert("RGB")
    image = _to_srgb(image, profile)
    return image if image.mode == "RGB" else image.convert("RGB")


def _eight_bits(image: Image.Image) -> np.ndarray:
    """Grey of 16 or 32 bits as (H, W) uint8; the rules stand in the module's docstring."""
    values = np.asarray(image)
    convert = _divide_by_257 if image.mode != "F" and (image.mode != "I" or image.format == "PPM") else _stretch(values)
    grey = np.empty(values.shape, np.uint8)
    for top in range(0, len(values), _BAND_ROWS):
        grey[top : top + _BAND_ROWS] = convert(values[top : top + _BAND_ROWS])
    return grey


def _divide_by_257(values: np.ndarray) -> np.ndarray:
    return (values.astype(np.uint32) + 128) // 257  # rounds, as 257 is odd


def _stretch(values: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """What takes a part of these values to 0..255."""
    lowest, highest = float(values.min()), float(values.max())
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        raise Refusal("holds values that are not finite numbers (NaN or infinity); replace them first")
    offset, divisor = 0.0, 255.0
    if values.dtype.kind == "f" and lowest >= 0 and highest <= 1:
        divisor = 1.0
    elif (lowest < 0 or highest > 255) and highest > lowest:
        offset, divisor = lowest, highest - lowest
    return lambda part: np.rint((part.astype(np.float64) - offset) * 255 / divisor).clip(0, 255)


def _may_be_transparent(image: Image.Image) -> bool:
    if image.mode == "P" and image.palette is None:  # from an icon; Pillow's own test fails there
        return False
    return image.mode in _MODES_WITH_TRANSPARENCY and image.has_transparency_data


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode == "La":  # premultiplied; Pillow has no direct way to RGBA
        image = image.convert("LA")
    image = image.convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image)
    return white


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """From the embedded profile to sRGB; unchanged where there is none, it is sRGB already, or it cannot be used.

    "Multi-process elements" chain any number of steps, so that a small profile could take minutes; hardly any file has them.
    """
    if not profile or b"mpet" in profile:
        return image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(source).lower():
            return image
        return _through_profile(image, source)
    except Exception:  # the picture can be used without its profile
        return image


def _through_profile(image: Image.Image, profile: ImageCms.ImageCmsProfile | ImageCms.core.CmsProfile) -> Image.Image:
    """The image in sRGB, mode RGB. profile: what its numbers mean."""
    converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    return image if converted is None else converted  # None only for conversions in place
