"""What was measured of a head's heatmaps, stored beside it: the scale of their colours, and how far they can be trusted.

`measure` fills it on labelled images; `maps.json` keeps it with the fingerprint of the head it was measured on, so that a head
trained again never borrows the trust in an old one. The page, the command line and the card read it from there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from detector.clip.backbone import Backbone
from detector.data.datasets import DataError, Example
from detector.hub.weights import tensor_digest
from detector.methods.registry import heads_folders, home_folder
from detector.progress import progress
from interpret.attribution import exact
from interpret.attribution.bench import DIRECTED, in_threads
from interpret.attribution.cam import DEFAULT_LAYER, UNSIGNED
from interpret.attribution.exact import COMBINED_LAYER, RESIDUAL_LAYER, MapHeads
from interpret.attribution.faithfulness import MeasurePlan, failures, load, measure_maps, measure_splices, worth
from interpret.attribution.map_tables import maps_report
from interpret.attribution.splices import make_splices

FILE = "maps.json"
UNMEASURED_SCALE = 1.0  # logits per window at full colour, where no scale was measured
SCALE_IMAGES = 15


@dataclass(frozen=True)
class Measures:
    """scales: layer → value at full colour. results: of `measure_maps`, or None where no head was measured.

    split: the images behind `results`. default: the layer that is shown first. stale: the layers that were measured with another head.
    """

    scales: Mapping[str, float] = field(default_factory=dict)
    results: Mapping | None = None
    split: str = ""
    default: str = DEFAULT_LAYER
    stale: tuple[str, ...] = ()

    def scale(self, layer: str) -> float:
        """The value at full colour, the same for every image."""
        return self.scales.get(layer, UNMEASURED_SCALE)

    def _measured(self, layer: str) -> Mapping | None:
        """The results that hold a layer; None where there are none of this head."""
        return self.results if self.results and layer in self.results["randomisation"] and layer not in self.stale else None

    def failed(self, layer: str) -> list[str] | None:
        """The tests that a layer's map failed; None where it was not measured."""
        results = self._measured(layer)
        return None if results is None else failures(results, layer)

    def worth(self, layer: str) -> str:
        """The map's measured worth in a few words: "AUROC 0.74 on splices, chance 0.50", or "not measured"."""
        results = self._measured(layer)
        return "not measured" if results is None else f"AUROC {worth(results, layer):.2f} on splices, chance 0.50"

    def trust(self, layer: str) -> str:
        """How far a layer's map can be trusted, in one or two sentences (Markdown)."""
        failed, results = self.failed(layer), self._measured(layer)
        if failed is None or results is None:
            return "How far this map can be trusted has not been measured for this head (`python -m detector measure-maps`)."
        draws = results["splices"]["maps"][layer]["draws"]
        tests = f"on our tests ({results['counts']['images']} images and {draws} splices of each kind, {self.split})"
        if not failed:
            return f"This map **beats its baselines** {tests}."
        return (
            f"This map **does not beat its baselines** {tests}: it failed {_join(failed)}. Take it as a hint at what the detector "
            "reads, not as proof of which part is synthetic."
        )


def _join(phrases: Sequence[str]) -> str:
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def fingerprint(head) -> str:
    """Sixteen hex digits of all that training made of a head (its `tensors()`)."""
    return tensor_digest(head.tensors())[:16]


def fingerprints(heads: MapHeads) -> dict[str, str]:
    """Method → `fingerprint` of its head."""
    return {"sdd": fingerprint(heads.sdd)} | ({"residual": fingerprint(heads.residual)} if heads.residual is not None else {})


def own_path(backbone: Backbone) -> Path:
    """Where the user's `maps.json` of a backbone lies: beside the heads that the user makes."""
    return home_folder(backbone).parent / FILE


def path_of(backbone: Backbone | str) -> Path:
    """The `maps.json` of a backbone, beside one of its folders of heads: the user's own where there is one."""
    paths = [folder.parent / FILE for folder in heads_folders(backbone)]
    return next((path for path in paths if path.is_file()), paths[0])


# --- measuring -----------------------------------------------------------------------------------------------------


def of_splits(examples: Sequence[Example], splits: Sequence[str]) -> list[Example]:
    """The examples of some splits, each named like "val" (of every folder) or "web/val" (of one). DataError, one sentence, if a class is
    missing or there is no such split."""
    names = {name: None for example in examples for name in (example.split, f"{example.corpus}/{example.split}")}
    if unknown := set(splits) - names.keys():
        raise DataError(f"There is no split '{min(unknown)}'; there are {', '.join(sorted(names))}.")
    selection = [example for example in examples if {example.split, f"{example.corpus}/{example.split}"} & set(splits)]
    if {example.label for example in selection} != {0, 1}:
        raise DataError(f"There are no images of both classes in the split(s) {', '.join(splits)}.")
    return selection


def default_splits(examples: Sequence[Example]) -> list[str]:
    """The names of all splits that begin with "test". DataError where there is none."""
    splits = sorted({example.split for example in examples if example.split.startswith("test")})
    if not splits:
        raise DataError("No split begins with 'test'; name one with --split.")
    return splits


def measure(heads: MapHeads, examples: Sequence[Example], splits: Sequence[str], plan: MeasurePlan = MeasurePlan()) -> dict:
    """Scales and the default on the `val` split, everything of `measure_maps` on `splits`: plain numbers, NaN where undefined."""
    tested, validation = of_splits(examples, splits), of_splits(examples, ["val"])
    order = np.random.default_rng(plan.seed).permutation(len(validation))[:SCALE_IMAGES]
    scales = reference_scales(heads, [load(validation[i]) for i in order])
    start = {"fingerprints": fingerprints(heads), "split": ", ".join(splits), "scales": scales}
    return start | choose_default(heads, validation, plan) | measure_maps(heads, tested, plan)


def reference_scales(heads: MapHeads, pictures: Sequence[np.ndarray], percentile: float = 99.0) -> dict[str, float]:
    """Layer → the value at which colours are full: a percentile of |map| over all pixels of validation images.

    To be stored beside the head and used for every image. Choice, not from the paper.
    """

    def strengths(pixels: np.ndarray) -> dict[str, np.ndarray]:
        return {layer: np.abs(image_map.values[::4, ::4]).ravel() for layer, image_map in exact.maps(heads, pixels).items()}

    samples = in_threads(strengths, progress(pictures, title="scale"))
    return {layer: float(np.nanpercentile(np.concatenate([s[layer] for s in samples]), percentile)) for layer in samples[0]}


def choose_default(heads: MapHeads, validation: Sequence[Example], plan: MeasurePlan) -> dict:
    """ "default": the signed layer that tells the origins in splices of validation images best; "validation": the AUROC of each.

    Best by the cautious `worth`, since the maps that take seconds are measured on fewer draws. Choice, not from the paper.
    """
    layers = [layer for layer in heads.layers() if layer not in UNSIGNED]
    draws = ([splice for splice in draw if splice.kind in DIRECTED] for draw in make_splices(validation, plan.splices, plan.seed, load))
    results = {"splices": measure_splices(heads, draws, plan, layers)}
    default = max(layers, key=lambda layer: worth(results, layer, cautious=True))
    return {"default": default, "validation": {layer: worth(results, layer) for layer in layers}}


def report(measures: Mapping) -> str:
    """The card's tables and a sentence on each layer."""
    aurocs = ", ".join(f"{layer} {value:.2f}" for layer, value in measures["validation"].items())
    return (
        f"Measured on {measures['split']}; colours scaled on val. Shown first: {measures['default']}, which tells the origins in "
        f"splices of val best at the lower end of the interval (AUROC: {aurocs}).\n\n{maps_report(measures)}"
    )


# --- storing -------------------------------------------------------------------------------------------------------


def _without_nan(value):
    """The same plain data with None for NaN, which JSON does not have."""
    if isinstance(value, Mapping):
        return {name: _without_nan(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _with_nan(value):
    """The reverse of `_without_nan`."""
    if isinstance(value, dict):
        return {name: _with_nan(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_with_nan(inner) for inner in value]
    return math.nan if value is None else value


def save(measures: Mapping, path: Path) -> None:
    """Write the result of `measure` as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_without_nan(measures), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def load_json(path: Path) -> dict:
    """The measures in a file that `save` has written."""
    return _with_nan(json.loads(path.read_text(encoding="utf-8")))


def read(path: Path, heads: MapHeads) -> Measures:
    """The measures of these very heads. Empty where there is no file, it is of an older version, or the sdd head is another one; without
    the maps that rest on `residual` where that head is another one."""
    if not path.is_file():
        return Measures()
    measures, current = load_json(path), fingerprints(heads)
    measured = measures.get("fingerprints", {})
    if measured.get("sdd") != current["sdd"]:
        return Measures()
    stale = (RESIDUAL_LAYER, COMBINED_LAYER) if measured.get("residual") != current.get("residual") else ()
    default = measures["default"] if measures["default"] in set(heads.layers()) - set(stale) else DEFAULT_LAYER
    scales = {layer: scale for layer, scale in measures["scales"].items() if layer not in stale}
    return Measures(scales, measures, measures["split"], default, stale)
