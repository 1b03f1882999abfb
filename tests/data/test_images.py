"""`detector.data.images`: every kind of good and bad input, with values worked out by hand. All files are made here."""

import io
import os
import random
import re
import struct
import subprocess
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from paths import ROOT
from PIL import EpsImagePlugin, ExifTags, Image, ImageCms, ImageFile, PngImagePlugin

from detector.data import c2pa, facts, images
from detector.data.images import MAX_BYTES, MAX_PIXELS, FileFacts, ImageError, Photo, load_photo

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


# --- the photo and its facts ---------------------------------------------------------------------------------------


def test_a_png_file_gives_its_pixels_and_its_facts(tmp_path):
    path = tmp_path / "grid.png"
    Image.fromarray(GRID).save(path)
    photo = load_photo(path)
    assert photo.facts == FileFacts("PNG", path.stat().st_size, "L", 3, 2, 1, 1, None, None, False, False)
    assert (photo.width, photo.height, photo.name) == (3, 2, "grid.png")
    np.testing.assert_array_equal(photo.pixels, np.dstack([GRID] * 3))


def test_path_string_bytes_and_pillow_image_agree(tmp_path):
    path = tmp_path / "photo.png"
    noise().save(path)
    with Image.open(path) as opened:
        photos = [load_photo(source) for source in (path, str(path), path.read_bytes(), opened)]
    assert all(np.array_equal(photo.pixels, np.asarray(noise())) for photo in photos)
    assert [photo.name for photo in photos] == ["photo.png", "photo.png", None, "photo.png"]
    assert photos[2].facts == photos[0].facts
    assert (photos[3].facts.format, photos[3].facts.size_bytes) == ("PNG", None)


@pytest.mark.parametrize("source", [GRID, encode(noise(), "JPEG", exif=exif_with(6)), Image.new("RGBA", (4, 5))])
def test_pixels_are_contiguous_rgb_and_write_protected(source):
    photo = load_photo(source)
    assert photo.pixels.dtype == np.uint8 and photo.pixels.shape == (photo.height, photo.width, 3)
    assert photo.pixels.flags.c_contiguous
    with pytest.raises(ValueError):
        photo.pixels[0, 0] = 0
    with pytest.raises(AttributeError):
        photo.name = "another"


def test_photos_are_compared_by_identity():
    photo = load_photo(GRID)
    assert photo == photo and photo != load_photo(GRID) and isinstance(photo, Photo)


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "PPM", "TGA", "PCX", "QOI", "SGI", "IM", "DDS"])
def test_lossless_formats_come_through_unchanged(format):
    photo = load_photo(encode(noise(), format))
    assert photo.facts.format == format
    np.testing.assert_array_equal(photo.pixels, np.asarray(noise()))


@pytest.mark.parametrize("format", ["WEBP", "AVIF", "JPEG", "JPEG2000", "GIF"])
def test_the_other_formats_come_through(format):
    photo = load_photo(encode(Image.new("RGB", (20, 20), (90, 90, 90)), format))
    assert (photo.facts.format, photo.facts.mode) == (format, "P" if format == "GIF" else "RGB")
    assert np.abs(photo.pixels.astype(int) - 90).max() <= 2


def test_the_content_decides_and_not_the_extension(tmp_path):
    path = tmp_path / "wrong.jpg"
    path.write_bytes(encode(Image.new("RGB", (2, 2), RED), "PNG"))
    assert load_photo(path).facts.format == "PNG" and first_pixel(path) == RED


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "AVIF"])
def test_one_single_pixel_is_an_image(format):
    photo = load_photo(encode(Image.new("RGB", (1, 1), WHITE), format))
    assert photo.pixels.tolist() == [[[255, 255, 255]]]


# --- orientation ---------------------------------------------------------------------------------------------------

TURNED = {
    1: [[0, 40, 80], [120, 160, 200]],
    2: [[80, 40, 0], [200, 160, 120]],
    3: [[200, 160, 120], [80, 40, 0]],
    4: [[120, 160, 200], [0, 40, 80]],
    5: [[0, 120], [40, 160], [80, 200]],
    6: [[120, 0], [160, 40], [200, 80]],
    7: [[200, 80], [160, 40], [120, 0]],
    8: [[80, 200], [40, 160], [0, 120]],
}


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
def test_orientation_is_applied_and_reported(format, orientation):
    options = {"lossless": True} if format == "WEBP" else {}
    data = encode(Image.fromarray(GRID).convert("RGB"), format, exif=exif_with(orientation), **options)
    for source in (data, Image.open(io.BytesIO(data))):
        photo = load_photo(source)
        assert photo.pixels[..., 0].tolist() == TURNED[orientation]
        facts = photo.facts
        assert (facts.orientation, facts.stored_width, facts.stored_height) == (orientation, 3, 2)


def test_top_left_corner_of_a_jpeg_with_orientation_six_lands_top_right():
    image = Image.new("RGB", (32, 16))
    image.paste(RED, (0, 0, 16, 16))
    photo = load_photo(encode(image, "JPEG", quality=95, exif=exif_with(6)))
    assert (photo.width, photo.height) == (16, 32)
    assert photo.pixels[1, 14, 0] > 240 and photo.pixels[30, 14, 0] < 15


def test_orientation_set_on_a_pillow_image_is_applied_and_the_image_stays_as_it_was():
    image = Image.fromarray(GRID)
    image.getexif()[ExifTags.Base.Orientation] = 6
    assert load_photo(image).pixels[..., 0].tolist() == TURNED[6]
    assert np.array_equal(np.asarray(image), GRID) and image.getexif()[ExifTags.Base.Orientation] == 6


BROKEN_EXIF = [b"", b"Exif\0\0", b"nonsense", b"II*\0\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff"]
BROKEN_EXIF += [b"MM\0*\0\0\0\x08\0\1\x01\x12", *(exif_with(value).tobytes()[6:] for value in (0, 9, 65535))]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("exif", BROKEN_EXIF)
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_broken_exif_never_costs_the_image(format, exif):
    marked = b"Exif\0\0" + exif if format == "JPEG" else exif
    photo = load_photo(encode(Image.new("RGB", (3, 2), WHITE), format, exif=marked))
    assert photo.facts.orientation == 1 and photo.pixels.min() > 250


@pytest.mark.filterwarnings("ignore")
def test_tiff_with_a_dangling_exif_pointer_is_read():
    data = encode(Image.fromarray(GRID), "TIFF", exif=exif_with(6))
    orientation = struct.pack("<HHII", 274, 3, 1, 6)
    assert data.count(orientation) == 1
    broken = load_photo(data.replace(orientation, struct.pack("<HHII", 34665, 4, 1, 2**31)))
    assert broken.pixels[..., 0].tolist() == TURNED[1] and broken.facts.has_exif


# --- modes ---------------------------------------------------------------------------------------------------------


def palette_image(transparency=None) -> Image.Image:
    image = Image.new("P", (1, 1), 1)
    image.putpalette([9, 9, 9, 0, 0, 0])
    if transparency is not None:
        image.info["transparency"] = transparency
    return image


def with_alpha_128(mode: str) -> Image.Image:
    image = palette_image().convert("PA") if mode == "PA" else Image.new(mode, (1, 1))
    image.putalpha(128)
    return image


def rgba_palette() -> Image.Image:
    image = Image.new("P", (1, 1), 1)
    image.putpalette([9, 9, 9, 9, 0, 0, 0, 128], "RGBA")
    return image


BLACK_AT_ALPHA_128 = {
    "RGBA": with_alpha_128("RGBA"),
    "LA": with_alpha_128("LA"),
    "PA": with_alpha_128("PA"),
    "RGBa": with_alpha_128("RGBA").convert("RGBa"),
    "La": with_alpha_128("LA").convert("La"),
    "P": palette_image(bytes([0, 128])),
    "P, RGBA palette": rgba_palette(),
    "file": encode(with_alpha_128("RGBA"), "PNG"),
    "palette file": encode(palette_image(bytes([0, 128])), "PNG"),
    "array": np.array([[[0, 0, 0, 128]]], dtype=np.uint8),
}


@pytest.mark.parametrize("kind", BLACK_AT_ALPHA_128)
def test_black_at_alpha_128_over_white_is_127(kind):
    # 0 · 128/255 + 255 · 127/255 = 127
    assert first_pixel(BLACK_AT_ALPHA_128[kind]) in {(127,) * 3, (128,) * 3}


@pytest.mark.parametrize("colour, transparent, depth", [(0, b"\0\7", 8), (2, b"\0\7\0\7\0\7", 8)])
def test_the_one_transparent_colour_of_a_png_becomes_white(colour, transparent, depth):
    channels = 3 if colour == 2 else 1
    data = png(2, 1, depth, colour, b"\0" + b"\7" * channels + b"\x08" * channels, chunk(b"tRNS", transparent))
    assert load_photo(data).pixels.tolist() == [[[255] * 3, [8] * 3]]


def test_transparent_colour_of_a_16_bit_png_does_no_harm():
    data = png(1, 1, 16, 2, b"\0" + b"\x80\x80" * 3, chunk(b"tRNS", b"\xff\xff" * 3))
    assert first_pixel(data) == (128, 128, 128)


@pytest.mark.parametrize(
    "mode, value, expected",
    [
        ("1", 1, WHITE),
        ("1", 0, (0, 0, 0)),
        ("L", 77, (77, 77, 77)),
        ("RGBX", (1, 2, 3, 4), (1, 2, 3)),
        ("CMYK", (0, 255, 255, 0), RED),
        ("CMYK", (0, 0, 0, 255), (0, 0, 0)),
        ("YCbCr", (130, 128, 128), (130, 130, 130)),
        ("HSV", (0, 255, 255), RED),
        ("LAB", (255, 128, 128), WHITE),
        ("LAB", (0, 128, 128), (0, 0, 0)),
        ("LAB", (138, 209, 198), RED),  # CIE Lab of sRGB red under D50: 54.3, 80.8, 69.9
    ],
)
def test_each_colour_model_becomes_rgb(mode, value, expected):
    photo = load_photo(Image.new(mode, (2, 2), value))
    assert photo.facts.mode == mode and photo.facts.format is None
    tolerance = 5 if mode == "LAB" else 0
    assert np.abs(photo.pixels.astype(int) - expected).max() <= tolerance


def test_palette_and_one_bit_files():
    assert first_pixel(encode(palette_image(), "PNG")) == (0, 0, 0)
    one_bit = load_photo(png(8, 1, 1, 0, b"\0\xaa"))
    assert one_bit.facts.mode == "1" and one_bit.pixels[0, :, 0].tolist() == [255, 0] * 4


def test_cmyk_jpeg_is_not_inverted():
    data = encode(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=100)
    assert b"Adobe" in data and np.abs(np.subtract(first_pixel(data), RED)).max() <= 3
    assert load_photo(data).facts.mode == "CMYK"


def test_ycck_jpeg_is_converted():
    # Pillow stores 255 − value: Y 0, Cb 128, Cr 128, K 255. That is RGB 0 inverted by Adobe's rule, no ink: white.
    data = bytearray(encode(Image.new("CMYK", (16, 16), (255, 127, 127, 0)), "JPEG", quality=100))
    transform = data.index(b"Adobe") + 11
    assert data[transform] == 0
    data[transform] = 2
    assert min(first_pixel(bytes(data))) >= 252


@pytest.mark.parametrize("value, expected", [(65535, 255), (32896, 128), (129, 1), (128, 0), (300, 1), (0, 0)])
def test_sixteen_bits_are_divided_by_257_and_rounded(value, expected):
    image = Image.fromarray(np.full((2, 2), value, dtype=np.uint16))
    big_endian = Image.new("I;16B", (2, 2), value)
    sources = [image, big_endian, encode(image, "PNG"), encode(image, "TIFF")]
    sources.append(b"P5 1 1 65535\n" + struct.pack(">H", value))  # Pillow's mode is "I" here
    assert [first_pixel(source) for source in sources] == [(expected,) * 3] * 5


def test_sixteen_bit_colour_png():
    data = png(2, 1, 16, 2, b"\0" + struct.pack(">6H", 65535, 32896, 0, 257, 514, 771))
    assert load_photo(data).pixels.tolist() == [[[255, 128, 0], [1, 2, 3]]]


@pytest.mark.parametrize(
    "kind, values, expected",
    [
        (np.int32, [0, 100, 255], [0, 100, 255]),  # inside 0..255: as it is
        (np.int32, [0, 500, 1000], [0, 128, 255]),  # stretched; 127.5 rounds to the even 128
        (np.int32, [-100, 0, 100], [0, 128, 255]),
        (np.int32, [-(2**31), 0, 2**31 - 1], [0, 128, 255]),
        (np.int32, [70_000] * 3, [255] * 3),  # no range to stretch: clipped
        (np.int32, [-7] * 3, [0] * 3),
        (np.float32, [0.0, 99.6, 255.0], [0, 100, 255]),
        (np.float32, [0.0, 0.2, 1.0], [0, 51, 255]),
        (np.float32, [0.0, 256.0, 512.0], [0, 128, 255]),
        (np.float32, [-3e38, 0.0, 3e38], [0, 128, 255]),
        (np.float32, [1e-45, 1e-45, 1e-45], [0] * 3),
    ],
)
def test_integer_and_float_grey(kind, values, expected):
    image = Image.fromarray(np.array([values], dtype=kind))
    for source in (image, encode(image, "TIFF")):
        photo = load_photo(source)
        assert photo.facts.mode == ("I" if kind is np.int32 else "F")
        assert photo.pixels[0, :, 1].tolist() == expected


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_float_image_with_values_that_are_no_numbers_is_refused(value):
    array = np.array([[0.5, value]], dtype=np.float32)
    for source in (array, Image.fromarray(array), encode(Image.fromarray(array), "TIFF")):
        assert "not finite" in refusal(source)


# --- colour profiles -----------------------------------------------------------------------------------------------

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
UNNAMED = SRGB.replace("sRGB".encode("utf-16-be"), "test".encode("utf-16-be"))
SWAPPED = UNNAMED.replace(b"rXYZ", b"temp").replace(b"bXYZ", b"rXYZ").replace(b"temp", b"bXYZ")  # red means blue


@pytest.mark.parametrize("mode, pixel", [("RGB", RED), ("RGBA", (*RED, 255))])
def test_a_profile_that_swaps_red_and_blue_is_honoured(mode, pixel):
    data = encode(Image.new(mode, (4, 4), pixel), "PNG", icc_profile=SWAPPED)
    assert np.abs(np.subtract(first_pixel(data), (0, 0, 255))).max() <= 2


@pytest.mark.parametrize("profile", [SRGB, b"broken", SWAPPED[:200], b"\0" * 600, SRGB.replace(b"RGB ", b"GRAY")])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_profile_that_is_srgb_broken_or_foreign_changes_nothing(profile, mode):
    image = noise().convert(mode)
    with_profile, without = (load_photo(encode(image, "TIFF", icc_profile=icc)) for icc in (profile, None))
    np.testing.assert_array_equal(with_profile.pixels, without.pixels)


def test_a_profile_with_a_chain_of_elements_is_ignored():
    tags = int.from_bytes(SWAPPED[128:132], "big")
    profile = bytearray(SWAPPED)
    assert tags > 5 and first_pixel(encode(Image.new("RGB", (4, 4), RED), "PNG", icc_profile=bytes(profile))) != RED
    place = SWAPPED.index(b"cprt", 132)
    content = int.from_bytes(SWAPPED[place + 4 : place + 8], "big")
    profile[content : content + 4] = b"mpet"  # in the place of the copyright's type: the rest stays as it is
    assert first_pixel(encode(Image.new("RGB", (4, 4), RED), "PNG", icc_profile=bytes(profile))) == RED


@pytest.mark.parametrize("mode, profile, converted", [("RGB", SRGB, []), ("L", UNNAMED, ["RGB"]), ("CMYK", UNNAMED, ["CMYK"])])
def test_where_a_profile_is_applied(monkeypatch, mode, profile, converted):
    seen = []

    def convert(image, *profiles, outputMode):
        seen.append(image.mode)
        return Image.new(outputMode, image.size, RED)

    monkeypatch.setattr(ImageCms, "profileToProfile", convert)
    pixel = first_pixel(encode(Image.new(mode, (4, 4)), "TIFF", icc_profile=profile))
    assert seen == converted and (pixel == RED) == bool(converted)


# --- frames --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "TIFF", "MPO", "AVIF"])
def test_of_several_frames_the_first_is_shown_and_all_are_counted(format):
    first, *others = [Image.new("RGB", (16, 16), colour) for colour in (RED, (0, 255, 0), (0, 0, 255))]
    photo = load_photo(encode(first, format, save_all=True, append_images=others))
    assert (photo.facts.format, photo.facts.frames) == (format, 3)
    assert np.abs(photo.pixels.astype(int) - RED).max() <= 8


def test_pages_are_counted_up_to_a_limit(monkeypatch):
    pages = [Image.new("L", (1, 1), value) for value in range(4)]
    data = encode(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    assert load_photo(data).facts.frames == 4
    monkeypatch.setattr(facts, "_MAX_COUNTED_PAGES", 3)
    assert load_photo(data).facts.frames == 3


def test_damage_after_the_first_frame_does_not_matter():
    frames = [noise(), Image.new("RGB", (64, 64), RED), noise(32).resize((64, 64))]
    data = encode(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    photo = load_photo(data[: len(data) - 64 * 64])
    np.testing.assert_array_equal(photo.pixels, np.asarray(noise()))


def test_a_pillow_image_is_taken_at_its_present_frame_and_stays_there():
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, WHITE, RED)]
    for format in ("TIFF", "GIF"):
        image = Image.open(io.BytesIO(encode(frames[0], format, save_all=True, append_images=frames[1:])))
        image.seek(1)
        assert first_pixel(image) == WHITE and load_photo(image).facts.frames == 3 and image.tell() == 1


# --- what a JPEG tells ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quality", [1, 2, 10, 25, 49, 50, 51, 75, 90, 95, 99, 100])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_jpeg_quality_is_recovered(quality, mode):
    assert load_photo(encode(noise().convert(mode), "JPEG", quality=quality)).facts.jpeg_quality == quality


def test_quality_of_other_tables_is_the_nearest_and_ignores_the_colour_table():
    flat = [[1] * 64, [255] * 64]
    assert load_photo(encode(noise(), "JPEG", qtables=flat)).facts.jpeg_quality == 100
    assert load_photo(encode(noise(), "JPEG", qtables=flat[::-1])).facts.jpeg_quality == 1


@pytest.mark.parametrize("option, expected", [("4:4:4", "4:4:4"), ("4:2:2", "4:2:2"), ("4:2:0", "4:2:0")])
def test_chroma_subsampling_is_reported(option, expected):
    assert load_photo(encode(noise(), "JPEG", subsampling=option)).facts.chroma_subsampling == expected


def test_facts_that_only_a_colour_jpeg_has():
    grey = load_photo(encode(noise().convert("L"), "JPEG")).facts
    other = load_photo(encode(noise(), "WEBP")).facts
    assert (grey.jpeg_quality, grey.chroma_subsampling) == (75, None)
    assert (other.jpeg_quality, other.chroma_subsampling) == (None, None)


# --- EXIF and C2PA -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_presence_of_exif(format):
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Maker"
    exif[ExifTags.IFD.Exif] = exif.get_ifd(ExifTags.IFD.Exif)
    exif[ExifTags.IFD.Exif][ExifTags.Base.ISOSpeedRatings] = 100
    assert load_photo(encode(noise(), format, exif=exif)).facts.has_exif
    assert not load_photo(encode(noise(), format)).facts.has_exif


def jumbf(label: bytes) -> bytes:
    """A JUMBF superbox as a manifest store begins: description box with type, toggles and label, then content."""
    kind = b"c2pa" if label == b"c2pa" else b"json"
    suffix = bytes.fromhex("00110010800000AA00389B71")
    return box(b"jumb", box(b"jumd", kind + suffix + b"\x03" + label + b"\0") + box(b"json", b"{}"))


def jpeg_with(marker: int, payload: bytes) -> bytes:
    data = encode(noise(), "JPEG")
    return data[:2] + struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload + data[2:]


def webp_with(kind: bytes, content: bytes) -> bytes:
    body = encode(noise(), "WEBP")[8:] + kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


C2PA_UUID = bytes.fromhex("D8FEC3D61B0E483C92975828877EC481") + bytes(4) + b"manifest\0" + bytes(8)


def c2pa_sources(label: bytes) -> dict[str, bytes]:
    store = jumbf(label)
    return {
        "JPEG": jpeg_with(0xEB, b"JP\0\1\0\0\0\1" + store),
        "WEBP": webp_with(b"C2PA", store),
        "AVIF": encode(noise(), "AVIF") + box(b"uuid", C2PA_UUID + store),
        "AVIF, to the end of the file": encode(noise(), "AVIF") + bytes(4) + box(b"uuid", C2PA_UUID + store)[4:],
        "TIFF": encode(noise(), "TIFF") + store,
    }


@pytest.mark.parametrize("kind", c2pa_sources(b"c2pa"))
def test_a_c2pa_manifest_is_noticed_and_another_box_is_not(kind):
    assert load_photo(c2pa_sources(b"c2pa")[kind]).facts.has_c2pa
    assert not load_photo(c2pa_sources(b"note")[kind]).facts.has_c2pa


@pytest.mark.parametrize("place", [slice(33, None), slice(-12, None)])  # before the pixels, after them
def test_c2pa_chunk_of_a_png(place):
    data = encode(noise(), "PNG")
    start = place.start % len(data)
    assert load_photo(data[:start] + chunk(b"caBX", jumbf(b"c2pa")) + data[start:]).facts.has_c2pa
    assert not load_photo(data[:start] + chunk(b"prIv", b"c2pa") + data[start:]).facts.has_c2pa


@pytest.mark.parametrize(
    "data",
    [
        jpeg_with(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x dcterms:provenance='self#jumbf=/c2pa/urn:uuid:c2pa'/>"),
        jpeg_with(0xFE, b"uuid of a c2pa jumb"),
        jpeg_with(0xEB, b"c2pa, but no box"),
        webp_with(b"XMP ", b"<x provenance='self#jumbf=/c2pa/urn'/>"),
        encode(noise(), "WEBP") + b"c2pa",
        encode(noise(), "TIFF") + b"\0\0\0\x64jumbc2pa",  # longer than what is left of the file
        encode(noise(), "TIFF") + b"\0\0\0\x0ajumb\0\0c2pa",  # the box ends before the word
    ],
)
def test_words_and_chance_bytes_are_not_a_manifest(data):
    assert not load_photo(data).facts.has_c2pa


def test_the_search_for_a_manifest_agrees_with_its_definition():
    pattern = re.compile(rb"(?=(.{4})(?:jumb|uuid)(.{0,72}?)c2pa)", re.DOTALL)

    def defined(data: bytes) -> bool:
        lengths = ((int.from_bytes(m[1], "big"), 12 + len(m[2]), m.start()) for m in pattern.finditer(data))
        return any(length <= 1 or upto <= length <= len(data) - start for length, upto, start in lengths)

    generator, answers = random.Random(0), []
    parts = [b"jumb", b"uuid", b"c2pa", bytes(4), b"\0\0\0\1", b"\0\0\0\x14", b"\0\0\0\x40", b"text", b"x", b"y" * 60]
    for _ in range(3000):
        data = b"".join(generator.choices(parts, k=generator.randrange(2, 12)))
        answers.append(c2pa.has_c2pa_box(data))
        assert answers[-1] == defined(data)
    assert 100 < sum(answers) < 2900


def test_fake_boxes_are_passed_in_steps_that_grow_with_the_mentions_only():
    steps = []

    class Counted(bytes):
        def find(self, *arguments):
            steps.append(arguments)
            return bytes.find(self, *arguments)

    assert not c2pa.has_c2pa_box(Counted(b"\0\0\0\x0ajumb" * 100_000 + b"c2pa"))
    assert len(steps) < 20
    steps.clear()
    assert not c2pa.has_c2pa_box(Counted(b"c2pa" * (c2pa.MAX_MENTIONS + 10)))
    assert len(steps) <= 3 * c2pa.MAX_MENTIONS + 1


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


# --- arrays and Pillow images --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "array, expected, mode",
    [
        (np.array([[7]], np.uint8), (7, 7, 7), "L"),
        (np.array([[[1, 2, 3]]], np.uint8), (1, 2, 3), "RGB"),
        (np.array([[[1, 2, 3, 255]]], np.uint8), (1, 2, 3), "RGBA"),
        (np.array([[[1, 2, 3, 0]]], np.uint8), WHITE, "RGBA"),
        (np.array([[0.2]], np.float64), (51, 51, 51), "L"),
        (np.array([[[0.0, 0.2, 1.0]]], np.float32), (0, 51, 255), "RGB"),
        (np.array([[[1.0, 0.0, 0.0, 1.0]]], np.float16), RED, "RGBA"),
    ],
)
def test_arrays(array, expected, mode):
    photo = load_photo(array)
    assert tuple(photo.pixels[0, 0].tolist()) == expected and photo.name is None
    assert photo.facts == FileFacts(None, None, mode, 1, 1, 1, 1, None, None, False, False)


def test_strided_arrays_are_read_in_their_own_order():
    array = np.asarray(noise())
    np.testing.assert_array_equal(load_photo(array[::2, ::-1]).pixels, array[::2, ::-1])


@pytest.mark.parametrize(
    "array, expected",
    [
        (np.zeros(4, np.uint8), "shape"),
        (np.zeros((3, 4, 4, 3), np.uint8), "shape"),
        (np.zeros((3, 8, 8), np.uint8), "shape"),
        (np.zeros((4, 4, 1), np.uint8), "shape"),
        (np.zeros((), np.uint8), "shape"),
        (np.zeros((0, 4), np.uint8), "no pixels"),
        (np.zeros((4, 0, 3)), "no pixels"),
        (np.zeros((4, 4), np.uint16), "uint16"),
        (np.zeros((4, 4), np.int8), "int8"),
        (np.zeros((4, 4), bool), "bool"),
        (np.zeros((4, 4), complex), "complex128"),
        (np.full((4, 4), None), "object"),
        (np.full((4, 4), 1.01), "outside 0 to 1"),
        (np.full((4, 4), -0.01), "outside 0 to 1"),
        (np.full((4, 4), 1e308), "outside 0 to 1"),
        (np.array([[0.5, np.nan]]), "not finite"),
    ],
)
def test_arrays_that_are_no_image_are_refused(array, expected):
    assert expected in refusal(array)


@pytest.mark.parametrize("make", [lambda array: array, Image.fromarray], ids=["array", "Pillow"])
def test_a_photo_does_not_change_with_its_source(make):
    array = np.zeros((4, 4, 3), np.uint8)
    photo = load_photo(make(array))
    array[:] = 255
    assert photo.pixels.max() == 0


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "I;16", "CMYK", "LAB"])
def test_a_pillow_image_is_not_changed(mode):
    image = Image.new(mode, (3, 2))
    before = (image.mode, image.size, image.tobytes(), dict(image.info))
    load_photo(image)
    assert before == (image.mode, image.size, image.tobytes(), dict(image.info))


def test_pillow_images_that_cannot_be_used():
    closed = noise()
    closed.close()
    assert "damaged" in refusal(closed)
    assert "no pixels" in refusal(Image.new("RGB", (0, 0)))


def test_palette_icon_without_its_palette_object():
    # Pillow drops the palette object of a palette PNG inside an ICNS file; its own test for transparency then fails.
    assert first_pixel(encode(Image.new("RGB", (128, 128), (200, 10, 30)).quantize(2), "ICNS")) == (200, 10, 30)


# --- many at once --------------------------------------------------------------------------------------------------


def test_threads_do_not_disturb_each_other_and_no_switch_of_pillow_is_moved():
    switches = lambda: (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))  # noqa: E731
    before = switches()
    formats = ["PNG", "JPEG", "WEBP", "TIFF", "AVIF", "BMP"]
    sources = [encode(noise(), format) for format in formats] * 8
    broken = [source[: len(source) // 2] for source in sources]

    def outcome(data: bytes):
        try:
            return load_photo(data).pixels.tobytes()
        except ImageError as error:
            return str(error)

    jobs = [data for pair in zip(sources, broken, strict=True) for data in pair]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(outcome, jobs))
    assert together == [outcome(data) for data in jobs]
    assert switches() == before
