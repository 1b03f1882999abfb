"""detector/data/images.py: formats, orientation, frames, arrays and Pillow images, threads. All files are made here."""

import io
import struct
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from image_files import GRID, RED, WHITE, encode, exif_with, first_pixel, noise, refusal
from PIL import ExifTags, Image, ImageFile

from detector.data import facts
from detector.data.images import FileFacts, ImageError, Photo, load_photo

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
