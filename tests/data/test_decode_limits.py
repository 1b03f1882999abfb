"""detector/data/decode_limits.py: files made to keep a parser busy are refused at once; large honest ones are not."""

import io
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from detector.data.decode_limits import (
    MAX_BLOCKS,
    MAX_COMMENT_BYTES,
    MAX_FRAMES,
    MAX_PIECES,
    MAX_PROFILES,
    MAX_STRIPS,
    MAX_TAGS,
    SLOW_BYTES,
    costly_content,
    costly_tags,
)
from detector.data.images import ImageError, load_photo

HONEST_EXIF = {0x010F: "a maker", 0x0110: "a model", 0x8769: {0x9286: b"a comment" * 100}}


def encode(format: str, size: int = 64, **options) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, format, **options)
    return buffer.getvalue()


def chunk(kind: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(before: bytes = b"", after: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + before + chunk(b"IDAT", zlib.compress(bytes(72))) + after + chunk(b"IEND")


def gif(before: bytes = b"", frames: int = 1) -> bytes:
    frame = b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\2\2\x44\1\0"
    return b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff" + before + frame * frames + b";"


def segment(marker: int, content: bytes = b"") -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", 2 + len(content)) + content


def jpeg(before: bytes = b"", **options) -> bytes:
    data = encode("JPEG", **options)
    return data[:2] + before + data[2:]


def tiff(tags: list[tuple[int, int, int, int]], body: bytes, order: str = "<", following: int = 0) -> bytes:
    """A TIFF of 8 × 8 grey zeros, its further tags as (tag, type, number of values, place), behind `body` at place 8."""
    own = [(256, 4, 1, 8), (257, 4, 1, 8), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8), (278, 4, 1, 8), (279, 4, 1, 64)]
    if order == ">":  # a short value stands in the first two of four bytes
        own = [(tag, kind, count, value << 16 if kind == 3 else value) for tag, kind, count, value in own]
    entries = b"".join(struct.pack(f"{order}HHII", *entry) for entry in [*own, *tags])
    start = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8 + len(body))
    return start + body + struct.pack(f"{order}H", len(own) + len(tags)) + entries + struct.pack(f"{order}I", following)


def greedy(count: int, size: int = 2**16, order: str = "<") -> bytes:
    """Tags that all claim the same bytes: as a file of a megabyte it took two gigabytes to open."""
    return tiff([(40_000 + i, 1, size, 8) for i in range(count)], bytes(size), order)


def split_exif(block: bytes) -> bytes:
    """An EXIF block over as many segments as it takes; Pillow joins them."""
    return b"".join(segment(0xE1, b"Exif\0\0" + block[at : at + 60_000]) for at in range(0, len(block), 60_000))


def scans(count: int) -> bytes:
    """A progressive JPEG of 4000 × 4000 with its last scan repeated."""
    buffer = io.BytesIO()
    Image.new("L", (4000, 4000)).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    return data[:-2] + data[data.rindex(b"\xff\xda") : -2] * count + data[-2:]


def run_length_bitmap(count: int) -> bytes:
    body = b"\1\1" * count
    header = struct.pack("<IiiHHIIiiII", 40, 64, 64, 1, 8, 1, len(body), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 1024 + len(body), 0, 0, 54 + 1024) + header + bytes(1024) + body


LABORIOUS = {
    "PNG, empty chunks": (lambda: png(chunk(b"prVt") * MAX_PIECES), "chunks"),
    "PNG, empty chunks at the end": (lambda: png(after=chunk(b"prVt") * MAX_PIECES), "chunks"),
    "PNG, profiles": (lambda: png(chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(10**6))) * (MAX_PROFILES + 1)), "colour profiles"),
    "GIF, one long comment": (lambda: gif(b"!\xfe" + (b"\xff" + b"a" * 255) * (MAX_COMMENT_BYTES // 255 + 1) + b"\0"), "comments"),
    "GIF, short comments": (lambda: gif(b"!\xfe\1a\0" * MAX_COMMENT_BYTES), "comments"),
    "GIF, frames": (lambda: gif(frames=MAX_FRAMES + 1), "frames"),
    "GIF, blocks": (lambda: gif(b"!\1" + b"\1a" * (MAX_BLOCKS + 1) + b"\0"), "blocks"),
    "GIF, stray bytes": (lambda: gif(b"\1" * (MAX_BLOCKS + 1)), "blocks"),
    "JPEG, comments": (lambda: jpeg(segment(0xFE) * MAX_PIECES), "segments"),
    "JPEG, filler": (lambda: jpeg(b"\xff" * MAX_PIECES), "filler"),
    "JPEG, stray bytes": (lambda: jpeg(segment(0xFE) + bytes(MAX_PIECES)), "filler"),
    "JPEG, scans": (lambda: scans(100), "scans"),
    "JPEG, EXIF": (lambda: jpeg(segment(0xE1, b"Exif\0\0" + bytes(60_000)) * (SLOW_BYTES // 60_000 + 1)), "of EXIF"),
    "JPEG, greedy tags": (lambda: jpeg(split_exif(greedy(20))), "claim more"),
    "TIFF, greedy tags": (lambda: greedy(20), "claim more"),
    "TIFF, greedy tags, big-endian": (lambda: greedy(20, order=">"), "claim more"),
    "TIFF, tags": (lambda: tiff([], bytes(64), following=174) + chain(MAX_TAGS), "tags"),
    "TIFF, strips": (lambda: tiff([(273, 4, MAX_STRIPS + 1, 8)], bytes(4 * MAX_STRIPS + 4)), "strips"),
    "BMP, run lengths": (lambda: run_length_bitmap(SLOW_BYTES // 2), "run-length code"),
    "PPM, long comment": (lambda: b"P6\n#" + b"a" * 5000 + b"\n8 8\n255\n" + bytes(192), "header"),
    "PPM, spaces": (lambda: b"P6 " + b" " * 5000 + b"8 8 255\n" + bytes(192), "header"),
    "PPM, plain text": (lambda: b"P3\n1000 1000\n255\n" + b"0 " * 3_000_000, "one by one"),
    "PPM, odd maximum": (lambda: b"P5\n2000 2000\n100\n" + bytes(4_000_000), "one by one"),
}


def chain(count: int) -> bytes:
    """Empty TIFF directories, each naming the next, from place 174 on."""
    return b"".join(struct.pack("<HI", 0, 174 + 6 * (i + 1)) for i in range(count)) + bytes(6)


@pytest.mark.parametrize("kind", LABORIOUS)
def test_a_laborious_file_is_refused_at_once_in_one_sentence(kind):
    make, expected = LABORIOUS[kind]
    data = make()
    start = time.process_time()
    with pytest.raises(ImageError) as caught:
        load_photo(data)
    assert time.process_time() - start < 2
    sentence = str(caught.value)
    assert expected in sentence and "busy for minutes" in sentence and sentence.endswith(".") and "\n" not in sentence


HONEST = {
    "JPEG": lambda: encode("JPEG", exif=exif_with(HONEST_EXIF)),
    "JPEG, progressive": lambda: encode("JPEG", 1000, progressive=True),
    "JPEG, a few repeated scans": lambda: scans(4),
    "JPEG, EXIF over two segments": lambda: jpeg(split_exif(tiff([(40_000, 1, 70_000, 8)], bytes(70_000)))),
    "PNG": lambda: encode("PNG", 300, exif=exif_with(HONEST_EXIF)),
    "PNG, 4,000 chunks": lambda: png(after=chunk(b"prVt", bytes(400)) * 4000),
    "GIF, 500 frames and a comment": lambda: gif(b"!\xfe\5hello\0", 500),
    "WebP": lambda: encode("WEBP", exif=exif_with(HONEST_EXIF)),
    "AVIF": lambda: encode("AVIF", exif=exif_with(HONEST_EXIF)),
    "TIFF": lambda: encode("TIFF", exif=exif_with(HONEST_EXIF)),
    "TIFF, JPEG inside": lambda: encode("TIFF", 300, compression="jpeg"),
    "BMP": lambda: encode("BMP", 1200),
    "PPM": lambda: encode("PPM", 1200),
    "TGA": lambda: encode("TGA", 1200),
}


def exif_with(tags: dict) -> Image.Exif:
    exif = Image.Exif()
    for tag, value in tags.items():
        if isinstance(value, dict):
            exif.get_ifd(tag).update(value)
        else:
            exif[tag] = value
    return exif


@pytest.mark.parametrize("kind", HONEST)
def test_an_honest_file_passes(kind):
    data = HONEST[kind]()
    assert costly_content(data) is None
    assert load_photo(data).facts.size_bytes == len(data)


@pytest.mark.parametrize("format", ["WEBP", "PNG"])
def test_greedy_tags_in_an_exif_block_cost_the_orientation_and_not_the_image(format):
    data = encode(format, exif=b"Exif\0\0" + greedy(20))
    assert load_photo(data).facts.orientation == 1


def test_greedy_tags_in_an_avif_are_refused():
    honest = encode("AVIF", exif=b"Exif\0\0" + tiff([(40_000, 1, 2**16, 8)], bytes(2**16)))
    place = honest.index(b"II*\0")
    assert costly_content(honest) is None and costly_tags(honest, place) is None
    block = greedy(20)
    crafted = honest[:place] + block + honest[place + len(block) :]  # the file's other boxes no longer matter: it is not opened
    with pytest.raises(ImageError, match="claim more"):
        load_photo(crafted)


def test_directories_that_name_each_other_end():
    assert costly_tags(tiff([(34_665, 4, 1, 8)], b"", following=8)) is None


@pytest.mark.parametrize("format", ["SGI", "PCX", "DDS"])
def test_rare_formats_are_read_up_to_a_limit(format):
    assert load_photo(encode(format, 100)).facts.format == format
    data = encode(format, 900)
    assert len(data) > SLOW_BYTES
    with pytest.raises(ImageError, match="save it as PNG"):
        load_photo(data)


def test_a_rare_format_cannot_unfold_into_a_large_picture():
    runs = b"qoif" + struct.pack(">IIBB", 8000, 8000, 3, 0) + b"\xfd" * (8000 * 8000 // 62 + 1) + bytes(7) + b"\1"
    with pytest.raises(ImageError, match="rare format"):
        load_photo(runs)


STARTS = [b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\xff\xd8\xff", b"BM", b"P6 ", b"II*\0", b"MM\0*", b"II+\0", b"\0\0\0\x18ftypavif"]


@pytest.mark.parametrize("start", STARTS)
def test_no_bytes_make_the_scan_fail(start):
    noise = np.random.default_rng(1).integers(0, 256, 5000, dtype=np.uint8).tobytes()
    for length in [*range(60), 500, 5000]:
        assert isinstance(costly_content(start + noise[:length]), str | None)
