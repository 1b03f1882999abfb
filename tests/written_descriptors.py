"""Descriptors read back from the text that they were written as."""

import re

from detector.methods.physical_clip.text import FORMS, Form


def parse(text: str) -> dict[str, float]:
    """Descriptor → value from a text that `textualise` made; a caption that uses the same words does not confuse it."""
    tail = text.rsplit(". ", 1)[-1]
    for form in FORMS:
        number = r"(\d\d)" if form.digits_only else r"(\d\.\d\d)"
        pairs = [
            re.fullmatch(re.escape(form.names[name]) + form.joint + number, part)
            for part in _parts(tail, form)
            for name in [_named(part, form)]
            if name
        ]
        if pairs and all(pairs) and len(pairs) == len(_parts(tail, form)):
            scale = 100 if form.digits_only else 1
            return {_named(match.group(0), form): float(match.group(1)) / scale for match in pairs}
    return {}


def _parts(tail: str, form: Form) -> list[str]:
    return re.findall(r"\S+ \S+", tail) if form.digits_only else tail.split(form.between)


def _named(part: str, form: Form) -> str | None:
    return next((name for name, word in form.names.items() if part.startswith(word + form.joint)), None)
