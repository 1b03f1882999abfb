"""What a JPEG 2000 codestream asks of its decoder, read from its headers (ITU-T T.800, annexes A, B and I).

OpenJPEG builds a structure for every tile, precinct and code block before it reads a bit of them, visits every packet, and
transforms every sample even where the file holds no data for it. So a kilobyte can ask for minutes or gigabytes.

Headers are read more strictly than OpenJPEG reads them: what both could understand differently is `Nonsense`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

CODESTREAM = b"\xff\x4f\xff\x51"  # start of codestream, then the size segment
MAX_PARTS = 200_000  # tile parts, and segments of all headers together; a file may have 65,535 tiles
MAX_COMPONENTS = 4  # what Pillow decodes

# Seconds and bytes of memory that OpenJPEG 2.5.4 took for each on one core of the machine that the tests ran on, less what
# the samples of the same picture took. Codestreams of empty packets (`tests/codestreams.py`) unless another file is named.
_SAMPLE = 45e-9  # 31e-9 at 4,000 × 4,000 in colour, 38e-9 at 10,900 × 10,900, 50e-9 there in grey
_BYTE = 0.28 / 2**20  # 0.25 per MiB, lossy and lossless, of noise and of photograph-like pictures of 24 megapixels
_BLOCK = 2e-6  # 4,000 × 4,000 in blocks of 4 × 4, three million: 5 s
_PRECINCT = 7e-6  # 1,000 × 1,000, precincts of 4 × 4 (250,000): 1.7 s; of 2 × 2 (a million): 6 to 8 s
_PACKET = 0.5e-6  # 65,535 layers of 1,056 precincts: 34 s
_TILE = 15e-6  # 65,025 tiles of one resolution: 0.9 s
_PIXEL_BYTES, _SAMPLE_BYTES = 8, 4  # 10,900 × 10,900: 1.3 GB in grey, 2.3 GB in colour
_BLOCK_BYTES, _PRECINCT_BYTES, _TILE_BYTES, _PACKET_BYTES = 450, 1_700, 13_000, 2

_SIZE, _STYLE, _COMPONENT_STYLE, _TILE_PART, _DATA, _END = 0x51, 0x52, 0x53, 0x90, 0x93, 0xD9
_SEGMENTS = {0x50, 0x52, 0x53, 0x55, 0x57, 0x58, 0x59, 0x5C, 0x5D, 0x5E, 0x5F, 0x60, 0x61, 0x63, 0x64, 0x74, 0x75, 0x77, 0x78}


class MalformedHeader(ValueError):
    """The headers contradict the standard, or themselves."""


@dataclass(frozen=True)
class Cost:
    """What reading a picture takes: seconds on one core, and bytes of memory at the peak."""

    seconds: float
    memory: float


@dataclass(frozen=True)
class _Size:
    """The size segment: pixels of the picture and of a full tile, and how many tiles and components there are."""

    width: int
    height: int
    tile_width: int
    tile_height: int
    tiles: int
    components: int


@dataclass(frozen=True)
class _CodingStyle:
    """How a component is cut: times the resolution is halved, and exponents of block and precinct sides."""

    layers: int
    levels: int
    block: tuple[int, int]
    precincts: tuple[tuple[int, int], ...]  # one for each resolution, smallest first; (15, 15) where not given


def codestream_start(data: bytes) -> int:
    """Where the codestream starts in a bare one or in the boxes of a JP2 file. Raises `Nonsense` where there is none."""
    if data.startswith(CODESTREAM):
        return 0
    position = 0
    while position + 16 <= len(data):
        length, kind, long = struct.unpack_from(">I4sQ", data, position)
        header, length = (16, long) if length == 1 else (8, length or len(data) - position)
        if kind == b"jp2c":
            return position + header
        if length < header:
            break
        position += length
    raise MalformedHeader("no codestream")


def cost(data: bytes, start: int) -> Cost:
    """Of the codestream at `start`; every component of every tile counts as the costliest coding style that is named."""
    if data[start : start + 4] != CODESTREAM:
        raise MalformedHeader("no size segment")
    size, styles = _headers(data, start)
    layers = max(style.layers for style in styles)
    counts = [_cells(style, size) for style in styles]
    precincts, blocks = (max(column) * size.components * size.tiles for column in zip(*counts, strict=True))
    pixels, packets = size.width * size.height, precincts * layers
    samples = pixels * size.components
    seconds = samples * _SAMPLE + (len(data) - start) * _BYTE + blocks * _BLOCK
    seconds += precincts * _PRECINCT + packets * _PACKET + size.tiles * _TILE
    memory = pixels * _PIXEL_BYTES + samples * _SAMPLE_BYTES + blocks * _BLOCK_BYTES
    memory += len(data) + precincts * _PRECINCT_BYTES + packets * _PACKET_BYTES + size.tiles * _TILE_BYTES
    return Cost(seconds, memory)


def _cells(style: _CodingStyle, size: _Size) -> tuple[int, int]:
    """(precincts, code blocks) of one component in one full tile."""
    precincts = blocks = 0
    for resolution in range(style.levels + 1):
        halvings = style.levels - resolution
        across, down = style.precincts[resolution]
        precincts += _grid(size, halvings, across, down)
        inner = resolution > 0  # three bands of half the side each, so that a precinct is half as wide in them
        sides = (min(side, max(0, precinct - inner)) for side, precinct in zip(style.block, (across, down), strict=True))
        blocks += (3 if inner else 1) * _grid(size, halvings + inner, *sides)
    return precincts, blocks


def _grid(size: _Size, halvings: int, across: int, down: int) -> int:
    """How many cells of 2^across × 2^down cover a tile at a resolution."""
    return ceil(size.tile_width / 2 ** (halvings + across)) * ceil(size.tile_height / 2 ** (halvings + down))


# --- headers -------------------------------------------------------------------------------------------------------


def _headers(data: bytes, start: int) -> tuple[_Size, list[_CodingStyle]]:
    size, layers, styles = None, 1, []
    for marker, content in _segments(data, start + 2):
        try:
            if marker == _SIZE:
                size = _size(content)
            elif marker == _STYLE:
                layers = max(1, struct.unpack_from(">H", content, 2)[0])
                styles.append(_style(content[5:], layers, bool(content[0] & 1)))
            elif marker == _COMPONENT_STYLE and size:
                content = content[1 if size.components < 257 else 2 :]
                styles.append(_style(content[1:], layers, bool(content[0] & 1)))
        except (struct.error, IndexError) as error:
            raise MalformedHeader("a segment is cut off") from error
    if size is None or not styles:
        raise MalformedHeader("no coding style")
    return size, styles


def _segments(data: bytes, position: int) -> Iterator[tuple[int, bytes]]:
    """(second byte of the marker, content) of the segments in the main header and in those of all tile parts."""
    part, first = 0, position
    for _ in range(MAX_PARTS):
        if position + 4 > len(data) or data[position : position + 2] == bytes([0xFF, _END]):
            return
        start, marker, length = struct.unpack_from(">BBH", data, position)
        if start == 0xFF and marker == _DATA and part:
            position = part
        elif start == 0xFF and marker == _TILE_PART and position + 12 <= len(data):
            length = struct.unpack_from(">I", data, position + 6)[0]
            if length and length < 12:
                raise MalformedHeader("a tile part shorter than its header")
            part, position = position + length if length else len(data), position + 12
        elif start == 0xFF and length >= 2 and (marker in _SEGMENTS or marker == _SIZE and position == first):
            yield marker, data[position + 4 : position + 2 + length]
            position += 2 + length
        elif part and position == part:
            return  # behind the last tile part OpenJPEG, too, reads no further
        else:
            raise MalformedHeader("bytes between the segments")
    raise MalformedHeader("too many parts")


def _size(content: bytes) -> _Size:
    right, bottom, left, top, tile_width, tile_height, tile_left, tile_top, components = struct.unpack_from(">8IH", content, 2)
    width, height = right - left, bottom - top
    if min(width, height, tile_width, tile_height) < 1 or not 1 <= components <= MAX_COMPONENTS:
        raise MalformedHeader("sizes or components that no decoder takes")
    tiles = ceil((right - tile_left) / tile_width) * ceil((bottom - tile_top) / tile_height)
    return _Size(width, height, min(tile_width, width), min(tile_height, height), max(1, tiles), components)


def _style(content: bytes, layers: int, with_precincts: bool) -> _CodingStyle:
    levels = content[0]
    if levels > 32:
        raise MalformedHeader("more than 33 resolutions")
    block = (content[1] & 15) + 2, (content[2] & 15) + 2
    sides = content[5 : 6 + levels] if with_precincts else b"\xff" * (levels + 1)
    if len(sides) <= levels:
        raise MalformedHeader("precincts are missing")
    return _CodingStyle(layers, levels, block, tuple((side & 15, side >> 4) for side in sides))
