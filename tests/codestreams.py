"""JPEG 2000 codestreams of empty packets, written by hand: Pillow's writer cannot name every parameter."""

import struct
from math import ceil

REVERSIBLE, NO_QUANTISATION = 1, 0x40


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">HH", marker, 2 + len(content)) + content


def size_segment(side: int, components: int, tile: int) -> bytes:
    return segment(0xFF51, struct.pack(">H8IH", 0, side, side, 0, 0, tile, tile, 0, 0, components) + bytes([7, 1, 1]) * components)


def style_segment(levels: int = 5, block: int = 4, layers: int = 1, precinct: int | None = None) -> bytes:
    """block: exponent of the code blocks' side, less 2; precinct: exponent of the precincts' side at every resolution."""
    sides = b"" if precinct is None else bytes([precinct | precinct << 4]) * (levels + 1)
    head = struct.pack(">BBHBBBBBB", bool(sides), 0, layers, 0, levels, block, block, 0, REVERSIBLE)
    return segment(0xFF52, head + sides)


def tile_part(number: int, body: bytes, header: bytes = b"") -> bytes:
    return struct.pack(">HHHIBB", 0xFF90, 10, number, 14 + len(header) + len(body), 0, 1) + header + b"\xff\x93" + body


def codestream(side: int, components: int = 3, tile: int | None = None, tile_header: bytes = b"", packets: int = 18, **style) -> bytes:
    levels, tile = style.get("levels", 5), tile or side
    quantisation = segment(0xFF5C, bytes([NO_QUANTISATION]) + bytes([8 << 3]) * (3 * levels + 1))
    head = b"\xff\x4f" + size_segment(side, components, tile) + style_segment(**style) + quantisation
    return head + b"".join(tile_part(i, bytes(packets), tile_header) for i in range(ceil(side / tile) ** 2)) + b"\xff\xd9"


def boxed(stream: bytes, components: int = 3) -> bytes:
    """The same as a JP2 file."""
    side = struct.unpack_from(">I", stream, 8)[0]
    header = box(b"ihdr", struct.pack(">IIHBBBB", side, side, components, 7, 7, 0, 0)) + box(b"colr", struct.pack(">BBBI", 1, 0, 0, 16))
    start = box(b"jP  ", b"\r\n\x87\n") + box(b"ftyp", b"jp2 \0\0\0\0jp2 ")
    return start + box(b"jp2h", header) + box(b"jp2c", stream)


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content
