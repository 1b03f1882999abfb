"""What a file says of itself: format, size as stored, orientation, frames, compression, EXIF, C2PA."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import ExifTags, Image

from detector.data.c2pa import has_c2pa

# Following the pages of a TIFF costs up to about a millisecond each, and a 64 MiB file can hold millions of empty ones.
_MAX_COUNTED_PAGES = 2_000

# The luminance table of ITU-T T.81, annex K.1, row by row; the IJG library scales it by the quality.
_STANDARD_LUMINANCE = np.array(
    [16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55]
    + [14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62]
    + [18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92]
    + [49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99]
)
_SUBSAMPLING = {(1.0, 1.0): "4:4:4", (2.0, 1.0): "4:2:2", (2.0, 2.0): "4:2:0"}


@dataclass(frozen=True)
class FileFacts:
    """What a file says of itself, as stored. Images made in memory have only a part of it."""

    format: str | None  # Pillow's name ("JPEG", "PNG", "MPO", …); None for arrays and images made in memory
    size_bytes: int | None  # None where there was no file
    mode: str  # Pillow's mode before conversion: "RGB", "CMYK", "I;16", …
    stored_width: int  # pixels, before the orientation is applied
    stored_height: int
    orientation: int  # EXIF, 1..8; 1 where it is absent or nonsense
    frames: int  # at least 1; pages of a TIFF are counted up to 2,000
    jpeg_quality: int | None  # 1..100, an estimate: see `_jpeg_quality`; None where not JPEG
    chroma_subsampling: str | None  # "4:4:4", "4:2:2" or "4:2:0"; None for grey, other ratios and other formats
    has_exif: bool  # an EXIF block is present, readable or not
    has_c2pa: bool  # a C2PA manifest is present; it is not validated


def facts_of(image: Image.Image, data: bytes | None, mode: str, orientation: int) -> FileFacts:
    """The facts of a loaded image. data: bytes of its file, if any; mode: before it was loaded; orientation: EXIF, 1..8."""
    width, height = image.size
    if image.format == "TIFF" and orientation >= 5:  # turned by Pillow, which turns it as it loads
        width, height = height, width
    return FileFacts(
        format=image.format,
        size_bytes=None if data is None else len(data),
        mode=mode,
        stored_width=width,
        stored_height=height,
        orientation=orientation,
        jpeg_quality=_jpeg_quality(image),
        chroma_subsampling=_chroma_subsampling(image),
        has_exif=_has_exif(image),
        has_c2pa=has_c2pa(image, data),
        frames=_frame_count(image),  # last, since where a later frame is damaged the image is left there
    )


def _frame_count(image: Image.Image) -> int:
    """Frames or pages, at least 1. A file whose later frames are damaged counts as one."""
    try:
        if image.format == "TIFF":
            return _page_count(image)
        return max(1, int(getattr(image, "n_frames", 1)))
    except Exception:
        return 1


def _page_count(image: Image.Image) -> int:
    index = image.tell()
    pages = index + 1
    try:
        while pages < _MAX_COUNTED_PAGES:
            image.seek(pages)
            pages += 1
    except EOFError:
        pass
    image.seek(index)
    return pages


def _jpeg_quality(image: Image.Image) -> int | None:
    """The IJG quality, 1..100, whose luminance table is nearest by summed absolute difference; the lower of equals.

    Exact where the writer used the IJG tables. Cameras and Photoshop have tables of their own: there it is the
    nearest IJG quality, no more (choice).
    """
    tables = getattr(image, "quantization", None)
    if not tables:
        return None
    layers = getattr(image, "layer", None)
    number = layers[0][3] if layers else 0
    table = np.asarray(tables.get(number, next(iter(tables.values()))))
    if table.shape != (64,):
        return None
    quality = np.arange(1, 101)[:, None]
    scale = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    candidates = ((_STANDARD_LUMINANCE * scale + 50) // 100).clip(1, 255)  # (100, 64)
    return int(np.abs(candidates - table).sum(axis=1).argmin()) + 1


def _chroma_subsampling(image: Image.Image) -> str | None:
    layers: Sequence[tuple[int, int, int, int]] = getattr(image, "layer", None) or ()
    if len(layers) < 3:
        return None
    (_, horizontal, vertical, _), (_, chroma_horizontal, chroma_vertical, _) = layers[:2]
    return _SUBSAMPLING.get((horizontal / max(1, chroma_horizontal), vertical / max(1, chroma_vertical)))


def _has_exif(image: Image.Image) -> bool:
    if image.info.get("exif") or image.info.get("Raw profile type exif"):
        return True
    try:  # a TIFF is itself built of tags: only the pointer to the EXIF block tells
        return image.format == "TIFF" and ExifTags.IFD.Exif in image.getexif()
    except Exception:
        return False
