"""Files that are small to send and long to read: recognised by a scan of their bytes, before any decoder sees them.

A container may hold millions of empty pieces, comments that a parser joins one by one, or tags that claim the same
megabytes a thousand times. Within `MAX_BYTES` and `MAX_PIXELS` such files kept Pillow's parsers busy for minutes to hours, or
took gigabytes. The limits here are ours, each far above what cameras and programs write.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

MAX_PIECES = 50_000  # chunks, segments or filler bytes; 64 MiB in pieces of 4 KiB are 16,384. Pillow: about 4 µs each
MAX_PROFILES = 8  # a PNG has one; each may unpack to a megabyte
MAX_COMMENT_BYTES = 2**16  # of a GIF; the time that Pillow needs grows with the square
MAX_BLOCKS = 600_000  # of a GIF, at most 255 bytes each: 64 MiB of full ones are 263,000
MAX_FRAMES = 10_000  # of a GIF
MAX_TAGS = 100_000  # of all directories of a TIFF or EXIF block
MAX_STRIPS = 100_000  # of one page of a TIFF; each costs a call
MAX_DIRECTORIES = 100  # EXIF headers in one AVIF
SLOW_BYTES = 2 * 2**20  # for what Pillow decodes in Python, byte by byte, and for EXIF, which it joins piece by piece

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}  # bytes of a tag's type
_DIRECTORY_TAGS = {34665, 34853, 40965}  # values that are the places of EXIF, GPS and interoperability directories
_STRIP_TAGS = {273, 324}
_TIFF_START = re.compile(rb"II[*+]\0|MM\0[*+]")
_NETPBM = re.compile(rb"P(\w{1,5})((?:(?:\s|#[^\r\n]*[\r\n])+[^\s#]{1,10}){2,3})")
_BARE_MARKERS = {0x01, *range(0xD0, 0xDA)}  # JPEG: markers without a length


def costly_content(data: bytes) -> str | None:
    """Content of a file that would keep a decoder busy for minutes or fill the memory, in words such as "more than 50,000 chunks".

    None where there is no such content.
    """
    for start, check in ((b"\x89PNG", _png), (b"GIF8", _gif), (b"\xff\xd8\xff", _jpeg), (b"BM", _bitmap), (b"P", _netpbm)):
        if data.startswith(start) and (complaint := check(data)):
            return complaint
    if data.startswith((b"II", b"MM")):
        return costly_tags(data)
    return _box_tags(data) if data[4:8] == b"ftyp" else None


# --- PNG -----------------------------------------------------------------------------------------------------------


def _png(data: bytes) -> str | None:
    position, profiles = 8, 0
    for _ in range(MAX_PIECES):
        if position + 8 > len(data):
            return None
        length, kind = struct.unpack_from(">I4s", data, position)
        profiles += kind == b"iCCP"
        if profiles > MAX_PROFILES:
            return f"more than {MAX_PROFILES} colour profiles"
        position += 12 + length
    return f"more than {MAX_PIECES:,} chunks"


# --- GIF -----------------------------------------------------------------------------------------------------------


def _gif(data: bytes) -> str | None:
    blocks = comments = frames = 0
    for kind, lengths in _gif_parts(data):
        blocks += len(lengths) + 1
        frames += kind == "frame"
        comments += sum(lengths) + 1 if kind == "comment" else 0
        if comments > MAX_COMMENT_BYTES:
            return f"more than {MAX_COMMENT_BYTES // 1024} KiB of comments"
        if frames > MAX_FRAMES:
            return f"more than {MAX_FRAMES:,} frames"
        if blocks > MAX_BLOCKS:
            return f"more than {MAX_BLOCKS:,} blocks"
    return None


def _gif_parts(data: bytes) -> Iterator[tuple[str, list[int]]]:
    """("frame", "comment" or "other", lengths of its blocks) for each part, until the file ends or makes no sense."""
    position = 13 + _palette_bytes(data, 10)
    while position + 1 < len(data):
        if data[position] == 0x21:
            kind, position = ("comment" if data[position + 1] == 0xFE else "other"), position + 2
        elif data[position] == 0x2C:
            kind, position = "frame", position + 11 + _palette_bytes(data, position + 9)
        elif data[position] == 0x3B:
            return
        else:
            kind, position = "other", position + 1  # Pillow passes over stray bytes one by one
            yield kind, []
            continue
        lengths, position = _gif_blocks(data, position)
        yield kind, lengths


def _gif_blocks(data: bytes, position: int) -> tuple[list[int], int]:
    """Lengths of the blocks from `position` up to the empty one, and the place behind that."""
    lengths: list[int] = []
    while position < len(data) and data[position] and len(lengths) <= MAX_BLOCKS:
        lengths.append(data[position])
        position += 1 + data[position]
    return lengths, position + 1


def _palette_bytes(data: bytes, at: int) -> int:
    return 3 << (data[at] & 7) + 1 if at < len(data) and data[at] & 128 else 0


# --- JPEG ----------------------------------------------------------------------------------------------------------


def _jpeg(data: bytes) -> str | None:
    position, blocks = 2, {b"Exif\0\0": b"", b"MPF\0": b""}
    for _ in range(MAX_PIECES):
        marker = data[position + 1] if position + 1 < len(data) else None
        if marker is None or data[position] == 0xFF and marker == 0xDA:
            break
        if data[position] != 0xFF or marker in (0x00, 0xFF):
            position += 1
        elif marker in _BARE_MARKERS:
            position += 2
        else:
            segment = data[position + 4 : position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")]
            for start in blocks:  # Pillow joins the EXIF blocks, and reads both kinds as it opens the file
                blocks[start] += segment.removeprefix(start) if segment.startswith(start) else b""
                if len(blocks[start]) > SLOW_BYTES:
                    return f"more than {SLOW_BYTES // 2**20} MiB of EXIF"
            position += 4 + len(segment)
    else:
        return f"more than {MAX_PIECES:,} segments or filler bytes before the picture"
    return next(filter(None, map(costly_tags, blocks.values())), None)


# --- others --------------------------------------------------------------------------------------------------------


def _bitmap(data: bytes) -> str | None:
    run_length = data[14:15] >= b"\x28" and data[30:34] in (b"\1\0\0\0", b"\2\0\0\0")
    return f"more than {SLOW_BYTES // 2**20} MiB of run-length code" if run_length and len(data) > SLOW_BYTES else None


def _netpbm(data: bytes) -> str | None:
    """A header of more than 4 KiB, or numbers as text or of an odd maximum, which Pillow reads one by one."""
    if data[1:2] not in (b"0", b"1", b"2", b"3", b"4", b"5", b"6", b"f", b"y"):
        return None
    header = _NETPBM.match(data[:4096])
    if header is None:
        return "a header of more than 4 KiB" if len(data) > 4096 else None
    maximum = re.sub(rb"#[^\r\n]*", b"", header[2]).split()[-1]
    text = header[1] in (b"1", b"2", b"3")
    direct = header[1] in (b"4", b"f") or maximum == b"255" and not text or (header[1] == b"5" and maximum == b"65535")
    return None if direct or len(data) <= SLOW_BYTES else f"more than {SLOW_BYTES // 2**20} MiB of numbers to read one by one"


def _box_tags(data: bytes) -> str | None:
    """AVIF: Pillow reads the EXIF block as it opens the file. Only the decoder knows where that stands, so all are checked."""
    headers = [match.start() for match, _ in zip(_TIFF_START.finditer(data), range(MAX_DIRECTORIES + 1), strict=False)]
    if len(headers) > MAX_DIRECTORIES:
        return f"more than {MAX_DIRECTORIES:,} blocks of tags"
    return next(filter(None, (costly_tags(data, at) for at in headers)), None)


# --- tags ----------------------------------------------------------------------------------------------------------


def costly_tags(data: bytes, at: int = 0) -> str | None:
    """The same for a TIFF or an EXIF block whose header stands at `at`: too many tags or strips, or more values than fit in the file."""
    tags = total = 0
    for count, entries in _directories(data, at):
        tags += count
        if tags > MAX_TAGS:
            return f"more than {MAX_TAGS:,} tags"
        for tag, kind, values in entries:
            total += _SIZES.get(kind, 0) * values
            if tag in _STRIP_TAGS and values > MAX_STRIPS:
                return f"more than {MAX_STRIPS:,} strips or tiles"
        if total > 2 * len(data) + MAX_COMMENT_BYTES:
            return "tags that claim more than there is in the file"
    return None


def _directories(data: bytes, at: int) -> Iterator[tuple[int, list[tuple[int, int, int]]]]:
    """(number of tags, (tag, type, number of values) of each) for every directory of the block, each place once."""
    order, big = "<" if data[at : at + 1] == b"I" else ">", b"+" in data[at + 2 : at + 4]
    entry, place = (f"{order}HHQ8s", f"{order}Q") if big else (f"{order}HHI4s", f"{order}I")
    queue, visited, width = _numbers(data, at + (8 if big else 4), place), set(), struct.calcsize(entry)
    while queue:
        start = queue.pop()
        counts = _numbers(data, at + start, f"{order}Q" if big else f"{order}H") if start and start not in visited else ()
        visited.add(start)
        if not counts:
            continue
        first = at + start + (8 if big else 2)
        count = min(counts[0], MAX_TAGS + 1, (len(data) - first) // width)
        entries = list(struct.iter_unpack(entry, data[first : first + count * width]))
        yield count + 1, [values[:3] for values in entries]
        queue += _numbers(data, first + count * width, place)
        queue += [struct.unpack_from(place, value)[0] for tag, _, _, value in entries if tag in _DIRECTORY_TAGS]


def _numbers(data: bytes, at: int, form: str) -> list[int]:
    """The number at a place, or nothing where the data end before."""
    return list(struct.unpack_from(form, data, at)) if at + struct.calcsize(form) <= len(data) else []
