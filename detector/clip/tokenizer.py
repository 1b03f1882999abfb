"""The byte-pair tokenizer of open_clip, cut to the vocabulary that a model was built with."""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # slow to import
    from open_clip.tokenizer import SimpleTokenizer

FULL_VOCABULARY = 49_408
_BYTES_AND_MARKERS = 514  # 256 bytes, 256 word-final bytes, start and end of text


def simple_tokenizer(vocab_size: int, context_length: int) -> SimpleTokenizer:
    """open_clip's `SimpleTokenizer` with its merges cut to the first `vocab_size` − 514.

    The cut is made from open_clip's own merges file at each call, so that no vocabulary is copied into the project.
    Texts of any alphabet are encoded (byte level); longer ones are truncated to `context_length` tokens.
    """
    from open_clip.tokenizer import SimpleTokenizer, default_bpe

    if vocab_size == FULL_VOCABULARY:
        return SimpleTokenizer(context_length=context_length)
    with gzip.open(default_bpe(), "rt", encoding="utf-8") as merges:
        header_and_merges = [next(merges).rstrip("\n") for _ in range(1 + vocab_size - _BYTES_AND_MARKERS)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "merges.txt.gz"
        path.write_bytes(gzip.compress("\n".join(header_and_merges).encode()))
        return SimpleTokenizer(bpe_path=str(path), context_length=context_length)
