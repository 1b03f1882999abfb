"""Train the heads of a backbone on a labelled folder: features once, then each method, then the verdict on `val`.

Both classes get the same random copies (crop, scale, blur, compression). Early stopping and calibration use the `val` split,
the verdict and its band that split and one random copy of each of its images; test splits are never read here.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from detector.assets import EMBEDDED
from detector.clip import backbone as backbone_module
from detector.clip.backbone import Backbone, ClipFeatures
from detector.clip.captioning import captioner
from detector.clip.vocabulary import vocabulary
from detector.data import augmentation as augment
from detector.data import images, windows
from detector.data.datasets import Example, Pictures, read_dataset, training_splits, views
from detector.methods.base import Evidence, HeadCard, save_head
from detector.methods.concepts.head import concept_directions, fit_concepts
from detector.methods.item import head as item
from detector.methods.item.head import AT_ONCE, Alignment, extract_alignment, fit_item, from_arrays
from detector.methods.orthogonal.head import fit_linear_probe, fit_orthogonal
from detector.methods.orthogonal.naming import name_units
from detector.methods.physical import features as physical
from detector.methods.physical.features import PAPER_CORE
from detector.methods.physical.head import PhysicalHead
from detector.methods.physical_clip.head import PhysicalClipHead, fit_physical_clip, with_text
from detector.methods.physical_clip.text import quantiles
from detector.methods.registry import CAPTIONED, METHODS, PIXEL_METHODS, TOWER_METHODS, expected_card, find_heads, heads_folders, read_head
from detector.methods.residual import head as residual
from detector.methods.residual.head import ResidualHead
from detector.methods.sdd.head import SddConfig, SddHead
from detector.methods.sdd.train import SHIPPED, SHIPPED_RECIPE, SddRecipe, Teacher, fit_sdd, residual_teacher
from detector.progress import progress
from detector.verdict.fusion import Fusion, fit_logistic
from detector.verdict.reference import Reference

CAPTIONED_COPIES = 1  # random copies of a training image that get a caption: writing one costs more than all else together
VIEWS = (images.VERSION, augment.VERSION)  # what every kept feature depends on: the pixels of a file and of its random copies
VAL_COPIES = 1  # of a validation image, for the verdict alone: what it says must hold of pictures that were saved again, too


@dataclass(frozen=True)
class Table:
    """Evidence and labels of one split. copy: 0 for the image as it is, 1… for its random copies. sources: one a row.

    pictures: the rows' images, which are also `evidence.pixels`; none in a table that was made up.
    """

    evidence: Evidence
    labels: np.ndarray
    sources: np.ndarray
    copy: np.ndarray
    pictures: Pictures = Pictures(())

    def rows(self, mask: np.ndarray) -> Table:
        seen = self.evidence
        patches = seen.clip.patches[mask] if seen.clip.patches is not None else None
        pictures = self.pictures.rows(mask) if self.pictures else self.pictures
        evidence = Evidence(ClipFeatures(seen.clip.pooled[mask], seen.clip.projected[mask], patches), seen.descriptors[mask],
                            seen.residual[mask], pixels=pictures, alignment=seen.alignment.rows(mask) if seen.alignment else None,
                            windowed={name: logits[mask] for name, logits in seen.windowed.items()})
        return Table(evidence, self.labels[mask], self.sources[mask], self.copy[mask], pictures)

    def originals(self) -> Table:
        """The rows of the images as they are."""
        return self.rows(self.copy == 0)

    def pooled(self, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """Features and labels on a device, to train on."""
        return self.evidence.clip.pooled.to(device), torch.as_tensor(self.labels, dtype=torch.float32, device=device)

    def projected(self, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """Features and labels on a device, to train on."""
        return self.evidence.clip.projected.to(device), torch.as_tensor(self.labels, dtype=torch.float32, device=device)

    def aligned(self, device: torch.device | str = "cpu") -> tuple[Alignment, Tensor]:
        """What ITEM reads and labels, on a device, to train on."""
        return self.evidence.alignment.to(device), torch.as_tensor(self.labels, device=device)


# --- features ------------------------------------------------------------------------------------------------------


def _mapped(measure: Callable[[Example], object], examples: list[Example]) -> Iterator:
    """`measure` of every example, in order, in threads: Pillow, OpenCV and numpy let go of the interpreter."""
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        # a few at a time: results hold pixels, and all of them at once would fill the memory
        for start in range(0, len(examples), 16):
            yield from pool.map(measure, examples[start : start + 16])


def extract_pixels(examples: list[Example], copies: int, seed: int, title: str) -> dict[str, np.ndarray]:
    """descriptors (N, 15) and residual (N, F) of every view of every example."""

    def measure(example: Example) -> tuple[list, list]:
        seen = views(example, copies, seed)
        return [physical.measure(view) for view in seen], [residual.features(view) for view in seen]

    rows = list(progress(_mapped(measure, examples), len(examples), f"{title}: pixels"))
    return {"descriptors": np.stack([d for described, _ in rows for d in described]),
            "residual": np.stack([r for _, residuals in rows for r in residuals])}


def extract_clip(backbone: Backbone, examples: list[Example], copies: int, seed: int, title: str) -> dict[str, np.ndarray]:
    """pooled (N, D) and projected (N, E) of every view of every example; patch tokens are not kept."""

    def measure(example: Example) -> Tensor:
        return torch.stack([backbone.prepare(view) for view in views(example, copies, seed)])

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
    """Captions, objects and their embeddings of every view of every example, see `item.extract_alignment`."""
    seen = _mapped(lambda example: views(example, copies, seed), examples)
    return extract_alignment(backbone, progress(seen, len(examples), f"{title}: captions"))


def _kept(folder: Path | None, name: str, key: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """`make()`, kept in `folder` as an .npz under a hash of `key`; not kept without a folder."""
    if folder is None:
        return make()
    path = folder / f"{re.sub(r'[^A-Za-z0-9_.-]', '-', name)}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".partial.npz")
        np.savez(temporary, **make())
        os.replace(temporary, path)
    with np.load(path) as saved:
        return dict(saved)


def _named(examples: Sequence[Example], copies: int, seed: int) -> str:
    return "".join(f"{e.path} {e.path.stat().st_mtime_ns} {e.label}\n" for e in examples) + f"{copies} {seed}"


def cached(backbone: Backbone, examples: list[Example], copies: int, seed: int, folder: Path | None, title: str) -> Table:
    """Evidence of every view; kept under a key of the files, the settings, the versions of the features and the
    backbone's weights."""
    named = _named(examples, copies, seed)
    pixels = _kept(folder, f"{title}-pixels", " ".join([named, *VIEWS, physical.VERSION, residual.VERSION]),
                   lambda: extract_pixels(examples, copies, seed, title))
    clip = _kept(folder, f"{title}-clip", " ".join([named, *VIEWS, backbone_module.VERSION, backbone.fingerprint]),
                 lambda: extract_clip(backbone, examples, copies, seed, title))
    features = ClipFeatures(torch.from_numpy(clip["pooled"]), torch.from_numpy(clip["projected"]), None)
    each = copies + 1
    labels, sources = (np.repeat(values, each) for values in ([e.label for e in examples], [e.source for e in examples]))
    copy = np.tile(np.arange(each), len(examples))
    pictures = Pictures([e for e in examples for _ in range(each)], copy.tolist(), seed)
    return Table(Evidence(features, **pixels, pixels=pictures), labels, sources, copy, pictures)


def windowed(table: Table, head: object, folder: Path | None, title: str) -> Table:
    """The table with the logits of an SDD head, which takes long; kept like the rest. Other heads need nothing."""
    if not isinstance(head, SddHead) or head.identity in table.evidence.windowed:
        return table
    rows = zip(table.pictures.examples, table.pictures.copy, strict=True)
    key = f"{head.identity} {table.pictures.seed} " + "".join(f"{e.path} {e.path.stat().st_mtime_ns} {copy}\n" for e, copy in rows)
    kept = _kept(folder, f"{title}-sdd", " ".join([key, *VIEWS, windows.VERSION]), lambda: {"logits": head.unscaled(table.pictures)})
    known = {**table.evidence.windowed, head.identity: kept["logits"]}
    return replace(table, evidence=replace(table.evidence, windowed=known))


def captioned(table: Table, backbone: Backbone, seed: int, folder: Path | None, title: str) -> Table:
    """The table's rows up to CAPTIONED_COPIES, with `alignment`; kept like the rest. seed, title: as for `cached`."""
    examples = table.pictures.originals()
    copies = min(CAPTIONED_COPIES, int(table.copy.max()))
    parts = [*VIEWS, backbone_module.VERSION, item.VERSION, backbone.fingerprint, captioner(backbone)]
    key = " ".join([_named(examples, copies, seed), *parts])
    arrays = _kept(folder, f"{title}-captions", key, lambda: extract_captioned(backbone, examples, copies, seed, title))
    kept = table.rows(table.copy <= copies)
    return replace(kept, evidence=replace(kept.evidence, alignment=from_arrays(arrays)))


# --- methods -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fitted:
    """A head and what its card says besides."""

    head: object
    details: dict


def _fit_physical(train: Table, val: Table, backbone: Backbone, seed: int) -> Fitted:
    plain = train.originals()
    reference = (plain.evidence.descriptors, plain.labels)
    return Fitted(PhysicalHead.fit(train.evidence.descriptors, train.labels, reference), {})


def _fit_residual(train: Table, val: Table, backbone: Backbone, seed: int) -> Fitted:
    validation = (val.evidence.residual, val.labels)
    return Fitted(ResidualHead.fit(train.evidence.residual, train.labels, seed=seed, validation=validation), {})


def _fit_linear_probe(train: Table, val: Table, backbone: Backbone, seed: int) -> Fitted:
    return Fitted(fit_linear_probe(train.pooled(backbone.device), val.pooled(backbone.device), seed=seed), {})


def _fit_orthogonal(train: Table, val: Table, backbone: Backbone, seed: int) -> Fitted:
    head = fit_orthogonal(train.pooled(backbone.device), val.pooled(backbone.device), seed=seed)
    pooled, projected = val.evidence.clip.pooled, val.evidence.clip.projected
    return Fitted(head, name_units(head.weight, concept_directions(backbone), backbone.projection, vocabulary(), pooled, projected))


def _fit_concepts(train: Table, val: Table, backbone: Backbone, seed: int) -> Fitted:
    parts = [table.projected(backbone.device) for table in (train, val)]
    head = fit_concepts(*parts, concept_directions(backbone), seed=seed)
    return Fitted(head, {"concepts": [concept.name for concept in vocabulary()]})


def _fit_item(train: Table, val: Table, backbone: Backbone, seed: int) -> Fitted:
    parts = [table.aligned(backbone.device) for table in (train, val)]
    return Fitted(fit_item(*parts, seed=seed), {"captioner": captioner(backbone)})


def _fit_physical_clip(train: Table, val: Table, backbone: Backbone, seed: int) -> Fitted:
    limits = quantiles(train.originals().evidence.descriptors)
    told = [with_text(backbone, t.evidence, t.evidence.alignment.texts, limits, PAPER_CORE) for t in (train, val)]
    parts = [(replace(e, clip=e.clip.to(backbone.device)), t.labels) for e, t in zip(told, (train, val), strict=True)]
    return Fitted(fit_physical_clip(*parts, limits, seed=seed), {"captioner": captioner(backbone)})


@dataclass(frozen=True)
class SddRun:
    """How `sdd` is trained. checkpoints: folder of what `resume` goes on from, a file for each backbone and seed."""

    config: SddConfig = SHIPPED
    recipe: SddRecipe = SHIPPED_RECIPE
    checkpoints: Path | None = None
    resume: bool = False


def sdd_teacher(train: Table, val: Table, backbone: Backbone, seed: int) -> Teacher:
    """The `residual` head trained on these tables, as the teacher of SDD's enhancer."""
    return residual_teacher(calibrated(_fit_residual(train, val, backbone, seed).head, val, backbone))


def _fit_sdd(train: Table, val: Table, backbone: Backbone, seed: int, run: SddRun = SddRun()) -> Fitted:
    checkpoint = run.checkpoints / f"{re.sub(r'[^A-Za-z0-9_.-]', '-', backbone.name)}-{seed}.pt" if run.checkpoints else None
    parts = [table.pictures.originals() for table in (train, val)]
    trained = fit_sdd(*parts, backbone, run.config, run.recipe, seed, checkpoint, run.resume,
                      partial(sdd_teacher, train, val, backbone, seed))
    return Fitted(trained.head, {**trained.head.details(), "recipe": asdict(run.recipe), "seed": seed, "epochs": trained.log})


FITTERS: dict[str, Callable[[Table, Table, Backbone, int], Fitted]] = {
    "physical": _fit_physical,
    "residual": _fit_residual,
    "linear_probe": _fit_linear_probe,
    "orthogonal": _fit_orthogonal,
    "concepts": _fit_concepts,
    "item": _fit_item,
    "physical_clip": _fit_physical_clip,
    "sdd": _fit_sdd,
}


def logits_of(head, table: Table, backbone: Backbone) -> np.ndarray:
    """(N,) logits of a method on a table; NaN for images that it cannot read."""
    evidence = table.evidence
    if isinstance(head, PhysicalClipHead):
        evidence = head.with_text(backbone, evidence, evidence.alignment.texts)
    return np.asarray(head.score(evidence).logit, np.float64)


def calibrated(head, val: Table, backbone: Backbone):
    """The head with its logit Platt-scaled on `val`, so that σ(logit) is a probability; parts stay exact."""
    logits = logits_of(head, val, backbone)
    read = np.isfinite(logits)
    slope, offset = fit_logistic(logits[read, None], val.labels[read], 1e-3)
    return head.scaled(float(slope), float(offset))


def measured(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """AUROC on validation images that the method could read."""
    read = np.isfinite(logits)
    return {"auroc_val": round(float(roc_auc_score(labels[read], logits[read])), 4)}


# --- the whole -----------------------------------------------------------------------------------------------------


def _card(method: str, backbone: Backbone, data: str, counts: tuple[int, int], copies: int, seed: int, details: dict,
          metrics: dict) -> HeadCard:
    views = "random windows of each, drawn anew in every epoch" if method in TOWER_METHODS else f"{copies} random copies of each"
    command = f"python -m detector train {method if method in FITTERS else 'all'} --data DIR --copies {copies} --seed {seed}"
    return replace(expected_card(method, backbone), command=command, details=details, metrics=metrics,
                   training_data=f"{data}: {counts[0]} training images, {views}; {counts[1]} for validation")


@dataclass(frozen=True)
class Splits:
    """Tables of `train` and `val`, both with random copies; `told`: of `train` with captions, None where no method learns from them."""

    train: Table
    val: Table
    told: Table | None


def split_tables(backbone: Backbone, data: Path, copies: int, seed: int, cache: Path | None, trained: set[str],
                 fused: set[str]) -> Splits:
    """What training some methods and fusing others needs. DataError where a class has too few images.

    Captions cost more than all else together: training images get them only where a method that reads them is trained.
    """
    train, val = training_splits(read_dataset(data), data)
    parts = ((train, copies, "train"), (val, min(copies, VAL_COPIES), "val"))
    tables = [cached(backbone, part, n, seed, cache, name) for part, n, name in parts]
    told = captioned(tables[0], backbone, seed, cache, "train") if trained & set(CAPTIONED) else None
    val_table = captioned(tables[1], backbone, seed, cache, "val") if fused & set(CAPTIONED) else tables[1]
    return Splits(tables[0], val_table, told)


def train_heads(methods: list[str], data: Path, backbone_name: str = EMBEDDED, out: Path | None = None, copies: int = 4,
                seed: int = 0, cache: Path | None = None, device: str | None = None, sdd: SddRun = SddRun()) -> dict[str, Path]:
    """Train the named methods, then fit the verdict over all heads that are present. Returns method → head file."""
    backbone = Backbone.load(backbone_name, device)
    present = set() if out else set(find_heads(backbone_name))
    splits = split_tables(backbone, data, copies, seed, cache, set(methods), set(methods) | present)
    train, told, val = splits.train, splits.told, splits.val
    counts = tuple(int((table.copy == 0).sum()) for table in (train, val))
    written, fitters = {}, FITTERS | {"sdd": partial(_fit_sdd, run=sdd)}
    for method in methods:
        fitted = fitters[method](told if method in CAPTIONED else train, val.originals(), backbone, seed)
        val = windowed(val, fitted.head, cache, "val")
        plain = val.originals()
        head = calibrated(fitted.head, plain, backbone)
        figures = measured(logits_of(head, plain, backbone), plain.labels)
        path = (out or target_folder(method, backbone_name)) / f"{method}.safetensors"
        seen = min(copies, CAPTIONED_COPIES) if method in CAPTIONED else copies
        save_head(path, head.tensors(), _card(method, backbone, data.name, counts, seen, seed, fitted.details, figures))
        written[method] = path
    written["reference"] = (out or heads_folders(backbone_name)[0]) / "reference.safetensors"
    card = _card("reference", backbone, data.name, counts, copies, seed, {}, {})
    save_head(written["reference"], reference_of(val.originals()).tensors(), card)
    written["verdict"] = fit_verdict(backbone_name, backbone, val, out, data.name, counts, copies, seed, written, cache)
    return written


def reference_of(val: Table, captions: int = 200, seed: int = 0) -> Reference:
    """The validation images, and as embeddings `captions` of their captions, drawn at random: half of real, half of synthetic images."""
    clip, alignment = val.evidence.clip, val.evidence.alignment
    drawn = alignment.caption[caption_rows(val.labels, alignment.usable.numpy(), captions, seed)] if alignment else clip.projected[:0]
    return Reference(clip.pooled, clip.projected, torch.as_tensor(val.labels), drawn)


def caption_rows(labels: np.ndarray, usable: np.ndarray, count: int, seed: int) -> np.ndarray:
    """`count` places with a usable caption, or fewer where there are none left, as many of each class; the same for the same seed."""
    generator = np.random.default_rng(seed)
    each = min(count // 2, *(int(((labels == label) & usable).sum()) for label in (0, 1)))
    return np.sort(np.concatenate([generator.permutation(np.flatnonzero((labels == label) & usable))[:each] for label in (0, 1)]))


def target_folder(method: str, backbone: str) -> Path:
    """The pixel methods' shared folder belongs to the embedded model's verdict; other backbones get copies of their own."""
    own, shared = heads_folders(backbone)
    return shared if method in PIXEL_METHODS and backbone == EMBEDDED else own


def fit_verdict(name: str, backbone: Backbone, val: Table, out: Path | None, data: str, counts, copies, seed, written, cache):
    """Fuse the heads just written and, without `out`, those that the backbone already has, on the logits of `val` and its copies."""
    paths = written if out else find_heads(name) | written
    heads, digests = {}, {}
    for method in sorted(set(paths) & set(METHODS)):
        heads[method], card = read_head(paths[method], method, backbone)
        digests[method] = card.digest
        val = windowed(val, heads[method], cache, "val")
    fusion = Fusion.fit({m: logits_of(h, val, backbone) for m, h in heads.items()}, val.labels, int(val.copy.max()) + 1)
    path = (out or heads_folders(name)[0]) / "verdict.safetensors"
    fused = fusion.fuse({method: fusion.logits[:, i] for i, method in enumerate(fusion.methods)})
    metrics = measured(fused[fusion.originals], val.labels[fusion.originals])
    save_head(path, fusion.tensors(), _card("verdict", backbone, data, counts, copies, seed, {"heads": digests}, metrics))
    return path
