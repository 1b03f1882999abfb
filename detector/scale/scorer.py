"""A batch of pictures in, an Arrow table of their scores out: what both engines do with a batch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from detector.analysis import Analysis
from detector.assets import EMBEDDED
from detector.clip import backbone as backbone_module
from detector.clip.captioning import load_captioner
from detector.data import images, windows
from detector.detectors.names import parse_all
from detector.devices import to_numpy
from detector.hub.catalogue import TRAININGS
from detector.methods.base import Evidence
from detector.methods.item import alignment
from detector.methods.physical import features as physical
from detector.methods.residual import features as residual
from detector.records import AnalysisRecord
from detector.scale.items import Batch
from detector.suite import Suite

if TYPE_CHECKING:
    import pyarrow as pa

VERSIONS = (images.VERSION, backbone_module.VERSION, physical.VERSION, residual.VERSION, alignment.VERSION, windows.VERSION)
ALIGNMENT = ("image", "caption", "crops", "phrases", "count")  # fields of `Alignment` that a head is trained on
PREFIX = "item_"  # of their columns


@dataclass(frozen=True)
class Scoring:
    """What is computed of each picture. detectors: names as `python -m detector heads` lists them, the first leads; () for all of the
    backbone. backbone: None: the leader's. caption: the user's words for all pictures. features: embeddings are columns, too. form:
    "parquet" for typed columns, "jsonl" for one JSON object a picture. released: training set of the released heads, see `Suite.load`.
    alone: nothing is computed but what the named detectors read. captioner: as `--captioner`; None: the backbone's default.
    """

    detectors: tuple[str, ...] = ()
    backbone: str | None = None
    device: str | None = None
    caption: str | None = None
    features: bool = False
    form: str = "parquet"
    released: str = TRAININGS[0]
    alone: bool = False
    captioner: str | None = None

    def load(self) -> Suite:
        """The suite. Errors as for `Suite.load` and `Suite.load_detectors`."""
        suite = self._suite()
        if self.captioner and suite.reads("alignment"):
            return suite.with_captioner(load_captioner(self.captioner, self.device))
        return suite

    def _suite(self) -> Suite:
        names = parse_all(self.detectors)
        if names and self.alone:
            return Suite.load_detectors(names, self.device)
        if names:
            return Suite.load_led_by(names, self.backbone, self.device)
        return Suite.load(self.backbone or EMBEDDED, self.device, training=self.released)


class Scorer:
    """A loaded suite, and the columns of its tables. Loading takes seconds, so that an engine makes one and uses it for many batches."""

    def __init__(self, scoring: Scoring):
        self.scoring, self.suite = scoring, scoring.load()

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits of everything that a score depends on besides the picture: weights, heads, versions, leader, caption."""
        suites = [[suite.backbone.fingerprint, *sorted(suite.digests.items())] for suite in self.suite.suites]
        leader = self.suite.roster.leading.name if self.suite.roster.leading else ""
        text = json.dumps([VERSIONS, suites, leader, self.scoring.caption, self.scoring.features, self.scoring.form, self.scoring.released])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns of the tables, taken from one picture of noise: what the suite says of it, it says of every picture."""
        pixels = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
        photo = images.load_photo(pixels)
        evidence = self._evidence([photo])
        return self._schema(self.suite.analyses([photo], evidence)[0], evidence)

    def table(self, batch: Batch) -> pa.Table:
        """One row for each picture of the batch, in order."""
        import pyarrow as pa

        rows = [{name: _printable(value) for name, value in row.items()} for row in self._rows(batch)]
        return pa.Table.from_pylist(rows, self.schema)

    # --- rows ---

    def _evidence(self, photos: Sequence[images.Photo]) -> Evidence:
        return self.suite.evidence(photos, None if self.scoring.caption is None else [self.scoring.caption] * len(photos))

    def _rows(self, batch: Batch) -> list[dict[str, Any]]:
        photos = [picture.photo for picture in batch if picture.photo]
        evidence = self._evidence(photos) if photos else None
        analyses = iter(self.suite.analyses(photos, evidence) if evidence is not None else [])
        features = iter(feature_rows(evidence) if evidence is not None and self._with_features else [{}] * len(photos))
        rows = []
        for picture in batch:
            analysis = next(analyses) if picture.photo else Analysis(None, error=picture.error, backbone=self.suite.backbone.name)
            start = {"key": picture.key, "sha256": picture.digest, "source": picture.source, "truth": picture.truth}
            record = replace(analysis, file=picture.key).to_dict()
            values = self._line(start, record) if self.scoring.form == "jsonl" else self._columns(record)
            rows.append(start | values | (next(features) if picture.photo else {}))
        return rows

    @staticmethod
    def _line(start: dict[str, Any], record: AnalysisRecord) -> dict[str, Any]:
        """The JSON object of a picture, as text."""
        return {"error": record["error"], "record": json.dumps(start | record, ensure_ascii=False, allow_nan=False)}

    def _columns(self, record: AnalysisRecord) -> dict[str, Any]:
        """The typed columns that come from an analysis."""
        row: dict[str, Any] = {name: record.get(name) for name in ("file", "width", "height", "format", "error", "backbone")}
        if verdict := record.get("verdict"):
            row |= {"label": verdict["label"], "probability": verdict["probability"], "logit": verdict["logit"]}
        for name, score in record.get("detectors", {}).items():
            row |= {f"{name}_probability": score["probability"], f"{name}_logit": score["logit"]}
        concepts = {concept["name"]: concept["contribution"] for concept in record.get("concepts", [])}
        row["concepts"] = [concepts[name] for name in self._concept_names] if concepts else None
        units = record.get("orthogonal")
        return row | dict(record.get("physical", {})) | {"units": units["contributions"] if units else None}

    # --- columns ---

    @property
    def _with_features(self) -> bool:
        return self.scoring.features and self.scoring.form == "parquet"

    @cached_property
    def _concept_names(self) -> list[str]:
        return json.loads((self.schema.metadata or {}).get(b"concepts", b"[]"))

    def _schema(self, sample: Analysis, evidence: Evidence) -> pa.Schema:
        import pyarrow as pa

        start = [("key", pa.string()), ("sha256", pa.string()), ("source", pa.string()), ("truth", pa.int8())]
        if self.scoring.form == "jsonl":
            return pa.schema([*start, ("error", pa.string()), ("record", pa.large_string())])
        text, size = pa.string(), pa.int32()
        number = pa.float32()  # OpenCV's gradients differ in the 13th digit with the place of the pixels in memory
        fields = [*start, ("file", text), ("width", size), ("height", size), ("format", text), ("error", text), ("backbone", text)]
        fields += [("label", text), ("probability", number), ("logit", number)]
        fields += [(f"{name}_{what}", number) for name in self.suite.roster.names for what in ("probability", "logit")]
        fields += [(name, number) for name in physical.NAMES]
        concepts = sorted(concept["name"] for concept in sample.concepts)
        fields += [("concepts", pa.list_(pa.float32(), len(concepts)))] if concepts else []
        fields += [("units", pa.list_(pa.float32(), len(sample.orthogonal["contributions"])))] if sample.orthogonal else []
        if self._with_features:
            fields += [(name, _list_type(value)) for name, value in feature_rows(evidence)[0].items()]
        backbone = self.suite.backbone
        facts = {"backbone": backbone.name, "weights": backbone.fingerprint, "heads": json.dumps(self.suite.digests)}
        facts["concepts"] = json.dumps(concepts)
        return pa.schema(fields, facts)


def _printable(value: Any) -> Any:
    """A text with what no UTF-8 can hold escaped, as in the name of a file in another encoding; anything else as it is."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


def feature_rows(evidence: Evidence) -> list[dict[str, Any]]:
    """For each of B pictures what heads are trained on: pooled and projected features, and where there are captions the fields of
    `Alignment`, all as flat float32 arrays, the number of objects as a whole number."""
    columns = {"pooled": to_numpy(evidence.clip.pooled), "projected": to_numpy(evidence.clip.projected)}
    if evidence.alignment is not None:
        columns |= {PREFIX + name: to_numpy(getattr(evidence.alignment, name)) for name in ALIGNMENT}
    flat = {name: values.reshape(len(values), -1) if values.ndim > 1 else values for name, values in columns.items()}
    return [{name: values[row] for name, values in flat.items()} for row in range(len(evidence))]


def _list_type(value: Any) -> pa.DataType:
    import pyarrow as pa

    return pa.list_(pa.float32(), len(value)) if np.ndim(value) else pa.int8()
