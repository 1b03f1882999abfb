"""Whether a file carries a C2PA manifest store. The store is not validated."""

from __future__ import annotations

from PIL import Image

MAX_MENTIONS = 100_000  # of "c2pa" that are checked; a real manifest store has some hundred
_BEHIND = 72  # bytes at most between a box's kind and the word: a uuid box has identifier, purpose and offset there


def has_c2pa(image: Image.Image, data: bytes | None) -> bool:
    """True if there is a JPEG APP11 segment, a PNG caBX chunk, or a JUMBF or uuid box that names c2pa; data: the file's bytes."""
    segments = getattr(image, "applist", ())
    if any(name == "APP11" and b"jumb" in payload and b"c2pa" in payload for name, payload in segments):
        return True
    if any(chunk[0] == b"caBX" for chunk in getattr(image, "private_chunks", ())):
        return True
    return data is not None and has_c2pa_box(data)


def has_c2pa_box(data: bytes) -> bool:
    """A box that fits into the file and names c2pa near its start, within its own length.

    Goes from mention to mention and looks back from each, so that the time grows with the file's length and no faster.
    """
    at = data.find(b"c2pa")
    for _ in range(MAX_MENTIONS):
        if at < 0:
            return False
        if _box_before(data, at):
            return True
        at = data.find(b"c2pa", at + 1)
    return False


def _box_before(data: bytes, word: int) -> bool:
    """Whether a box that starts shortly before the word reaches behind it and ends inside the file.

    A box is four bytes of length, four of kind, and content. Text ("self#jumbf=/c2pa/…" in XMP) has letters where the
    length would stand, and those are a length far beyond the file.
    """
    first = max(0, word - _BEHIND - 4)
    for kind in (b"jumb", b"uuid"):
        start_of_kind = data.find(kind, first, word)
        while start_of_kind >= 0:
            length, start = int.from_bytes(data[max(0, start_of_kind - 4) : start_of_kind], "big"), start_of_kind - 4
            # 0 stands for "to the end of the file", 1 for a length of 64 bits
            if start >= 0 and (length <= 1 or word + 4 - start <= length <= len(data) - start):
                return True
            start_of_kind = data.find(kind, start_of_kind + 1, word)
    return False
