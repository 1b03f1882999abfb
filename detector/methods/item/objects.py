"""The things that a caption names: nouns of a fixed list, in order, without repeats, at most five (docs/methods.md, 3).

A fixed list rather than a parser, so that a head reads the same objects on every machine. Only the noun is kept and no
adjective: choice, not from the paper; a box for "shirt" and one for "red shirt" would lie on one another.
"""

from __future__ import annotations

import re
from functools import lru_cache

from detector.clip.captioning import nouns

MOST = 5  # objects of a caption
LONGEST_PHRASE = 60  # characters of an object that a user typed


@lru_cache(maxsize=1)
def _forms() -> dict[str, str]:
    """Every form, singular or plural → singular."""
    plurals = {forms[-1]: forms[0] for forms in nouns()}
    return plurals | {forms[0]: forms[0] for forms in nouns()}


@lru_cache(maxsize=1)
def _longest() -> int:
    """Words of the longest noun."""
    return max(len(form.split()) for form in _forms())


def find_objects(caption: str) -> list[str]:
    """Nouns of `caption`, singular, in order of first mention; of overlapping ones the longest ("fire hydrant", not "fire")."""
    words, nouns_by_form = re.findall(r"[a-z]+(?:-[a-z]+)*", caption.lower()), _forms()
    nouns: list[str] = []
    place = 0
    while place < len(words) and len(nouns) < MOST:
        lengths = (n for n in range(_longest(), 0, -1) if " ".join(words[place : place + n]) in nouns_by_form)
        length = next(lengths, 0)
        if length:
            noun = nouns_by_form[" ".join(words[place : place + length])]
            nouns += [noun] if noun not in nouns else []
        place += max(1, length)
    return nouns


def typed_objects(text: str) -> list[str]:
    """A user's list, parted by commas, semicolons or lines: any words in any alphabet, cleaned, without repeats, the first five."""
    parts = re.split(r"[,;，、；\n]", text)
    phrases = (" ".join(part.split())[:LONGEST_PHRASE].strip() for part in parts)
    return list(dict.fromkeys(p for p in phrases if re.search(r"[^\W_]", p)))[:MOST]
