"""What a header asks for is counted, of JPEG 2000 streams too, and too much is refused before decoding."""

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from codestreams import box, boxed, codestream, segment, style_segment
from paths import ROOT
from PIL import Image, ImageFile

from detector.data import jpeg2000
from detector.data.decode_cost import MAX_MEMORY, MAX_SECONDS, estimate, excess
from detector.data.images import ImageError, load_photo
from detector.data.jpeg2000 import MalformedHeader, cost


def encode(image: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def noise(side: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8))


def png_header(side: int, depth: int, colour: int, interlaced: int = 0) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, depth, colour, 0, 0, interlaced)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def strips_of_one_jpeg(side: int, rows: int, scans: int) -> bytes:
    """A TIFF whose strips are all the same progressive JPEG, its last scan repeated: 20 KiB kept a decoder busy for 7 s."""
    jpeg = encode(Image.new("L", (side, rows)), "JPEG", progressive=True)
    jpeg = jpeg[:-2] + jpeg[jpeg.rindex(b"\xff\xda") : -2] * scans + jpeg[-2:]
    count = side // rows
    lists = struct.pack(f"<{count}I", *[8] * count) + struct.pack(f"<{count}I", *[len(jpeg)] * count)
    first, values = 8 + len(jpeg), 8 + len(jpeg) + len(lists)
    tags = [(256, 4, 1, side), (257, 4, 1, side), (258, 3, 1, 8), (259, 3, 1, 7), (262, 3, 1, 1), (273, 4, count, first), (277, 3, 1, 1)]
    tags += [(278, 4, 1, rows), (279, 4, count, first + 4 * count)]
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    return b"II*\0" + struct.pack("<I", values) + jpeg + lists + directory


def icon_with(picture: bytes) -> bytes:
    data = encode(Image.new("RGB", (16, 16)), "ICO", sizes=[(16, 16)])
    return data[:14] + struct.pack("<I", len(picture)) + data[18:22] + picture


COSTLY = {
    "JPEG 2000, flat and large": lambda: boxed(codestream(10_900)),
    "JPEG 2000, blocks of 4 × 4": lambda: codestream(4000, block=0),
    "JPEG 2000, precincts of 2 × 2": lambda: codestream(1000, precinct=1),
    "JPEG 2000, layers": lambda: codestream(2000, layers=65_535, precinct=7),
    "JPEG 2000, small blocks in one tile's header": lambda: codestream(4000, tile_header=style_segment(block=0)),
    "JPEG 2000, tiles": lambda: codestream(2040, tile=8),
    "JPEG 2000, bytes": lambda: codestream(500, packets=18 * 2**20),
    "JPEG 2000, behind a box of 64-bit length": lambda: boxed(codestream(64)).replace(
        box(b"jp2c", codestream(64)), struct.pack(">I4sQ", 1, b"jp2c", 16 + len(codestream(10_900))) + codestream(10_900)
    ),
    "PNG, 16 bits, interlaced": lambda: png_header(10_900, 16, 6, 1),
    "WebP": lambda: (
        b"RIFF"
        + struct.pack("<I", 22)
        + b"WEBPVP8L"
        + struct.pack("<I", 10)
        + b"\x2f"
        + struct.pack("<I", 11_000 - 1 | 10_900 - 1 << 14)
        + bytes(5)
    ),
    "TIFF, strips of one JPEG of many scans": lambda: strips_of_one_jpeg(10_000, 400, 60),
    "icon, JPEG 2000 inside": lambda: (
        b"icns"
        + struct.pack(">I", 16 + len(codestream(4000, block=0)))
        + b"ic09"
        + struct.pack(">I", 8 + len(codestream(4000, block=0)))
        + codestream(4000, block=0)
    ),
    "icon, PNG inside": lambda: icon_with(png_header(10_000, 8, 6)),
}


@pytest.mark.parametrize("kind", COSTLY)
def test_a_costly_file_is_refused_before_a_decoder_starts(monkeypatch, kind):
    data = COSTLY[kind]()
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("decoded"))
    with pytest.raises(ImageError) as caught:
        load_photo(data)
    sentence = str(caught.value)
    assert sentence.endswith(".") and "damaged" not in sentence
    assert any(words in sentence for words in ("too long or too much memory", "very many scans", "holds a large picture"))


HONEST = {
    "JPEG 2000": lambda: encode(noise(400), "JPEG2000"),
    "JPEG 2000, bare": lambda: encode(noise(400), "JPEG2000", no_jp2=True),
    "JPEG 2000, tiled, layered": lambda: encode(
        noise(600), "JPEG2000", tile_size=(256, 256), quality_mode="rates", quality_layers=[80, 40, 20, 10], irreversible=True
    ),
    "JPEG 2000, small precincts": lambda: encode(noise(300), "JPEG2000", precinct_size=(128, 128), codeblock_size=(32, 32)),
    "JPEG 2000, by hand": lambda: codestream(64),
    "TIFF, JPEG inside": lambda: encode(noise(600), "TIFF", compression="jpeg"),
    "TIFF, bilevel": lambda: encode(noise(600).convert("1"), "TIFF", compression="group4"),
    "icon": lambda: encode(noise(256), "ICO"),
    "Apple icon": lambda: encode(Image.new("RGB", (128, 128)), "ICNS"),
}


@pytest.mark.parametrize("kind", HONEST)
def test_an_honest_file_is_read(kind):
    assert load_photo(HONEST[kind]()).pixels.size


def test_a_photograph_of_24_megapixels_and_six_megabytes_is_accepted():
    estimate = cost(codestream(4900, packets=5_800_000), 0)
    assert 3 < estimate.seconds < MAX_SECONDS and estimate.memory < MAX_MEMORY / 3


def test_every_common_format_of_80_megapixels_is_accepted():
    for format in ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP"):
        image = Image.new("RGBA", (1, 1))
        image._size, image.format = (9000, 8888), format
        assert excess(image, b"") is None


def test_a_conversion_of_colours_counts():
    image = Image.new("RGB", (1, 1))
    image._size, image.format = (10_900, 10_900), "PNG"
    assert excess(image, b"") is None
    image.info["icc_profile"] = b"some"
    assert "too long" in excess(image, b"")
    image.format = "JPEG"  # decoded faster, so that there is time for the profile
    assert excess(image, b"") is None


# A full tile of 8 × 8, one resolution: one precinct and, in blocks of 4 × 4, four blocks. With one level more: the low band
# of 4 × 4 is one block, the three high bands are one block each, and each resolution is one precinct.
@pytest.mark.parametrize("levels, expected", [(0, (1, 4)), (1, (2, 4))])
def test_precincts_and_blocks_by_hand(levels, expected):
    size, styles = jpeg2000._headers(codestream(8, block=0, levels=levels), 0)
    assert jpeg2000._cells(styles[0], size) == expected


def test_precincts_bound_the_blocks_by_hand():
    # 16 × 16 in precincts of 4 × 4: 16 of them at the full resolution, whose bands of 8 × 8 fall into blocks of 2 × 2;
    # the low resolution of 8 × 8 has 4 precincts of one block each.
    size, styles = jpeg2000._headers(codestream(16, levels=1, precinct=2), 0)
    assert jpeg2000._cells(styles[0], size) == (16 + 4, 3 * 16 + 4)


STREAM = codestream(64)
CONTRADICTIONS = {
    "a marker that is none": STREAM[:2] + segment(0xFF51, STREAM[6:51]) + segment(0xFF30, b"") + STREAM[51:],
    "no coding style": STREAM.replace(style_segment(), b""),
    "five components": codestream(64, components=5),
    "a tile of no width": STREAM[:24] + bytes(4) + STREAM[28:],
    "40 levels": STREAM.replace(style_segment(), style_segment(levels=40)),
    "a tile part shorter than its header": STREAM.replace(b"\xff\x90\0\x0a\0\0" + STREAM[-25:-25], b"\xff\x90\0\x0a\0\0", 1).replace(
        struct.pack(">I", 14 + 18), struct.pack(">I", 7)
    ),
    "no codestream in the boxes": boxed(STREAM).replace(b"jp2c", b"free"),
}


@pytest.mark.parametrize("kind", CONTRADICTIONS)
def test_headers_that_two_readers_could_understand_differently_are_refused(kind):
    data = CONTRADICTIONS[kind]
    with pytest.raises(MalformedHeader):
        cost(data, jpeg2000.codestream_start(data))
    with pytest.raises(ImageError):
        load_photo(data)


def test_no_bytes_make_the_estimate_fail():
    generator = np.random.default_rng(2)
    sound = boxed(codestream(64, tile=16, precinct=5, layers=3))
    for _ in range(3000):
        data = bytearray(sound[: generator.integers(12, len(sound) + 1)])
        for place in generator.integers(0, len(data), 4):
            data[place] = generator.integers(0, 256)
        try:
            assert cost(bytes(data), jpeg2000.codestream_start(bytes(data))).seconds >= 0
        except MalformedHeader:
            pass


# --- what decoders write -----------------------------------------------------------------------------------------------

QUIET = """
import sys
from detector.data.images import ImageError, load_photo
for path in sys.argv[1:]:
    try:
        load_photo(path)
    except ImageError as error:
        print(error)
"""


def test_decoders_write_nothing_to_the_error_stream(tmp_path):
    icon = icon_with(encode(Image.new("RGB", (20, 20)), "PNG"))  # Pillow warns: not the expected size
    jpeg_in_tiff = encode(noise(300), "TIFF", compression="jpeg")
    broken = jpeg_in_tiff.replace(b"\xff\xc4", b"\xff\x01")  # libtiff complains: tables are missing
    lzw = bytearray(encode(noise(300), "TIFF", compression="tiff_lzw"))
    lzw[100:4000] = bytes(3900)
    for name, data in {"a.ico": icon, "b.tif": broken, "c.tif": bytes(lzw), "d.tif": jpeg_in_tiff[:-3000]}.items():
        (tmp_path / name).write_bytes(data)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-c", QUIET, *map(str, sorted(tmp_path.iterdir()))]
    done = subprocess.run(command, capture_output=True, env=environment, timeout=120)
    assert done.returncode == 0 and done.stderr == b""
    assert done.stdout.count(b"damaged") >= 2


PEAK = """
import sys
from detector.data.images import load_photo
photo = load_photo(sys.argv[1])
highest = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(photo.width * photo.height, highest * 1024)
"""


def pixels_and_peak(path: Path) -> tuple[int, int]:
    """Pixels of the photo and the highest resident memory of a process that reads it, in bytes."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", PEAK, str(path)], capture_output=True, env=environment, timeout=120, check=True)
    pixels, peak = done.stdout.split()
    return int(pixels), int(peak)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's own count of memory")
@pytest.mark.parametrize(
    "format, mode", [("WEBP", "RGB"), ("WEBP", "RGBA"), ("JPEG", "RGB"), ("PNG", "RGBA"), ("TIFF", "F"), ("JPEG2000", "RGB")]
)
def test_the_memory_estimate_holds(tmp_path, format, mode):
    options = {"lossless": True, "exact": True} if format == "WEBP" else {}
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(encode(Image.new(mode, (16, 16), 1), format, **options))
    large.write_bytes(encode(Image.new(mode, (3000, 3000), 1), format, **options))
    data = large.read_bytes()
    expected = jpeg2000.cost(data, jpeg2000.codestream_start(data)) if format == "JPEG2000" else estimate(Image.open(large), len(data))
    (_, base), (pixels, peak) = pixels_and_peak(small), pixels_and_peak(large)
    assert pixels == 3000 * 3000 and 0.7 * expected.memory < peak - base < 1.05 * expected.memory
