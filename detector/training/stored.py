"""Heads on features that `score --features` has stored: nothing is decoded or encoded again, and rows stay on disk (memory maps)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from detector.clip.backbone import Backbone, ClipFeatures
from detector.data.datasets import SPLITS, DataError
from detector.methods.base import Evidence, HeadCard, save_head
from detector.methods.calibration import calibrated, logits_of
from detector.methods.item.alignment import Alignment
from detector.methods.item.objects import MOST
from detector.methods.physical.features import NAMES
from detector.methods.registry import METHODS, read_head
from detector.methods.table import Table, Training
from detector.scale.scorer import ALIGNMENT, PREFIX
from detector.training.splits import Splits
from detector.training.train import Fit, TrainingRun, card_of, measured, reference_of
from detector.verdict.fusion import Fusion

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.dataset

TRAINABLE = ("linear_probe", "orthogonal", "concepts", "item")
VAL_SHARE = 0.15  # of the rows whose path names no split, as in `with_splits`
ROWS = 4096  # of the table in memory at once


@dataclass(frozen=True)
class StoredFeatures:
    """A table of scores with embeddings. place: a Parquet file or a folder of them. folder: where the memory maps lie. captions: whether
    what `item` reads is taken, too."""

    place: Path
    folder: Path
    captions: bool

    @cached_property
    def _data(self) -> pyarrow.dataset.Dataset:
        import pyarrow as pa
        import pyarrow.dataset

        try:
            return pyarrow.dataset.dataset(self.place, format="parquet", exclude_invalid_files=True)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"'{self.place}' is no Parquet table that can be read.") from error

    @cached_property
    def facts(self) -> dict[str, str]:
        """What the table says of itself."""
        return {name.decode(): value.decode() for name, value in (self._data.schema.metadata or {}).items()}

    def require(self, backbone: Backbone) -> None:
        """DataError, one sentence, unless the table holds embeddings of this backbone's weights."""
        missing = {"key", "truth", "source", "pooled", "projected"} - set(self._data.schema.names)
        if missing:
            raise DataError(f"'{self.place}' lacks the column(s) {', '.join(sorted(missing))}; write it with `score --features`.")
        if self.captions and PREFIX + "caption" not in self._data.schema.names:
            raise DataError(f"'{self.place}' holds no captions, which 'item' reads; score with a detector that reads captions.")
        if self.facts.get("weights") != backbone.fingerprint:
            raise DataError(f"'{self.place}' was made with other weights than those of '{backbone.name}'; score the pictures again.")

    # --- rows ---

    @cached_property
    def _places(self) -> dict[str, np.ndarray]:
        """Split → (N,) bool of all rows of the table: those with a class and embeddings."""
        table = self._data.to_table(columns=["key", "truth", "error"])
        usable = np.array(table["truth"].is_valid()) & np.array(table["error"].is_null())
        splits = np.array([split_of(key) for key in table["key"].to_pylist()])
        return {name: usable & (splits == name) for name in ("train", "val")}

    def tables(self) -> Splits:
        """The rows of `train` and of `val`. DataError, one sentence, where one of them lacks a class."""
        train, val = (self._table(name) for name in ("train", "val"))
        return Splits(train, val, train)

    def logits(self, method: str) -> np.ndarray | None:
        """(N,) stored logits of a method on the rows of `val`; None where the table has none."""
        column = f"{method}_logit"
        if column not in self._data.schema.names:
            return None
        return self._data.to_table(columns=[column])[column].to_numpy()[self._places["val"]].astype(np.float64)

    def _table(self, split: str) -> Table:
        mask = self._places[split]
        words = self._data.to_table(columns=["truth", "source"]).filter(mask)
        labels = words["truth"].to_numpy().astype(np.int64)
        if set(labels.tolist()) != {0, 1}:
            raise DataError(f"'{self.place}' has too few pictures of a class in its split '{split}'; add some of both classes.")
        arrays = self._arrays(split, mask)
        tensors = {name: torch.from_numpy(values) for name, values in arrays.items()}
        clip = ClipFeatures(tensors["pooled"], tensors["projected"], None)
        alignment = _alignment(tensors) if self.captions else None
        descriptors = self._data.to_table(columns=[name for name in NAMES if name in self._data.schema.names]).filter(mask)
        numbers = np.column_stack([column.to_numpy() for column in descriptors.columns] or [np.zeros((len(labels), 0))])
        evidence = Evidence(clip, numbers, np.zeros((len(labels), 0)), alignment=alignment)
        sources = np.array(words["source"].to_pylist(), dtype=str)
        return Table(evidence, labels, sources, np.zeros(len(labels), np.int64))

    def _arrays(self, split: str, mask: np.ndarray) -> dict[str, np.ndarray]:
        """Column → (N, D) memory map of the rows of the mask; written anew."""
        names = ["pooled", "projected"] + ([PREFIX + name for name in ALIGNMENT] if self.captions else [])
        self.folder.mkdir(parents=True, exist_ok=True)
        maps: dict[str, np.ndarray] = {}
        start = row = 0
        for batch in self._data.to_batches(columns=names, batch_size=ROWS):
            part = batch.filter(mask[row : row + len(batch)])
            row += len(batch)
            for name, values in _columns(part):
                if name not in maps:
                    shape = (int(mask.sum()), *values.shape[1:])
                    maps[name] = np.lib.format.open_memmap(self.folder / f"{split}-{name}.npy", "w+", np.float32, shape)
                maps[name][start : start + len(values)] = values
            start += len(part)
        return maps


def _columns(batch: pa.RecordBatch) -> Iterator[tuple[str, np.ndarray]]:
    """(name, (B, D) or (B,) float32) of a batch without empty values."""
    for name in batch.schema.names if len(batch) else []:
        column = batch.column(name)
        lists = hasattr(column, "flatten") and hasattr(column.type, "list_size")
        values = (column.flatten() if lists else column).to_numpy(zero_copy_only=False).astype(np.float32)
        yield name, values.reshape(len(batch), -1) if lists else values


def _alignment(tensors: Mapping[str, torch.Tensor]) -> Alignment:
    """What `item` reads, from its stored columns."""
    image, caption, crops, phrases, count = (tensors[PREFIX + name] for name in ALIGNMENT)
    objects = (len(image), MOST, image.shape[1])
    return Alignment(image, caption, crops.reshape(objects), phrases.reshape(objects), count.long())


def split_of(key: str) -> str:
    """The split that a folder of a key names, else `val` for a share of VAL_SHARE by a hash of the key, and `train`."""
    named = [SPLITS[part.lower()] for part in PurePosixPath(key).parts[:-1] if part.lower() in SPLITS]
    digest = hashlib.sha256(key.encode(errors="surrogateescape")).digest()
    return named[-1] if named else "val" if int.from_bytes(digest[:4], "big") / 2**32 < VAL_SHARE else "train"


# --- heads -------------------------------------------------------------------------------------------------------------


def train_stored(methods: Sequence[str], run: TrainingRun, folder: Path, options: Mapping[str, object]) -> dict[str, Path]:
    """Train heads on the stored features `run.data[0]`, then the verdict over them and the detectors whose logits are stored.

    folder: for memory maps, which are as large as the features. Returns method → head file, with "reference" and "verdict".
    """
    strange = [method for method in methods if method not in TRAINABLE]
    if strange:
        raise ValueError(f"Stored features train {', '.join(TRAINABLE)}, not {', '.join(strange)}; train that one with --data.")
    backbone = Backbone.load(run.backbone, run.device)
    stored = StoredFeatures(run.data[0], folder, "item" in methods)
    stored.require(backbone)
    splits = stored.tables()
    paths = {method: _train(method, run, Training(backbone, run.seed, options.get(method)), splits) for method in methods}
    paths["reference"] = run.folder("reference", backbone) / "reference.safetensors"
    save_head(paths["reference"], reference_of(splits.val).tensors(), _card(Fit("reference"), run, backbone, splits))
    paths["verdict"] = _fit_verdict(run, backbone, splits, stored, paths)
    return paths


def _card(fit: Fit, run: TrainingRun, backbone: Backbone, splits: Splits) -> HeadCard:
    method = fit.method if fit.method in METHODS else "…"
    command = f"python -m detector train {method} --features FILE.parquet --seed {run.seed}"
    counts = splits.counts
    data = f"{run.name}: stored features of {counts[0]} training images, without random copies; {counts[1]} for validation"
    return replace(card_of(fit, run, backbone, counts), command=command, training_data=data)


def _train(method: str, run: TrainingRun, training: Training, splits: Splits) -> Path:
    fitted = METHODS[method].fitter()(splits.training_table(method), splits.val, training)
    head = calibrated(fitted.head, splits.val, training.backbone)
    fit = Fit(method, fitted.details, measured(logits_of(head, splits.val, training.backbone), splits.val.labels))
    path = run.folder(method, training.backbone) / f"{method}.safetensors"
    save_head(path, head.tensors(), _card(fit, run, training.backbone, splits))
    return path


def _fit_verdict(run: TrainingRun, backbone: Backbone, splits: Splits, stored: StoredFeatures, written: Mapping[str, Path]) -> Path:
    """Over the new heads and those of `run.present` whose own logits are stored, on the rows of `val`."""
    digests = json.loads(stored.facts.get("heads", "{}"))
    logits: dict[str, np.ndarray] = {}
    used: dict[str, Any] = {}
    for method, path in sorted({**run.present(backbone), **written}.items()):
        if method not in METHODS:
            continue
        head, card = read_head(path, method, backbone)
        values = logits_of(head, splits.val, backbone) if method in written else stored.logits(method)
        if values is not None and (method in written or digests.get(method) == card.digest):
            logits[method], used[method] = values, card.digest
    fusion = Fusion.fit(logits, splits.val.labels)
    fused = fusion.fuse({method: fusion.logits[:, place] for place, method in enumerate(fusion.methods)})
    fit = Fit("verdict", {"heads": used}, measured(fused, splits.val.labels))
    path = run.folder("verdict", backbone) / "verdict.safetensors"
    save_head(path, fusion.tensors(), _card(fit, run, backbone, splits))
    return path
