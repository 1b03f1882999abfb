"""detector/data/images.py: colour models, depths and profiles, with values worked out by hand."""

import struct

import numpy as np
import pytest
from image_files import RED, WHITE, chunk, encode, first_pixel, noise, png, refusal
from PIL import Image, ImageCms

from detector.data.images import load_photo

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
