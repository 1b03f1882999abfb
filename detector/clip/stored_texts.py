"""Embeddings of fixed lists of texts: computed once for a backbone's weights, kept in the user's folder.

On two threads ViT-L/14's text tower takes minutes for the lists of nouns and concepts.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from detector.assets import EMBEDDED, user_folder
from detector.clip.backbone import Backbone
from detector.hub.weights import WeightsError, read_weights, write_weights


def encode_fixed(backbone: Backbone, name: str, texts: Sequence[str]) -> Tensor:
    """(len(texts), E) unit rows, as `Backbone.encode_text` gives them. name: of the list, for the file's name.

    They come from `CUESCOPE_HOME/texts/FINGERPRINT` where they lie there, and are written there otherwise. The embedded model's take
    seconds and are never written, so that a first start writes nothing. A damaged file is replaced; where nothing can be written they
    are computed each time.
    """
    if backbone.name == EMBEDDED:
        return backbone.encode_text(list(texts))
    path = _place(backbone, name, texts)
    if path is not None and path.is_file():
        try:
            return read_weights(path)[0]["texts"]
        except (WeightsError, KeyError):
            pass  # replaced below
    embedded = backbone.encode_text(list(texts))
    try:
        if path is not None:
            write_weights(path, {"texts": embedded}, {"backbone": backbone.name})
    except OSError as error:
        print(f"The embeddings of {len(texts)} texts cannot be kept in {path} ({error.strerror}).", file=sys.stderr)
    return embedded


def _place(backbone: Backbone, name: str, texts: Sequence[str]) -> Path | None:
    """The file of a list; None where the account has no home folder."""
    digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]
    try:
        return user_folder("CUESCOPE_HOME") / "texts" / backbone.fingerprint / f"{name}-{digest}.safetensors"
    except RuntimeError:
        return None
