"""The figures that `evaluate` stored, by whether a split's generators were seen in training; nothing heavy is imported."""

from __future__ import annotations

from typing import Any

SEEN, UNSEEN = "test_seen", "test_unseen"
IN_WORDS = {SEEN: "on generators seen in training", UNSEEN: "on unseen ones"}


def splits_named(splits: dict[str, Any], name: str) -> dict[str, Any]:
    """Data folder → what was measured on its split of that name; "" is the folder of measures of one folder alone.

    splits: split, such as "test_unseen" or "web/test_unseen" → anything.
    """
    return {split.rpartition("/")[0]: figures for split, figures in splits.items() if split.rpartition("/")[2] == name}


def in_words(splits: dict[str, Any], method: str, digits: str) -> str:
    """AUROC of a method on every split, such as "on generators seen in training 0.80 (web), on unseen ones 0.70 (web)"; "" where it was
    not measured. digits: format of a row of measures' AUROC, such as "{auroc:.2f}"."""
    parts = []
    for name, words in IN_WORDS.items():
        rows = {folder: figures[method]["overall"] for folder, figures in splits_named(splits, name).items() if method in figures}
        cells = [digits.format(**row) + (f" ({folder})" if folder else "") for folder, row in rows.items()]
        parts += [f"{words} {' and '.join(cells)}"] if cells else []
    return ", ".join(parts)
