"""What is done to sound files: an input is a function of the seed and its number."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

_EDGES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_MAGIC = 64  # bytes of a file that count as its header when a header is put on another body
_FORMS = ("<H", ">H", "<I", ">I")


def fuzzed(files: dict[str, bytes], seed: int, number: int) -> tuple[str, bytes]:
    """(what was done to which file, bytes) of one input."""
    generator = random.Random(f"{seed}/{number}")
    name = generator.choice(sorted(files))
    data, done = files[name], []
    for _ in range(generator.choice((1, 1, 2, 3))):
        change = generator.choice(_CHANGES)
        data = change(data, generator, files) or b"\0"
        done.append(change.__name__.strip("_"))
    return f"{name}: {', '.join(done)}", data


def _place(data: bytes, generator: random.Random) -> int:
    """A place in the file; every second one near its start, where the structure is."""
    return generator.randrange(min(len(data), generator.choice((64, 512, len(data)))))


def _flip_bits(data: bytes, generator: random.Random, files: dict[str, bytes]) -> bytes:
    changed = bytearray(data)
    for _ in range(generator.choice((1, 4, 32))):
        changed[_place(data, generator)] ^= 1 << generator.randrange(8)
    return bytes(changed)


def _set_bytes(data: bytes, generator: random.Random, files: dict[str, bytes]) -> bytes:
    changed = bytearray(data)
    for _ in range(generator.choice((1, 4, 32))):
        changed[_place(data, generator)] = generator.choice((0, 255, generator.randrange(256)))
    return bytes(changed)


def _cut_off(data: bytes, generator: random.Random, files: dict[str, bytes]) -> bytes:
    return data[: generator.randrange(len(data)) + 1]


def _set_number(data: bytes, generator: random.Random, files: dict[str, bytes]) -> bytes:
    """A field of 16 or 32 bits becomes a value at the edge of its range: lengths, offsets, counts."""
    form = generator.choice(_FORMS)
    value = generator.choice((*_EDGES, len(data), generator.randrange(2**32))) % 256 ** struct.calcsize(form)
    return _replaced(data, _place(data, generator), struct.pack(form, value))


def _set_dimensions(data: bytes, generator: random.Random, files: dict[str, bytes]) -> bytes:
    """Two adjacent fields that hold sides of a small picture become large ones, wherever such a pair stands."""
    form = generator.choice(_FORMS)
    width = struct.calcsize(form)
    small = [
        at
        for at in range(min(len(data), 1024) - 2 * width)
        if all(1 <= struct.unpack_from(form, data, at + shift)[0] <= 128 for shift in (0, width))
    ]
    if not small:
        return _set_number(data, generator, files)
    sides = (generator.choice((1, 100, 4000, 10_900, 20_000, 65_535)) for _ in range(2))
    return _replaced(data, generator.choice(small), b"".join(struct.pack(form, side) for side in sides))


def _duplicate(data: bytes, generator: random.Random, files: dict[str, bytes]) -> bytes:
    """A stretch of the file stands there several times."""
    start = _place(data, generator)
    end = min(len(data), start + generator.choice((1, 4, 16, 100, 1000)))
    return data[:end] + data[start:end] * generator.choice((1, 3, 50, 2000)) + data[end:]


def _remove(data: bytes, generator: random.Random, files: dict[str, bytes]) -> bytes:
    start = _place(data, generator)
    return data[:start] + data[start + generator.choice((1, 4, 16, 100)) :]


def _splice(data: bytes, generator: random.Random, files: dict[str, bytes]) -> bytes:
    """A stretch of another file stands in this one."""
    other = files[generator.choice(sorted(files))]
    start = _place(other, generator)
    piece, at = other[start : start + generator.choice((4, 32, 300, 5000))], _place(data, generator)
    return data[:at] + piece + data[at + generator.choice((0, len(piece))) :]


def _other_header(data: bytes, generator: random.Random, files: dict[str, bytes]) -> bytes:
    other, length = files[generator.choice(sorted(files))], generator.randrange(4, _MAGIC)
    return other[:length] + data[length:]


def _cross(data: bytes, generator: random.Random, files: dict[str, bytes]) -> bytes:
    other = files[generator.choice(sorted(files))]
    return data[: generator.randrange(len(data)) + 1] + other[generator.randrange(len(other)) :]


def _noise_behind_header(data: bytes, generator: random.Random, files: dict[str, bytes]) -> bytes:
    return data[: generator.randrange(2, _MAGIC)] + generator.randbytes(generator.choice((10, 500, 20_000)))


def _replaced(data: bytes, at: int, piece: bytes) -> bytes:
    return data[:at] + piece + data[at + len(piece) :]


_CHANGES: tuple[Callable[[bytes, random.Random, dict[str, bytes]], bytes], ...] = (
    _flip_bits,
    _set_bytes,
    _cut_off,
    _set_number,
    _set_dimensions,
    _duplicate,
    _remove,
    _splice,
    _other_header,
    _cross,
    _noise_behind_header,
)
