"""Time and memory that decoding would take, estimated from the header before a pixel is decoded; too much is refused.

`decode_limits` looks at bytes, before any parser reads them; here Pillow has read the header, so that size and kind are known.
Every constant is a measurement with Pillow 12.3 on one core of the machine that the tests ran on (see each comment).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from PIL import Image, TiffImagePlugin

from detector.data import jpeg2000
from detector.data.jpeg2000 import Cost

MAX_SECONDS = 5.0  # an estimate on the high side: what is accepted took less than 4 s where its constants come from
MAX_MEMORY = 2_000_000_000  # bytes; several people may upload at once, and a small server has 16 GB
MAX_SCANNED_PIXELS = 1_500_000_000  # scans of a progressive JPEG times its pixels; usual are 10 scans
MAX_ICON_PIXELS = 2_000_000  # the largest picture in an icon has 1,024 × 1,024

# Bytes of memory a pixel at the peak, of 10,900 × 10,900 pixels, from the file to the array: (opaque, transparent).
_MEMORY = {"WEBP": (18.5, 22.5), "AVIF": (12.5, 18.0)}
_USUAL_MEMORY = (12.0, 15.0)
_TRANSPARENT = {"RGBA", "LA", "PA", "CMYK", "LAB", "I", "F"}  # four bytes a pixel in Pillow, and a second picture to convert them

# Seconds. PNG at 120 megapixels, slowest filter: RGB 2.7, RGBA 4.3, RGBA of 16 bits 4.5, interlaced 6.5.
_PIXEL, _TRANSPARENT_PIXEL = 9e-9, 17e-9
_RAW_BYTE, _INTERLACED_BYTE = 3.5e-9, 5.5e-9
_RAW = {"PNG", "TIFF"}  # formats whose time grows with the depth and number of channels
_COLOUR = 30e-9  # a pixel through a colour profile, or from CIE Lab: 25 to 40e-9 for noise
_AVIF_BYTE = 0.08 / 2**20  # 4,000 × 4,000 of noise in 57 MiB: 5.4 s of processor time

_SCAN = b"\xff\xda"
_JPEG_IN_TIFF = {6, 7}  # compressions
_COMPRESSION, _PLACES, _LENGTHS = 259, (273, 324), (279, 325)  # tags of a TIFF: of strips or else of tiles
_ROWS, _TILE_WIDTH, _TILE_HEIGHT = 278, 322, 323
_AGAIN = "save it again as PNG or JPEG and choose that"
_TOO_MUCH = f"would take too long or too much memory to decode here; make it smaller, or {_AGAIN}"
_SCANS = f"holds very many scans of a large picture, which could keep this program busy for minutes; {_AGAIN}"
_ICON = f"is an icon that holds a large picture; {_AGAIN}"
_NONSENSE = f"is a JPEG 2000 picture whose headers make no sense; {_AGAIN}"


def excess(image: Image.Image, data: bytes) -> str | None:
    """Why a file is refused, as a sentence without its subject and full stop; None where it can be read.

    image: opened, not decoded. The caller checks the number of pixels.
    """
    if image.format == "JPEG2000":
        return _codestream_excess(data)
    if _scanned_pixels(image, data) > MAX_SCANNED_PIXELS:
        return _SCANS
    return _cost_excess(estimate(image, len(data)))


def icon_excess(data: bytes) -> str | None:
    """The same for an icon, from its bytes: Pillow decodes the PNG or JPEG 2000 inside as it opens or converts it."""
    for at in _places(data, b"IHDR"):
        if at + 12 <= len(data) and _product(struct.unpack_from(">II", data, at + 4)) > MAX_ICON_PIXELS:
            return _ICON
    for at in _places(data, jpeg2000.CODESTREAM):
        if complaint := _codestream_excess(data[at:]):
            return complaint
    return None


def _product(size: Sequence[int]) -> int:
    return size[0] * size[1]


def _places(data: bytes, pattern: bytes) -> list[int]:
    places, at = [], data.find(pattern)
    while at >= 0:
        places.append(at)
        at = data.find(pattern, at + 1)
    return places


def _cost_excess(cost: Cost) -> str | None:
    return _TOO_MUCH if cost.seconds > MAX_SECONDS or cost.memory > MAX_MEMORY else None


def _codestream_excess(data: bytes) -> str | None:
    try:
        return _cost_excess(jpeg2000.cost(data, jpeg2000.codestream_start(data)))
    except jpeg2000.MalformedHeader:
        return _NONSENSE


def estimate(image: Image.Image, size: int) -> Cost:
    """Cost of decoding any format but JPEG 2000. size: bytes of the file."""
    pixels, transparent = image.width * image.height, image.mode in _TRANSPARENT or "transparency" in image.info
    memory = _MEMORY.get(image.format or "", _USUAL_MEMORY)[transparent]
    seconds = pixels * (_TRANSPARENT_PIXEL if transparent else _PIXEL)
    if image.format in _RAW:
        seconds += pixels * _raw_bytes(image) * (_INTERLACED_BYTE if image.info.get("interlace") else _RAW_BYTE)
    if image.mode == "LAB" or image.info.get("icc_profile"):
        seconds += pixels * _COLOUR
    if image.format == "AVIF":
        seconds += size * _AVIF_BYTE
    return Cost(seconds, pixels * memory + size)


def _raw_bytes(image: Image.Image) -> int:
    """Bytes a pixel as the file holds them, from Pillow's name of the layout: 3 for "RGB", 8 for "RGBA;16B"."""
    tile = getattr(image, "tile", None)
    layout = tile[0][3] if tile else image.mode
    layout = layout if isinstance(layout, str) else layout[0] if layout and isinstance(layout[0], str) else image.mode
    channels, _, depth = layout.partition(";")
    return (1 if channels in ("I", "F") else len(channels)) * (4 if "32" in depth else 2 if "16" in depth else 1)


def _scanned_pixels(image: Image.Image, data: bytes) -> float:
    """Pixels times scans of a JPEG, also of those in the strips or tiles of a TIFF; 0 for other formats."""
    if image.format in ("JPEG", "MPO"):
        return image.width * image.height * data.count(_SCAN)
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else None
    if tags is None or tags.get(_COMPRESSION) not in _JPEG_IN_TIFF:
        return 0
    places, lengths = (_values(tags, _PLACES), _values(tags, _LENGTHS))
    if len(places) != len(lengths) or sum(lengths) > 2 * len(data):  # the same bytes may be named again and again
        return image.width * image.height * max(1, len(places)) * data.count(_SCAN)
    part = image.width * min(image.height, tags.get(_ROWS) or image.height)
    part = max(part, tags.get(_TILE_WIDTH, 0) * tags.get(_TILE_HEIGHT, 0))
    return part * sum(data.count(_SCAN, at, at + length) for at, length in zip(places, lengths, strict=True))


def _values(tags: TiffImagePlugin.ImageFileDirectory_v2, names: Sequence[int]) -> Sequence[int]:
    return next((tags[name] for name in names if name in tags), ())
