"""Heads that others have released: fetched once, pinned by checksum, loaded without running anything they contain.

Thirteen small heads on a frozen CLIP. Twelve come with "Synthetic Image Detection with CLIP: Understanding and
Assessing Predictive Cues" (arXiv 2602.12381, the `clip-cues` repository): a linear probe, the interpretable linear head
with de-correlated activations, and the text-grounded concept model, each trained on four data sets. One is the linear
classifier of "Towards Universal Fake Image Detectors that Generalize Across Generative Models" (arXiv 2302.10174).

All of them speak the same way: a logit above 0, and a contribution above 0, speaks for "synthetic"; the probability is
sigmoid(logit). Every head is a sum that can be read: `logits = contributions.sum(1) + bias`, exactly.

A head says in `source` what its features must come from (backbone, feature, image size, interpolation). The released
files are pickles: they are compared with a pinned SHA-256 first and then read with `weights_only=True`, which builds
tensors and refuses everything else. Only inference is here; the stochastic gates of training are not.
"""

from __future__ import annotations

import csv
import io
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detector.clip.vocabulary import Concept
from detector.hub.catalogue import NAMES, SOURCES, VOCABULARY, PublishedSource, released_names
from detector.hub.download import Progress, PublishedError, cache_folder, fetch_pinned, is_pinned, is_pinned_file, reason
from detector.methods.concepts.head import ConceptHead
from detector.methods.orthogonal.head import LinearProbe, OrthogonalHead

__all__ = ["PublishedHead", "cache_path", "concept_vocabulary", "fetch", "has_vocabulary", "load", "present"]

LARGEST_FILE = 16 * 2**20  # bytes; the largest published file has 1 MB, so more is not a head of these layouts


def _source(name: str) -> PublishedSource:
    if name not in SOURCES:
        raise PublishedError(f"There is no published head named {name!r}; the names are {', '.join(NAMES)}.")
    return SOURCES[name]


# --- the heads -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PublishedHead:
    """A released head: the project's own algebra with released numbers.

    `source` says what to feed it; `verified` whether its file was, byte for byte, the published one; `head` is a
    `LinearProbe`, `OrthogonalHead` or `ConceptHead`. Every method takes the raw features `(B, D)` of `source.feature` in any
    floating-point type and raises `ValueError` on another shape. Gradients flow to the features.
    """

    source: PublishedSource
    verified: bool
    head: LinearProbe | OrthogonalHead | ConceptHead

    @property
    def bias(self) -> Tensor:
        """() in logits."""
        return self.head.bias

    def logits(self, features: Tensor) -> Tensor:
        """`(B, D) -> (B,)`, unbounded, higher speaks for "synthetic"; 0 is even odds."""
        return self.head.logits(self._checked(features))

    def contributions(self, features: Tensor) -> Tensor:
        """What each term adds to the logit, `(B, terms)`; positive speaks for "synthetic"; with `bias` the sum is the logit."""
        return self.head.contributions(self._checked(features))

    def activations(self, features: Tensor) -> Tensor:
        """Orthogonal: `(B, 8)` units; concept: `(B, 168)` cosines. The linear heads have none (AttributeError)."""
        head: Any = self.head
        return head.activations(self._checked(features))

    def gates(self, features: Tensor) -> Tensor:
        """Concept heads: `(B, 168)` in [0, 1], how far each concept counts for this image. The others have none (AttributeError)."""
        head: Any = self.head
        return head.gates(self._checked(features))

    def _checked(self, features: Tensor) -> Tensor:
        width, feature = self.source.width, self.source.feature
        if features.ndim != 2 or features.shape[1] != width:
            shape = tuple(features.shape)
            raise ValueError(f"{self.source.name} reads {feature} features of shape (B, {width}), not {shape}.")
        return features.to(self.bias.dtype)


# --- file layouts --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Layout:
    """What a released file holds: buffer name -> (its key, its shape)."""

    head: type[LinearProbe | OrthogonalHead | ConceptHead]
    model_type: str | None  # None: the file is a bare state dict
    tensors: dict[str, tuple[str, tuple[int, ...]]]


_LAYOUTS = {  # by method, or by name where one file differs
    "linear": _Layout(
        LinearProbe,
        "linear",
        {
            "weight": ("model.classification_head.fc.weight", (1, 1024)),
            "bias": ("model.classification_head.fc.bias", (1,)),
        },
    ),
    "orthogonal": _Layout(
        OrthogonalHead,
        "clip",
        {
            "weight": ("model.classification_head.layers.0.weight", (8, 1024)),
            "offset": ("model.classification_head.layers.0.bias", (8,)),
            "readout": ("model.classification_head.to_logits.weight", (1, 8)),
            "bias": ("model.classification_head.to_logits.bias", (1,)),
        },
    ),
    "concept": _Layout(
        ConceptHead,
        "concept",
        {
            "directions": ("model.text_embeddings", (168, 768)),
            "gate_weight": ("model.W_concepts.weight", (168, 768)),
            "gate_bias": ("model.W_concepts.bias", (168,)),
            "weight": ("model.W_classifier.weight", (1, 168)),
            "bias": ("model.W_classifier.bias", (1,)),
        },
    ),
    "univfd/fc": _Layout(LinearProbe, None, {"weight": ("weight", (1, 768)), "bias": ("bias", (1,))}),
}


def _layout(source: PublishedSource) -> _Layout:
    return _LAYOUTS.get(source.name) or _LAYOUTS[source.method]


def load(name: str, file: str | os.PathLike | None = None, progress: Progress | None = None) -> PublishedHead:
    """The head `name`, one of `NAMES`, on the CPU in float32.

    Without `file` it comes from the cache, or is downloaded (`fetch`). `file` is a local file of the same layout, which
    may hold other weights: then `head.verified` is False. Raises `PublishedError` where the file cannot be had, is not
    a plain file of tensors, or does not have the layout of the published one.
    """
    source = _source(name)
    path = fetch(name, progress=progress) if file is None else Path(file)
    content = _content(path)
    # The bytes checked are the bytes unpickled: the file is not opened a second time.
    verified = is_pinned(source, content)
    if file is None and not verified:
        raise PublishedError(f"{path} changed while it was being read; try again.")
    layout = _layout(source)
    try:
        tensors = _tensors(layout, _unpickled(content))
    except _LayoutMismatch as mismatch:
        raise PublishedError(f"{path} cannot be used as {name}: {mismatch}.") from mismatch.__cause__
    return PublishedHead(source, verified, layout.head.from_tensors(tensors))


class _LayoutMismatch(Exception):
    """What is wrong with a file, as the end of a sentence."""


def _content(path: Path) -> bytes:
    if not path.is_file():
        raise PublishedError(f"{path} is not a file, or is not there.")
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise PublishedError(f"{path} is larger than {LARGEST_FILE >> 20} MiB, which no published head is.")
        return path.read_bytes()
    except OSError as error:
        raise PublishedError(f"{path} cannot be read ({reason(error)}).") from error


def _unpickled(content: bytes) -> object:
    """The object in a torch file. `weights_only` builds tensors and containers; a pickle that names code is refused."""
    try:
        if zipfile.is_zipfile(io.BytesIO(content)):
            _check_inflated(content)
        return torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
    except _LayoutMismatch:
        raise
    except Exception as error:  # a broken or hostile file can fail anywhere inside the unpickler
        problem = "it is damaged, or holds something other than tensors, none of which was run"
        raise _LayoutMismatch(problem) from error


def _check_inflated(content: bytes) -> None:
    """torch writes its archives uncompressed, so one that would grow in memory is not torch's."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > LARGEST_FILE:
            raise _LayoutMismatch("it unpacks to far more than such a head needs")


def _tensors(layout: _Layout, loaded: object) -> dict[str, Tensor]:
    """Buffers by name, float32, with the leading axis of length 1 dropped; exactly the layout's keys are accepted."""
    state = loaded if layout.model_type is None else _state_dict(layout, loaded)
    if not isinstance(state, dict):
        raise _LayoutMismatch("it does not hold a table of tensors")
    surplus = len(state.keys() - {key for key, _ in layout.tensors.values()})
    if surplus:
        raise _LayoutMismatch(f"it holds {surplus} entries that this layout does not have")
    return {name: _tensor(state.get(key), key, shape) for name, (key, shape) in layout.tensors.items()}


def _state_dict(layout: _Layout, loaded: object) -> object:
    if not isinstance(loaded, dict) or "state_dict" not in loaded:
        raise _LayoutMismatch("it has no state_dict")
    if loaded.get("model_type") != layout.model_type:
        raise _LayoutMismatch(f"its model_type is not {layout.model_type!r}")
    return loaded["state_dict"]


def _tensor(value: object, key: str, shape: tuple[int, ...]) -> Tensor:
    if not isinstance(value, Tensor):
        raise _LayoutMismatch(f"the tensor {key} is missing")
    if tuple(value.shape) != shape:  # before anything is computed: a view can claim any size
        raise _LayoutMismatch(f"the tensor {key} has the shape {tuple(value.shape)}, not {shape}")
    if value.layout != torch.strided or value.device.type != "cpu" or not value.is_floating_point():
        raise _LayoutMismatch(f"the tensor {key} is not an array of floating-point numbers")
    values = value.detach().to(torch.float32)
    if not torch.isfinite(values).all():
        raise _LayoutMismatch(f"the tensor {key} holds values that are not finite")
    return values.squeeze(0).contiguous()


# --- files -----------------------------------------------------------------------------------------------------------


def cache_path(name: str, cache: str | os.PathLike | None = None) -> Path:
    """Where `fetch` keeps the file of head `name`, whether it is there or not."""
    return (cache_folder() if cache is None else Path(cache)) / _source(name).file


def fetch(name: str, cache: str | os.PathLike | None = None, progress: Progress | None = None) -> Path:
    """The published file of head `name`, downloaded unless it is there; see `download.fetch_pinned`."""
    return fetch_pinned(_source(name), cache, progress)


def present(backbone: str) -> list[str]:
    """Names of the released heads for `backbone` (MODEL/TAG) whose files are in the cache, whole and unchanged."""
    return [name for name in released_names(backbone) if is_pinned_file(SOURCES[name], cache_path(name))]


def has_vocabulary() -> bool:
    """Whether the concept heads' vocabulary lies in the cache."""
    return is_pinned_file(VOCABULARY, cache_folder() / VOCABULARY.file)


def concept_vocabulary(file: str | os.PathLike | None = None, progress: Progress | None = None) -> tuple[Concept, ...]:
    """The 168 antonym pairs behind the released concept heads, in the order of their rows; from the cache, else downloaded.

    Row i of the heads' directions belongs to pair i; positive activation means nearer to the positive pole (docs/methods.md, 1.5:
    very likely, not proven). Raises PublishedError.
    """
    path = fetch_pinned(VOCABULARY, progress=progress) if file is None else Path(file)
    rows = csv.DictReader(io.StringIO(_content(path).decode("utf-8")))
    try:
        return tuple(Concept(name=row.pop("attribute_name").replace("_", " "), operation="", **row) for row in rows)
    except (KeyError, TypeError) as error:
        raise PublishedError(f"{path} is not the released vocabulary: its columns are others.") from error
