"""One image in, whatever it is, and a `Photo` out: upright 8-bit RGB pixels, and what the file says of itself.

Every file goes through the same checks, in this order, before anything is decoded: bytes, magic, pixel count. What
cannot be used ends in an `ImageError` with one sentence for the person who chose the file.

Choices, all ours:

* Transparency is laid on white: that is what a browser page or a print shows.
* Of an animation, a multi-page file or a multi-picture file the first frame counts.
* 16-bit grey becomes 8-bit by division by 257, rounded, so that 65535 is 255. (16-bit colour PNG and TIFF reach us
  through Pillow already in 8 bits, by their upper byte.)
* Integer ("I") and float ("F") grey are taken as they are inside 0..255, float inside 0..1 as 0..255; anything wider
  is stretched from its observed range to 0..255. A "portable grey map" of 16 bits is divided by 257 like the others.
* A colour profile other than sRGB is converted to sRGB; one that is broken or of another colour space is ignored.
"""

from __future__ import annotations

import ctypes
import io
import logging
import stat
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, _imaging

from detector.data.colours import Refusal, to_rgb
from detector.data.decode_cost import excess, icon_excess
from detector.data.decode_limits import SLOW_BYTES, costly_content, costly_tags
from detector.data.facts import FileFacts, facts_of

VERSION = "decoding-1"  # of the pixels that a file becomes; part of the key of cached features

# Above a camera's JPEG even at 100 megapixels (tens of MiB), far below what would fill a small server's memory
# when several people upload at once.
MAX_BYTES = 64 * 2**20

# Most telephones and medium-format cameras stay below 108 million pixels. At 120 million, decoding was measured to peak at
# 1.2 GB in colour and 1.7 GB with transparency; `decode_cost.MAX_MEMORY` bounds the formats that take more for each pixel.
MAX_PIXELS = 120_000_000

# Pillow compares sizes inside its decoders with a limit of its own, and warns in words of its own. Raised once, at
# import, to ours; never lowered, so that a program which imports us keeps what it can open.
if Image.MAX_IMAGE_PIXELS is not None:
    Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, MAX_PIXELS)

# Pillow's warnings name the place where Pillow is installed, and libtiff writes its errors to the error stream from C. What
# matters of them reaches the caller as an `ImageError`. These switches are for the whole process and set once, at import:
# Python's way to silence warnings for a while is not safe with threads.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())  # else Python prints what Pillow logs where nobody has set up logging
try:
    _tiff_errors = ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler  # looked up in the libtiff that Pillow itself has loaded
    _tiff_errors.argtypes, _tiff_errors.restype = [ctypes.c_void_p], ctypes.c_void_p
    _tiff_errors(None)
except (AttributeError, OSError):
    pass  # a Pillow without libtiff, or one that hides its names; then libtiff's lines, which name no path, remain

# EPS would start Ghostscript, WMF would be drawn by Windows, and IPTC wraps a file of any format, so EPS too. FITS is
# unpacked without any bound, BLP wraps a JPEG that nothing has checked. The others Pillow only
# recognises; their pixels would have to come from outside programs.
_REFUSED_FORMATS = {"EPS", "WMF", "IPTC", "FITS", "BLP", "BUFR", "GRIB", "HDF5", "MPEG"}

# What cameras, programs and the web write. The rest is read as well, but some of it by Python code, pixel by pixel.
_COMMON_FORMATS = {"JPEG", "MPO", "PNG", "WEBP", "GIF", "TIFF", "BMP", "DIB", "AVIF", "JPEG2000", "PPM", "TGA"}
_MAX_RARE_PIXELS = 16_000_000

_ICON_STARTS = (b"icns", b"\0\0\1\0", b"\0\0\2\0")
_VECTOR_STARTS = (b"%!PS", b"%PDF", b"\xc5\xd0\xd3\xc6", b"\xd7\xcd\xc6\x9a", b"\x01\x00\x09\x00")
_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
_MARKUP_PADDING = b"\xff\xfe\xef\xbb\xbf\x00 \t\r\n"  # byte-order marks and white space before the first tag


# EXIF orientation to the operation that sets the picture upright; the table of `ImageOps.exif_transpose`.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageError(ValueError):
    """An image that cannot be used. The message is one sentence: what is wrong, and what to do about it."""


@dataclass(frozen=True, eq=False)
class Photo:
    """Upright pixels, (H, W, 3) uint8 RGB, C-contiguous and write-protected, with the facts of the file.

    Compared by identity, since equality of arrays is no yes or no.
    """

    pixels: np.ndarray
    facts: FileFacts
    name: str | None = None  # the file's own name, without its folder

    @property
    def width(self) -> int:
        """Pixels across."""
        return self.pixels.shape[1]

    @property
    def height(self) -> int:
        """Pixels down."""
        return self.pixels.shape[0]


def load_photo(source: str | Path | bytes | Image.Image | np.ndarray) -> Photo:
    """Decode one image: a path, the bytes of a file, a Pillow image, or an array.

    Arrays are (H, W), (H, W, 3) or (H, W, 4), either uint8 or float within [0, 1]; the fourth channel is alpha. A
    Pillow image is taken at its present frame and is not changed, beyond being loaded. The name's extension means
    nothing, the content decides.

    Raises `ImageError`, and nothing else, for every image that cannot be used.
    """
    name = _file_name(source)
    try:
        return _develop(*_acquire(source), name)
    except Exception as error:
        subject = _quote(name) if name else "The file" if isinstance(source, bytes) else "The image"
        raise ImageError(f"{subject} {_complaint(error)}.") from error


# --- words ---------------------------------------------------------------------------------------------------------


def _file_name(source: object) -> str | None:
    path = getattr(source, "filename", None) if isinstance(source, Image.Image) else source
    return Path(path).name or None if isinstance(path, (str, Path)) else None


def _quote(name: str) -> str:
    """The file's name in quotation marks, safe to print and cut to 60 characters."""
    printable = "".join(character if character.isprintable() else "?" for character in name)
    return f"“{printable if len(printable) <= 60 else printable[:59] + '…'}”"


def _complaint(error: Exception) -> str:
    if isinstance(error, Refusal):
        return str(error)
    if isinstance(error, MemoryError):
        return "needs more memory than is free here; make it smaller and try again"
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return f"has more than {MAX_PIXELS // 10**6} million pixels; make it smaller and try again"
    return "is damaged, cut off or of a kind that cannot be decoded here; save it again as PNG or JPEG and choose that"


# --- from the source to an opened image ----------------------------------------------------------------------------


def _acquire(source: object) -> tuple[Image.Image, bytes | None]:
    """The image, opened but not decoded, and the bytes of the file where there are any."""
    if isinstance(source, Image.Image):
        return source, None
    if isinstance(source, np.ndarray):
        return _image_from_array(source), None
    if isinstance(source, (str, Path)):
        source = _read(Path(source))
    if source is None:
        raise Refusal("is missing; choose an image file first")
    if not isinstance(source, (bytes, bytearray)):
        raise Refusal("is neither a file nor pixels; choose an image file")
    _check_bytes(len(source))
    return _open(bytes(source)), bytes(source)


def _read(path: Path) -> bytes:
    """The file's bytes. Size and kind are checked first: a device or a pipe might never end."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise Refusal("is a folder; choose one image file in it")
        if not stat.S_ISREG(status.st_mode):
            raise Refusal("is not an ordinary file; choose an image file")
        _check_bytes(status.st_size)
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Refusal("was not found; check the name and the folder") from error
    except (OSError, ValueError) as error:
        raise Refusal("could not be opened; check its name and that you are allowed to read it") from error


def _check_bytes(count: int) -> None:
    if count == 0:
        raise Refusal("is empty (0 bytes); choose another file or download it again")
    if count > MAX_BYTES:
        raise Refusal(f"is larger than {MAX_BYTES // 2**20} MiB; save it smaller and try again")


def _check_pixel_count(size: tuple[int, int]) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise Refusal("has no pixels; choose another image")
    if width * height > MAX_PIXELS:
        limit = MAX_PIXELS // 10**6
        raise Refusal(f"has {_side(width)} × {_side(height)} pixels, more than {limit} million; make it smaller and try again")


def _side(pixels: int) -> str:
    return f"{pixels:,}" if pixels < 10**12 else "over a trillion"  # a header in text may name hundreds of digits


def _open(data: bytes) -> Image.Image:
    """What `Image.open` does, without its size guard and without the formats that we refuse.

    That guard warns or raises in words of its own, by a limit that the whole process shares; ours follows right after.
    """
    _refuse_markup(data)
    if complaint := costly_content(data):
        raise Refusal(f"holds {complaint}, which could keep this program busy for minutes; save it again as PNG or JPEG and choose that")
    if data.startswith(_ICON_STARTS) and (complaint := icon_excess(data)):
        raise Refusal(complaint)
    Image.preinit()  # the common formats first, as `Image.open` tries them
    Image.init()
    for name in [name for name in Image.ID if name in _COMMON_FORMATS or len(data) <= SLOW_BYTES]:
        factory, accepts = Image.OPEN[name]
        try:
            match = accepts is None or accepts(data[:16])  # a text where the plug-in lacks its library
            if name not in _REFUSED_FORMATS and match and not isinstance(match, str):
                return factory(io.BytesIO(data), "")
        except (SyntaxError, IndexError, TypeError, struct.error):
            continue  # how plug-ins say "not mine"
    raise Refusal(_why_unreadable(data))


def _refuse_markup(data: bytes) -> None:
    start = data[:4096].lstrip(_MARKUP_PADDING).replace(b"\x00", b"").lower()
    if not start.startswith(b"<"):
        return
    if start.startswith(b"<!doctype html") or b"<html" in start:
        raise Refusal("is a web page, not an image; save the picture itself and choose that")
    if b"<svg" in start:
        raise Refusal("is a vector drawing (SVG) and has no pixels; export it as PNG and choose that")


def _why_unreadable(data: bytes) -> str:
    if data.startswith(_VECTOR_STARTS) or data[40:44] == b" EMF":
        return "is a vector drawing or a document (EPS, PDF, WMF or EMF); export it as PNG and choose that"
    if data[4:8] == b"ftyp" and data[8:12] in _HEIC_BRANDS:
        return "is a HEIC photo, which cannot be read here; export it as JPEG and choose that"
    if len(data) > SLOW_BYTES:
        formats, limit = "JPEG, PNG, WebP, AVIF, GIF, TIFF or BMP file", SLOW_BYTES // 2**20
        return f"is no {formats}, and others are read up to {limit} MiB only; save it as PNG and choose that"
    return "is not an image, or its first bytes are damaged; choose a JPEG, PNG, WebP, AVIF, GIF or TIFF file"


def _image_from_array(array: np.ndarray) -> Image.Image:
    """(H, W), (H, W, 3) or (H, W, 4), uint8 or float within [0, 1], as an image of mode L, RGB or RGBA."""
    if array.ndim not in (2, 3) or array.shape[2:] not in ((), (3,), (4,)):
        raise Refusal(f"is an array of shape {array.shape}; give it the shape (H, W), (H, W, 3) or (H, W, 4)")
    _check_pixel_count((array.shape[1], array.shape[0]))
    if array.dtype.kind == "f":
        array = _bytes_from_unit_range(array)
    if array.dtype != np.uint8:
        raise Refusal(f"is an array of {array.dtype}; make it uint8, or float from 0 to 1")
    return Image.fromarray(array)


def _bytes_from_unit_range(array: np.ndarray) -> np.ndarray:
    lowest, highest = array.min(), array.max()  # NaN wherever one value is NaN
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        raise Refusal("holds values that are not finite numbers (NaN or infinity); replace them first")
    if lowest < 0 or highest > 1:
        raise Refusal("is a float array with values outside 0 to 1; scale it to 0 to 1, or make it uint8")
    return np.rint(array * 255).astype(np.uint8)


# --- from the opened image to the photo ------------------------------------------------------------------------------


def _develop(image: Image.Image, data: bytes | None, name: str | None) -> Photo:
    _check_pixel_count(image.size)
    if data is not None and image.format not in _COMMON_FORMATS and image.width * image.height > _MAX_RARE_PIXELS:
        raise Refusal(f"is a large picture in a rare format ({image.format}); save it as PNG or JPEG and choose that")
    if data is not None and (complaint := excess(image, data)):
        raise Refusal(complaint)
    mode = image.mode
    # Pillow turns a TIFF upright by itself while it loads, and forgets the tag; every other format it leaves to us.
    orientation = _orientation(image) if image.format == "TIFF" else 1
    image.load()
    remaining = _orientation(image)
    upright = to_rgb(image)
    if remaining in _UPRIGHT:
        upright = upright.transpose(_UPRIGHT[remaining])
    pixels = np.asarray(upright)
    pixels.setflags(write=False)  # Pillow gives it so already, but does not promise it
    return Photo(pixels, facts_of(image, data, mode, max(orientation, remaining)), name)


def _orientation(image: Image.Image) -> int:
    """EXIF orientation (or XMP's, as Pillow has it), 1..8; 1 where it cannot be read."""
    try:
        if costly_tags(_exif_block(image)):  # tags that the file holds packed were not checked before
            return 1
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
        return int(value) if value in range(1, 9) else 1
    except Exception:  # a broken EXIF block fails in as many ways as there are bytes in it
        return 1


def _exif_block(image: Image.Image) -> bytes:
    """The EXIF block from its TIFF header on, as Pillow takes it from a file or, in older PNG files, from hexadecimal text."""
    block = image.info.get("exif") or b""
    if not block and (text := image.info.get("Raw profile type exif")):
        block = bytes.fromhex("".join(text.split("\n")[3:]))
    while block.startswith(b"Exif\0\0"):
        block = block[6:]
    return block
