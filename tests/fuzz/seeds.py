"""Sound files of every format that Pillow writes, and some that it only reads; small, so that mutations reach their structure."""

from __future__ import annotations

import io
import struct
from zlib import compress, crc32

import numpy as np
from PIL import Image, ImageCms, features

_SIDE = 48
_UNCOMPRESSED = {
    "BMP": ("RGB", "P", "1"),
    "DIB": ("RGB",),
    "PPM": ("RGB", "L", "1", "I", "F"),
    "TGA": ("RGBA",),
    "PCX": ("P",),
    "SGI": ("RGB",),
    "IM": ("RGB",),
    "DDS": ("RGB",),
    "MSP": ("1",),
    "SPIDER": ("F",),
    "XBM": ("1",),
    "EPS": ("RGB",),
}
_PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def sound_files() -> dict[str, bytes]:
    """Name → bytes, the same on every run; formats that this Pillow cannot write are left out."""
    files = {}
    for name, format, mode, options in _kinds():
        if format in Image.SAVE or format in ("JPEG2000", "WEBP", "AVIF"):
            files[name] = _encoded(mode, format, options)
    return files | {"png interlaced": _interlaced_png(), "psd": _psd(), "qoi": _encoded("RGB", "QOI", {})}


def _kinds() -> list[tuple[str, str, str, dict]]:
    Image.init()
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a maker"
    kinds = [
        ("jpeg", "JPEG", "RGB", {"exif": exif, "icc_profile": _PROFILE}),
        ("jpeg progressive", "JPEG", "RGB", {"progressive": True}),
        ("jpeg grey", "JPEG", "L", {}),
        ("jpeg cmyk", "JPEG", "CMYK", {}),
        ("mpo", "MPO", "RGB", _several()),
        ("apng", "PNG", "RGB", _several()),
        ("png exif", "PNG", "RGB", {"exif": exif, "icc_profile": _PROFILE}),
        ("webp lossy", "WEBP", "RGB", {"exif": exif}),
        ("webp lossless", "WEBP", "RGBA", {"lossless": True}),
        ("webp animated", "WEBP", "RGB", _several()),
        ("gif", "GIF", "P", {}),
        ("gif animated", "GIF", "RGB", _several()),
        ("avif", "AVIF", "RGB", {"exif": exif}),
        ("avif alpha", "AVIF", "RGBA", {}),
        ("avif animated", "AVIF", "RGB", _several()),
        ("jp2", "JPEG2000", "RGB", {}),
        ("j2k lossy", "JPEG2000", "RGBA", {"no_jp2": True, "irreversible": True}),
        ("jp2 tiles", "JPEG2000", "L", {"tile_size": (16, 16), "codeblock_size": (4, 4)}),
        ("tiff pages", "TIFF", "RGB", _several()),
        ("ico", "ICO", "RGBA", {"sizes": [(16, 16), (32, 32)]}),
        ("icns", "ICNS", "RGBA", {}),
        ("ico bitmap", "ICO", "RGBA", {"bitmap_format": "bmp", "sizes": [(32, 32)]}),
        ("tga rle", "TGA", "RGB", {"compression": "tga_rle"}),
        ("dds dxt", "DDS", "RGBA", {"pixel_format": "DXT5"}),
    ]
    kinds += [(f"png {mode}", "PNG", mode, {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")]
    codecs = ["packbits", "tiff_lzw", "tiff_adobe_deflate", "jpeg", "lzma", "zstd"] if features.check("libtiff") else []
    kinds += [(f"tiff {codec}", "TIFF", "RGB", {"compression": codec, "exif": exif}) for codec in codecs]
    kinds += [(f"tiff {mode}", "TIFF", mode, {}) for mode in ("1", "L", "I;16", "I", "F", "CMYK", "LAB", "RGBA")]
    kinds += [(f"tiff {codec}", "TIFF", "1", {"compression": codec}) for codec in ("group3", "group4")] if codecs else []
    return kinds + [(f"{format.lower()} {mode}", format, mode, {}) for format, modes in _UNCOMPRESSED.items() for mode in modes]


def _several() -> dict:
    """Options for three frames; made anew for each file, since Pillow's writers leave marks on the pictures."""
    return {"save_all": True, "append_images": [_picture("RGB", 1), _picture("RGB", 2)]}


def _picture(mode: str, seed: int = 0) -> Image.Image:
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:_SIDE, :_SIDE] * 5
    grey = np.stack([rows, columns, (rows + columns) // 2, 255 - rows], axis=-1) % 256
    noisy = (grey + generator.integers(0, 30, grey.shape)).clip(0, 255).astype(np.uint8)
    if mode in ("I;16", "I", "F"):
        return Image.fromarray(noisy[..., 0].astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]) * 200)
    if mode == "LAB":
        return Image.merge("LAB", Image.fromarray(noisy[..., :3]).split())
    return Image.fromarray(noisy, "RGBA").convert("RGB" if mode == "CMYK" else mode).convert(mode)


def _encoded(mode: str, format: str, options: dict) -> bytes:
    buffer = io.BytesIO()
    _picture(mode).save(buffer, format, **options)
    return buffer.getvalue()


def _interlaced_png() -> bytes:
    """Eight by eight pixels of grey, one bit each: Pillow writes no interlaced files."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc32(kind + content))

    rows = b"\0\x80" * 15  # 1 + 1 + 1 + 2 + 2 + 4 + 4 rows of the seven passes, one byte each behind the filter's
    header = struct.pack(">IIBBBBB", 8, 8, 1, 0, 0, 0, 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", compress(rows)) + chunk(b"IEND", b"")


def _psd() -> bytes:
    """A Photoshop file without layers: header, three empty sections, three planes as they are."""
    planes = _picture("RGB").split()
    header = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, _SIDE, _SIDE, 8, 3)
    return header + bytes(12) + struct.pack(">H", 0) + b"".join(plane.tobytes() for plane in planes)
