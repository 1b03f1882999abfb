"""Image files made here, and what `load_photo` says of them."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image

from detector.data.images import ImageError, load_photo

RED, WHITE = (255, 0, 0), (255, 255, 255)
GRID = np.array([[0, 40, 80], [120, 160, 200]], dtype=np.uint8)  # 2 rows, 3 columns


def encode(image: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def noise(size: int = 64) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8))


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, extra: bytes = b"") -> bytes:
    """A PNG from its parts; `rows` with the filter byte before each row."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


def exif_with(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return exif


def first_pixel(source) -> tuple[int, ...]:
    return tuple(load_photo(source).pixels[0, 0].tolist())


def refusal(source) -> str:
    """The sentence that `source` is refused with, checked for the form that every one of them must have."""
    with pytest.raises(ImageError) as caught:
        load_photo(source)
    sentence = str(caught.value)
    assert sentence.endswith(".") and "; " in sentence and "\n" not in sentence and sentence[0] in "“T"
    assert not any(word in sentence for word in ("Traceback", "Error", "PIL", "/", "0x"))
    return sentence
