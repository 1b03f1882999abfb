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

import torch
from torch import Tensor

from detector.concepts import ConceptHead
from detector.download import PinnedFile, Progress, PublishedError, cache_folder, fetch_pinned, is_pinned, is_pinned_file, reason
from detector.orthogonal import LinearProbe, OrthogonalHead
from detector.vocabulary import Concept

LARGEST_FILE = 16 * 2**20  # bytes; the largest published file has 1 MB, so more is not a head of these layouts
_WIDTHS = {"pooled": 1024, "projected": 768}  # of ViT-L/14, at 224 and at 336 pixels


# --- what has been published ---------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class PublishedSource(PinnedFile):
    """Where a head comes from and what it expects to be fed."""

    method: str  # "linear", "orthogonal" or "concept"
    backbone: str  # MODEL/TAG of open_clip
    feature: str  # "pooled": before the projection, (B, 1024); "projected": after it, not normalised, (B, 768)
    interpolation: str  # "bilinear" or "bicubic", antialiased, of the resize to `image_size`
    resize: bool  # False: the centre crop is cut from the image at its own scale, as its authors evaluate
    image_size: int  # pixels, shorter side and centre crop
    training_data: str
    licence: str
    paper: str

    @property
    def width(self) -> int:
        """D, the length of the feature vector."""
        return _WIDTHS[self.feature]


_CLIP_CUES_URL = (
    "https://raw.githubusercontent.com/marco-willi/clip-cues/4835e52cb8cdbf40dcb317a51c4029347093fe20/data/checkpoints"
)
_UNIVFD_URL = (
    "https://raw.githubusercontent.com/WisconsinAIVision/UniversalFakeDetect/"
    "76a0e3e60a8a06458707a625d269ba815a2e5919/pretrained_weights"
)
_CLIP_CUES_DATA = {
    "cnnspot": "CNNSpot",
    "synthbuster": "SynthBuster+",
    "synthclic": "SynthCLIC",
    "combined": "CNNSpot, SynthBuster+ and SynthCLIC",
}
_CLIP_CUES_FILES = {  # file stem: (bytes, SHA-256)
    "clip_orthogonal_cnnspot": (35088, "5261fc88e2b09fa48c5816193a2b6bb9305049e7f0e757e1f3f65d0542761840"),
    "clip_orthogonal_synthbuster": (35120, "7dbdd5f539f63227a497a18e0a8fe6e44ee08884e82f4eb961f0ce4edbe3cd9d"),
    "clip_orthogonal_synthclic": (35104, "0ddba778343c20186c6d3ab06198a956da3572058806cfbbf287a275f97ca5e4"),
    "clip_orthogonal_combined": (35096, "3f7e5404b2e7de38719e49edee363fd505956aae4760e6636518f4060efbc568"),
    "linear_probe_cnnspot": (5734, "b8201afaaceda70bf0dbfc3ffc2107dddbda49047c73557ae316cd5796c194ee"),
    "linear_probe_synthbuster": (5822, "86cbb71de789f81a6805a0b2ec479076079199d6d7ffb1441e6a9775853638cd"),
    "linear_probe_synthclic": (5810, "c7a310eb0b14290d6ede87c85505ecc0b8522f9618ec7b21e1a428334c4d749f"),
    "linear_probe_combined": (5740, "8904774bf2bc8266b55033301215ea8db8bf827f3fbccd61ada164f58778684f"),
    "cm_antonyms_cnnspot": (1035960, "e3464eff7b224236bd3d7f264f1c00fe03408feb534c400065d3dc8bccab89a4"),
    "cm_antonyms_synthbuster": (1036060, "654079042a20a2554ec12da031e1a370a224389ee1c6e68c6955648f7e899534"),
    "cm_antonyms_synthclic": (1035978, "35f57de4b02a878a0376f6e0d0cbb175f34fc3acb7f99ff2aa4d6e8a04783c4d"),
    "cm_antonyms_combined": (1035969, "956acb4ba8a6e86dea23d070f2a581747fc82c8bb02554a8a6acde6f9113bc20"),
}


def _clip_cues_source(stem: str, size: int, sha256: str) -> PublishedSource:
    """The linear and orthogonal heads saw torchvision's default resize, the concept heads CLIP's own."""
    method = {"clip": "orthogonal", "linear": "linear", "cm": "concept"}[stem.partition("_")[0]]
    concept = method == "concept"
    return PublishedSource(
        name=f"clip-cues/{stem}",
        method=method,
        url=f"{_CLIP_CUES_URL}/{stem}.ckpt",
        sha256=sha256,
        size=size,
        backbone="ViT-L-14-336-quickgelu/openai",
        feature="projected" if concept else "pooled",
        interpolation="bicubic" if concept else "bilinear",
        resize=True,
        image_size=336,
        training_data=_CLIP_CUES_DATA[stem.rpartition("_")[2]],
        licence="MIT",
        paper="arXiv 2602.12381",
    )


_UNIVFD = PublishedSource(
    name="univfd/fc",
    method="linear",
    url=f"{_UNIVFD_URL}/fc_weights.pth",
    sha256="477100745713bcc957beb2b40859536859b6483fd6301b3b9293151b194c7847",
    size=4083,
    backbone="ViT-L-14-quickgelu/openai",
    feature="projected",
    interpolation="bilinear",  # of its training; its evaluation does not resize
    resize=False,
    image_size=224,
    training_data="ProGAN, 20 classes",
    licence="MIT",
    paper="arXiv 2302.10174",
)

SOURCES = {
    source.name: source
    for source in (*(_clip_cues_source(stem, *pin) for stem, pin in _CLIP_CUES_FILES.items()), _UNIVFD)
}
NAMES = tuple(SOURCES)
VOCABULARY = PinnedFile(
    name="clip-cues/antonyms",
    url="https://raw.githubusercontent.com/marco-willi/clip-cues/ba3ff65db7a2e6edbb3e5e07a933689b3d5ba1d1"
    "/reproduction/experiments/data/vocabularies/antonyms.csv",
    sha256="62c10a56b9d4f46623cd84564bb380138d9e1a59e6ba3448b928ddedb20be9de",
    size=29629,
)


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
        return self.head.activations(self._checked(features))

    def gates(self, features: Tensor) -> Tensor:
        """Concept heads only: `(B, 168)` in [0, 1], how far each concept counts for this image."""
        return self.head.gates(self._checked(features))

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

    head: type
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


def released(backbone: str) -> list[str]:
    """Names of all released heads for `backbone` (MODEL/TAG)."""
    return [name for name, source in SOURCES.items() if source.backbone == backbone]


def present(backbone: str) -> list[str]:
    """Names of the released heads for `backbone` (MODEL/TAG) whose files are in the cache, whole and unchanged."""
    return [name for name in released(backbone) if is_pinned_file(SOURCES[name], cache_path(name))]


def concept_vocabulary(file: str | os.PathLike | None = None, progress: Progress | None = None) -> tuple[Concept, ...]:
    """The 168 antonym pairs behind the released concept heads, in the order of their rows; from the cache, else downloaded.

    Row i of the heads' directions belongs to pair i; positive activation means nearer to the positive pole (METHODS 1.5:
    very likely, not proven). Raises PublishedError.
    """
    path = fetch_pinned(VOCABULARY, progress=progress) if file is None else Path(file)
    rows = csv.DictReader(io.StringIO(_content(path).decode("utf-8")))
    try:
        return tuple(Concept(name=row.pop("attribute_name").replace("_", " "), operation="", **row) for row in rows)
    except (KeyError, TypeError) as error:
        raise PublishedError(f"{path} is not the released vocabulary: its columns are others.") from error
