"""The released heads at hand for a backbone, each fed as its authors fed it.

Nothing is downloaded here: `present` heads are those that the user has fetched (`python -m detector heads --fetch`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from detector.clip.backbone import Backbone, ClipFeatures
from detector.clip.vocabulary import Concept
from detector.data.images import Photo
from detector.hub.catalogue import SOURCES, TRAININGS, VOCABULARY, released_names
from detector.hub.download import PinnedFile, Progress, PublishedError, fetch_pinned
from detector.methods import published
from detector.methods.published import PublishedHead


@dataclass(frozen=True)
class Released:
    """heads: name → head. words: the antonym pairs behind the rows of the concept heads, or () where not fetched.

    training: which of TRAININGS gives the units and concepts that are shown.
    """

    heads: dict[str, PublishedHead]
    words: tuple[Concept, ...] = ()
    training: str = TRAININGS[0]

    def shown(self, kind: str) -> str | None:
        """The name of the head whose parts are shown; kind: `clip_orthogonal` or `cm_antonyms`. None where it is absent."""
        name = f"clip-cues/{kind}_{self.training}"
        return name if name in self.heads else None

    def concept(self, row: int) -> Concept:
        """The pair behind a row of the concept heads; a numbered one where the vocabulary has not been fetched."""
        if self.words:
            return self.words[row]
        name = f"concept {row + 1}"
        return Concept(name, "", f"{name}, positive", f"{name}, negative", "", "", "", "")


def load_released(backbone: str, training: str = TRAININGS[0]) -> Released:
    """Those heads for `backbone` that lie in the cache. Never downloads. PublishedError for an unknown training set."""
    if training not in TRAININGS:
        raise PublishedError(f"There are no released heads trained on '{training}'; there are {', '.join(TRAININGS)}.")
    heads = {name: published.load(name) for name in published.present(backbone)}
    words: tuple[Concept, ...] = ()
    if any(head.source.method == "concept" for head in heads.values()) and published.has_vocabulary():
        words = published.concept_vocabulary()
    return Released(heads, words, training)


def fetch_released(backbone: str, progress: Progress | None = None) -> list[str]:
    """Download every released head for `backbone` and the concept heads' vocabulary. PublishedError, one sentence.

    progress: called with (bytes so far, bytes in all) over all files. Returns the heads' names.
    """
    sources = [SOURCES[name] for name in released_names(backbone)]
    if not sources:
        raise PublishedError(f"No head has been released for the backbone '{backbone}'.")
    files: list[PinnedFile] = [*sources, *([VOCABULARY] if any(source.method == "concept" for source in sources) else [])]
    total = sum(file.size for file in files)
    for i, file in enumerate(files):
        fetch_pinned(file, progress=_shifted(progress, sum(one.size for one in files[:i]), total) if progress else None)
    if progress:
        progress(total, total)
    return released_names(backbone)


def _shifted(progress: Progress, before: int, total: int) -> Progress:
    """The progress of one of several files, as that of all: `before` bytes came with earlier files."""
    return lambda now, _: progress(before + now, total)


def released_features(
    heads: dict[str, PublishedHead], backbone: Backbone, images: Sequence[Photo | np.ndarray], clip: ClipFeatures | None = None
) -> dict[str, Tensor]:
    """Name → (B, D) features as the head's authors made them: their interpolation, or no resize at all.

    One forward for each distinct preprocessing; `clip`, the backbone's own where it has been computed, is used where it is the same.
    """
    passes = {(backbone.preprocess["interpolation"], True): clip} if clip else {}
    features = {}
    for name, head in heads.items():
        key = head.source.interpolation, head.source.resize
        if key not in passes:
            interpolation, resize = key
            prepared = [backbone.prepare(image, interpolation=interpolation, resize=resize) for image in images]
            passes[key] = backbone.encode(torch.stack(prepared), tokens=False)
        features[name] = getattr(passes[key], head.source.feature)
    return features
