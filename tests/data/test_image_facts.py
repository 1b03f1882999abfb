"""detector/data/facts.py and c2pa.py: what a file says of itself."""

import random
import re
import struct

import pytest
from image_files import box, chunk, encode, noise
from PIL import ExifTags, Image

from detector.data import c2pa
from detector.data.images import load_photo

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
