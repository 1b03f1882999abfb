"""detector/data/images.py: what cannot be used is refused in one sentence, before it is decoded."""

import io
import os
import random
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from image_files import GRID, encode, noise, png, refusal
from paths import ROOT
from PIL import EpsImagePlugin, Image, ImageFile, PngImagePlugin

from detector.data import images
from detector.data.images import MAX_BYTES, MAX_PIXELS, ImageError, load_photo

# --- refusals ------------------------------------------------------------------------------------------------------

POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
NOT_IMAGES = {
    "empty": (b"", "empty (0 bytes)"),
    "text": (b"Dear diary, today I saw a cat.\n" * 20, "not an image"),
    "one byte": (b"\xff", "not an image"),
    "SVG": (b'\xef\xbb\xbf<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "vector drawing (SVG)"),
    "bare SVG": (b'<svg width="4" height="4"/>', "vector drawing (SVG)"),
    "SVG, UTF-16": ('<svg width="4"/>'.encode("utf-16"), "vector drawing (SVG)"),
    "HTML": (b"\n<!DOCTYPE html><html><body><svg/></body></html>", "web page"),
    "EPS": (POSTSCRIPT, "vector drawing or a document"),
    "PDF": (b"%PDF-1.7\n%stuff", "vector drawing or a document"),
    "WMF": (b"\xd7\xcd\xc6\x9a\0\0" + bytes(4) + b"\1\0\1\0" + struct.pack("<H", 72) + bytes(60), "vector drawing or"),
    "EMF": (b"\1\0\0\0" + bytes(36) + b" EMF" + bytes(60), "vector drawing or a document"),
    "HEIC": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100), "HEIC"),
    "video": (b"\0\0\x01\xb3" + bytes(60), "not an image"),
    "header of a PNG": (b"\x89PNG\r\n\x1a\n", "not an image, or its first bytes are damaged"),
}


@pytest.mark.parametrize("kind", NOT_IMAGES)
def test_what_is_no_image_gets_one_sentence(tmp_path, kind):
    content, expected = NOT_IMAGES[kind]
    path = tmp_path / "upload.png"
    path.write_bytes(content)
    sentence = refusal(path)
    assert expected in sentence and sentence.startswith("“upload.png” ") and str(tmp_path) not in sentence
    assert expected in refusal(content) and refusal(content).startswith("The file ")


def test_places_that_are_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "photo").write_bytes(b"x")
    assert "folder" in refusal(tmp_path)
    assert "not found" in refusal(tmp_path / "absent.png")
    assert "not found" in refusal(tmp_path / "photo" / "inside.png")
    assert "not an ordinary file" in refusal(tmp_path / "pipe")
    assert "could not be opened" in refusal("nul\0byte.png")
    assert "could not be opened" in refusal("data:image,png;base64," + "A" * 5000)
    assert "folder" in refusal("")


@pytest.mark.parametrize("source, expected", [(None, "missing"), (7, "neither a file nor pixels"), ([GRID], "neither")])
def test_other_types_are_refused(source, expected):
    assert expected in refusal(source)


def test_the_name_in_a_sentence_is_made_printable_and_short(tmp_path):
    path = tmp_path / "a\nb\x1b\udcff.png"
    path.write_bytes(b"")
    assert refusal(path).startswith("“a?b??.png” is empty")
    long = tmp_path / ("x" * 200 + ".png")
    long.write_bytes(b"")
    assert refusal(long).startswith("“" + "x" * 59 + "…” is empty")


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "AVIF", "JPEG2000", "PPM", "QOI"])
def test_a_truncated_file_is_refused(format, share):
    data = encode(noise(), format)
    assert "damaged" in refusal(data[: int(len(data) * share)])


def test_too_many_bytes_are_refused_before_anything_is_read(tmp_path, monkeypatch):
    path = tmp_path / "huge.html"
    path.write_bytes(b"<html>")
    os.truncate(path, MAX_BYTES + 1)  # sparse: nothing is written

    def never(*arguments, **options):
        raise AssertionError("opened")

    with monkeypatch.context() as context:
        context.setattr(Path, "open", never)
        assert "larger than 64 MiB" in refusal(path)
    assert "larger than 64 MiB" in refusal(bytes(MAX_BYTES + 1))
    monkeypatch.setattr(images, "MAX_BYTES", 6)
    assert "web page" in refusal(b"<html>")


def test_neither_eps_nor_eps_inside_iptc_reaches_ghostscript(monkeypatch):
    started = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *arguments: started.append(1) or noise().im)
    fields = [(3, 20, b"\0\x0a"), (3, 30, b"\0\x0a"), (3, 60, b"\1\0"), (3, 120, b"\5"), (8, 10, POSTSCRIPT)]
    wrapped = b"".join(bytes([0x1C, record, number, 0, len(value)]) + value for record, number, value in fields)
    for data in (POSTSCRIPT, wrapped):
        refusal(data)
    assert not started
    with Image.open(io.BytesIO(wrapped)) as opened:  # so that the test above means something
        opened.load()
    assert started


@pytest.mark.parametrize(
    "error",
    [struct.error, SyntaxError, OSError, ValueError, EOFError, zlib.error, OverflowError, KeyError, RecursionError]
    + [AttributeError, AssertionError, Image.DecompressionBombError, MemoryError],
)
def test_every_failure_of_a_decoder_becomes_one_sentence(monkeypatch, error):
    def fail(image):
        raise error("secret /path of the machine")

    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    expected = {MemoryError: "more memory", Image.DecompressionBombError: "120 million"}.get(error, "damaged")
    assert expected in refusal(encode(noise(), "BMP"))


@pytest.mark.filterwarnings("ignore")
def test_random_damage_never_raises_anything_else():
    generator = random.Random(0)
    formats = ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "AVIF", "JPEG2000", "TGA", "PCX", "ICO", "DDS", "SGI"]
    originals = [encode(noise(20), format) for format in formats]
    outcomes = {True: 0, False: 0}
    for _ in range(600):
        data = bytearray(generator.choice(originals))
        for _ in range(generator.choice([1, 5, 20])):
            data[generator.randrange(min(len(data), generator.choice([40, 4000])))] = generator.randrange(256)
        try:
            outcomes[load_photo(bytes(data)).pixels.size > 0] += 1
        except ImageError:
            outcomes[False] += 1
    assert min(outcomes.values()) > 50


# --- pixel counts --------------------------------------------------------------------------------------------------

BOMB_SCRIPT = """
import sys
from detector.data.images import ImageError, load_photo
def peak():  # KiB of address space, so that memory counts when it is asked for
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmPeak"))
try:
    load_photo(sys.argv[1])
except ImageError as error:
    before = peak()
    try:
        load_photo(sys.argv[2])
    except ImageError as second:
        print(f"{second}\\n{peak() - before}")
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's own count of memory")
def test_a_bomb_is_refused_without_the_memory_of_decoding_it(tmp_path):
    small = png(30_000, 30_000, 8, 2, b"")
    (tmp_path / "bomb.png").write_bytes(small)
    (tmp_path / "broken.png").write_bytes(encode(noise(), "PNG")[:3000])  # loads the plug-ins before it counts
    command = [sys.executable, "-c", BOMB_SCRIPT, str(tmp_path / "broken.png"), str(tmp_path / "bomb.png")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment["PYTHONIOENCODING"] = "utf-8"
    done = subprocess.run(command, capture_output=True, env=environment, timeout=120)
    sentence, growth = done.stdout.decode().splitlines()
    assert sentence.startswith("“bomb.png” has 30,000 × 30,000 pixels, more than 120 million;")
    assert int(growth) < 64 * 1024  # decoding asks for 3.6 GB
    assert done.stderr == b"" and len(small) < 100


def test_a_jpeg_that_claims_too_many_pixels_is_told_so():
    data = bytearray(encode(noise(), "JPEG", progressive=True))
    frame = data.index(b"\xff\xc2")
    data[frame + 5 : frame + 9] = b"\xff" * 4
    assert "65,535 × 65,535 pixels" in refusal(bytes(data))


def test_a_side_of_400_digits_is_not_spelt_out():
    data = b"#define a_width " + b"9" * 400 + b"\n#define a_height 8\nstatic char a_bits[] = {0x00};\n"
    sentence = refusal(data)
    assert "over a trillion × 8 pixels" in sentence and len(sentence) < 200


@pytest.mark.parametrize("size", [(30_000, 30_000), (12_001, 10_000), (2**31 - 1, 2**31 - 1)])
def test_the_pixel_count_stands_before_decoding(monkeypatch, size):
    def never(image):
        raise AssertionError("decoded")

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", never)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "more than 120 million" in refusal(png(*size, 8, 2, b""))


def test_the_limit_itself_is_allowed(monkeypatch):
    assert MAX_PIXELS == 120_000_000
    monkeypatch.setattr(images, "MAX_PIXELS", 12)
    assert load_photo(Image.new("L", (4, 3))).width == 4
    for source in (Image.new("L", (13, 1)), np.zeros((1, 13), np.uint8), encode(Image.new("L", (1, 13)), "BMP")):
        assert "pixels, more than" in refusal(source)


@pytest.mark.parametrize("side", [4, 5])  # 16 pixels would make Pillow warn, 25 would make it raise
def test_pillows_own_guard_is_not_heard(monkeypatch, side):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_photo(encode(Image.new("L", (side, side)), "PNG")).width == side
    assert Image.MAX_IMAGE_PIXELS == 10


def test_pillows_inner_limit_is_not_below_ours():
    assert Image.MAX_IMAGE_PIXELS is None or Image.MAX_IMAGE_PIXELS >= MAX_PIXELS


def test_an_icon_cannot_smuggle_a_bomb():
    data = encode(Image.new("RGB", (16, 16)), "ICO", sizes=[(16, 16)])
    bomb = png(30_000, 30_000, 8, 2, b"")
    header = bytearray(data[:22])
    header[14:18] = struct.pack("<I", len(bomb))
    assert "holds a large picture" in refusal(bytes(header) + bomb)


def test_an_icon_is_judged_by_the_picture_inside(monkeypatch):
    data = encode(Image.new("RGB", (16, 16)), "ICO", sizes=[(16, 16)])
    picture = encode(Image.new("RGB", (20, 20)), "PNG")
    data = data[:14] + struct.pack("<I", len(picture)) + data[18:22] + picture
    monkeypatch.setattr(images, "MAX_PIXELS", 16 * 16)
    with pytest.warns(UserWarning, match="expected size"):
        assert "20 × 20 pixels" in refusal(data)
