"""Features of a labelled folder: every view of every image measured once, and kept on disk."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from detector.clip import backbone as backbone_module
from detector.clip.backbone import Backbone, ClipFeatures
from detector.clip.captioning import captioner
from detector.data import augmentation as augment
from detector.data import images, windows
from detector.data.datasets import Example, Pictures, file_key, views
from detector.methods.base import Evidence
from detector.methods.item import alignment
from detector.methods.item.alignment import AT_ONCE, extract_alignment, from_arrays
from detector.methods.physical import features as physical
from detector.methods.published import PublishedHead
from detector.methods.residual import features as residual
from detector.methods.residual.window_rows import WindowRows
from detector.methods.sdd.head import SddHead
from detector.methods.table import Table
from detector.progress import progress

CAPTIONED_COPIES = 1  # random copies of a training image that get a caption: writing one costs more than all else together
VIEWS = (images.VERSION, augment.VERSION)  # what every kept feature depends on: the pixels of a file and of its random copies


def _mapped(measure: Callable[[Example], object], examples: list[Example]) -> Iterator:
    """`measure` of every example, in order, in threads: Pillow, OpenCV and numpy let go of the interpreter."""
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        # a few at a time: results hold pixels, and all of them at once would fill the memory
        for start in range(0, len(examples), 16):
            yield from pool.map(measure, examples[start : start + 16])


def extract_pixels(examples: list[Example], copies: int, seed: int, title: str) -> dict[str, np.ndarray]:
    """descriptors (N, 15), residual (N, F), windows (R, F) and counts (N,) of `WindowRows`, of every view of every example."""

    def measure(example: Example) -> tuple[list, list]:
        pictures = views(example, copies, seed)
        return [physical.measure(view) for view in pictures], [residual.window_features(view) for view in pictures]

    rows = list(progress(_mapped(measure, examples), len(examples), f"{title}: pixels"))
    windows = [views for _, residuals in rows for views in residuals]
    joined = WindowRows.join(windows)
    return {
        "descriptors": np.stack([d for described, _ in rows for d in described]),
        "residual": np.stack([residual.pool_windows(view) for view in windows]),
        "windows": joined.values,
        "counts": joined.counts,
    }


def extract_clip(
    backbone: Backbone, examples: list[Example], copies: int, seed: int, title: str, prepare: Callable[[np.ndarray], Tensor] | None = None
) -> dict[str, np.ndarray]:
    """pooled (N, D) and projected (N, E) of every view of every example; patch tokens are not kept. prepare: pixels → (3, S, S), in
    place of the backbone's own preprocessing."""

    def measure(example: Example) -> Tensor:
        return torch.stack([(prepare or backbone.prepare)(view) for view in views(example, copies, seed)])

    prepared = progress(_mapped(measure, examples), len(examples), f"{title}: CLIP")
    # a processor gains nothing by larger batches, and its sums would come out otherwise in the last digit
    least = 1 if backbone.device.type == "cpu" else AT_ONCE
    parts = [backbone.encode(batch, tokens=False) for batch in _joined(prepared, least)]
    return {"pooled": torch.cat([p.pooled for p in parts]).numpy(), "projected": torch.cat([p.projected for p in parts]).numpy()}


def _joined(groups: Iterable[Tensor], least: int) -> Iterator[Tensor]:
    """The groups' rows in batches of whole groups, each but the last of at least `least` rows."""
    waiting: list[Tensor] = []
    for group in groups:
        waiting.append(group)
        if sum(map(len, waiting)) >= least:
            yield torch.cat(waiting)
            waiting = []
    if waiting:
        yield torch.cat(waiting)


def extract_captioned(backbone: Backbone, examples: list[Example], copies: int, seed: int, title: str) -> dict[str, np.ndarray]:
    """Captions, objects and their embeddings of every view of every example, see `alignment.extract_alignment`."""
    groups = _mapped(lambda example: views(example, copies, seed), examples)
    return extract_alignment(backbone, progress(groups, len(examples), f"{title}: captions"))


def _stored(folder: Path | None, name: str, key: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays of `make()`, from `folder` where an .npz under a hash of `key` holds them; without a folder they are made anew."""
    if folder is None:
        return make()
    path = folder / f"{re.sub(r'[^A-Za-z0-9_.-]', '-', name)}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".partial.npz")
        arrays: dict[str, Any] = make()  # numpy's stub takes the names for its own options
        np.savez(temporary, **arrays)
        os.replace(temporary, path)
    with np.load(path) as saved:
        return dict(saved)


def _named(examples: Sequence[Example], copies: int, seed: int) -> str:
    return "".join(f"{file_key(e.path)} {e.label}\n" for e in examples) + f"{copies} {seed}"


def _clip_features(
    backbone: Backbone, examples: list[Example], copies: int, seed: int, folder: Path | None, title: str
) -> dict[str, np.ndarray]:
    key = " ".join([_named(examples, copies, seed), *VIEWS, backbone_module.VERSION, backbone.fingerprint])
    return _stored(folder, f"{title}-clip", key, lambda: extract_clip(backbone, examples, copies, seed, title))


def _measured(
    backbone: Backbone, examples: list[Example], copies: int, seed: int, folder: Path | None, title: str
) -> dict[str, np.ndarray]:
    """Arrays of every view; kept under a key of the files, the settings, the versions of the features and the backbone's weights."""
    named = _named(examples, copies, seed)
    pixels = _stored(
        folder,
        f"{title}-pixels",
        " ".join([named, *VIEWS, physical.VERSION, residual.VERSION, "windows"]),
        lambda: extract_pixels(examples, copies, seed, title),
    )
    return pixels | _clip_features(backbone, examples, copies, seed, folder, title)


def cached(backbone: Backbone, examples: list[Example], copies: int, seed: int, folder: Path | None, title: str) -> Table:
    """Evidence of every view, see `_measured`. Re-syntheses, which stand last, are kept apart: the others serve without them, too."""
    groups = [list(group) for _, group in groupby(examples, key=lambda example: bool(example.origin))]
    parts = [_measured(backbone, group, copies, seed, folder, title) for group in groups]
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if len(parts) > 1 else parts[0]
    pictures = _pictures(examples, copies, seed)
    windows = WindowRows(arrays["windows"], arrays["counts"])
    evidence = Evidence(_features(arrays), arrays["descriptors"], arrays["residual"], pixels=pictures, residual_windows=windows)
    return _table(evidence, pictures)


def cached_clip(backbone: Backbone, examples: list[Example], copies: int, seed: int, folder: Path | None, title: str) -> Table:
    """As `cached`, with CLIP's features as the only evidence beside the pixels."""
    pictures = _pictures(examples, copies, seed)
    features = _features(_clip_features(backbone, examples, copies, seed, folder, title))
    return _table(Evidence.of_clip(features, pictures), pictures)


def _features(arrays: Mapping[str, np.ndarray]) -> ClipFeatures:
    return ClipFeatures(torch.from_numpy(arrays["pooled"]), torch.from_numpy(arrays["projected"]), None)


def _pictures(examples: list[Example], copies: int, seed: int) -> Pictures:
    """Each image, and after it its random copies."""
    return Pictures([e for e in examples for _ in range(copies + 1)], list(range(copies + 1)) * len(examples), seed)


def _table(evidence: Evidence, pictures: Pictures) -> Table:
    """The evidence with what the examples say of its rows."""
    labels, sources, corpora = (np.array([getattr(e, name) for e in pictures.examples]) for name in ("label", "source", "corpus"))
    return Table(evidence, labels, sources, np.array(pictures.copy), pictures, corpora)


def windowed(table: Table, head: object, folder: Path | None, title: str) -> Table:
    """The table with the logits of an SDD head, which take long; they are cached like the rest. Other heads need nothing."""
    if not isinstance(head, SddHead) or head.identity in table.evidence.windowed:
        return table
    rows = zip(table.pictures.examples, table.pictures.copy, strict=True)
    key = f"{head.identity} {table.pictures.seed} " + "".join(f"{file_key(e.path)} {copy}\n" for e, copy in rows)
    arrays = _stored(folder, f"{title}-sdd", " ".join([key, *VIEWS, windows.VERSION]), lambda: {"logits": head.unscaled(table.pictures)})
    logits = {**table.evidence.windowed, head.identity: arrays["logits"]}
    return replace(table, evidence=replace(table.evidence, windowed=logits))


def captioned(table: Table, backbone: Backbone, seed: int, folder: Path | None, title: str) -> Table:
    """The table's rows up to CAPTIONED_COPIES, with `alignment`; kept like the rest. seed, title: as for `cached`."""
    examples = table.pictures.originals()
    copies = min(CAPTIONED_COPIES, int(table.copy.max()))
    parts = [*VIEWS, backbone_module.VERSION, alignment.VERSION, backbone.fingerprint, captioner(backbone)]
    key = " ".join([_named(examples, copies, seed), *parts])
    arrays = _stored(folder, f"{title}-captions", key, lambda: extract_captioned(backbone, examples, copies, seed, title))
    rows = table.rows(table.copy <= copies)
    return replace(rows, evidence=replace(rows.evidence, alignment=from_arrays(arrays)))


def with_released(table: Table, backbone: Backbone, heads: Mapping[str, PublishedHead], folder: Path | None, title: str) -> Table:
    """The table with what released heads read, preprocessed as their authors did; one forward for each preprocessing."""
    passes = {(backbone.preprocess["interpolation"], True): table.evidence.clip}
    examples, copies = table.pictures.originals(), int(table.copy.max())
    named = _named(examples, copies, table.pictures.seed)
    for interpolation, resize in {(head.source.interpolation, head.source.resize) for head in heads.values()} - passes.keys():
        key = " ".join([named, *VIEWS, backbone_module.VERSION, backbone.fingerprint, interpolation, str(resize)])
        prepare = partial(backbone.prepare, interpolation=interpolation, resize=resize)
        make = partial(extract_clip, backbone, examples, copies, table.pictures.seed, title, prepare)
        arrays = _stored(folder, f"{title}-{interpolation}", key, make)
        passes[interpolation, resize] = _features(arrays)
    features = {name: getattr(passes[head.source.interpolation, head.source.resize], head.source.feature) for name, head in heads.items()}
    return replace(table, evidence=replace(table.evidence, released=features))
