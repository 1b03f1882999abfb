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
from interpret.attribution.cam import DEFAULT_LAYER, ERROR_LAYER, WindowHead, heatmaps, layers_of, reference_scales
from interpret.attribution.faithfulness import MeasurePlan, failures, load, maps_report, measure_maps
from interpret.attribution.splices import CONTROL, KINDS, make_splices, splice_test

FILE = "maps.json"
UNMEASURED_SCALE = 1.0  # logits per window at full colour, where no scale was measured
SCALE_IMAGES = 30
DEFAULT_SPLICES = 20  # splices of each kind by which the default layer is chosen


@dataclass(frozen=True)
class Measures:
    """scales: layer → value at full colour. results: of `measure_maps`, or None where this head was not measured.

    split: the images behind `results`. default: the layer that is shown first.
    """

    scales: Mapping[str, float] = field(default_factory=dict)
    results: Mapping | None = None
    split: str = ""
    default: str = DEFAULT_LAYER

    def scale(self, layer: str) -> float:
        """The value at full colour, the same for every image."""
        return self.scales.get(layer, UNMEASURED_SCALE)

    def failed(self, layer: str) -> list[str] | None:
        """The tests that a layer's map failed; None where it was not measured."""
        return failures(self.results, layer) if self.results and layer in self.results["randomisation"] else None

    def trust(self, layer: str) -> str:
        """How far a layer's map can be trusted, in one or two sentences (Markdown)."""
        failed = self.failed(layer)
        if failed is None or self.results is None:
            return "How far this map can be trusted has not been measured for this head (`python -m detector measure-maps`)."
        counts = self.results["counts"]
        tests = f"on our tests ({counts['images']} images and {counts['triples']} splices of each kind, {self.split})"
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


def own_path(backbone: Backbone) -> Path:
    """Where the user's `maps.json` of a backbone lies: beside the heads that the user makes."""
    return home_folder(backbone).parent / FILE


def path_of(backbone: Backbone | str) -> Path:
    """The `maps.json` of a backbone, beside one of its folders of heads: the user's own where there is one."""
    paths = [folder.parent / FILE for folder in heads_folders(backbone)]
    return next((path for path in paths if path.is_file()), paths[0])


# --- measuring -----------------------------------------------------------------------------------------------------


def of_split(examples: Sequence[Example], split: str) -> list[Example]:
    """The examples whose split begins with `split`, such as "test". DataError, one sentence, if a class is missing."""
    selection = [example for example in examples if example.split.startswith(split)]
    if {example.label for example in selection} != {0, 1}:
        splits = ", ".join(sorted({example.split or "(none)" for example in examples}))
        raise DataError(f"There are no images of both classes in a split '{split}'; this folder has the splits {splits}.")
    return selection


def measure(head: WindowHead, examples: Sequence[Example], split: str, plan: MeasurePlan = MeasurePlan()) -> dict:
    """Scales on the `val` split, everything of `measure_maps` on `split`: plain numbers, NaN where something is undefined."""
    tested, validation = of_split(examples, split), of_split(examples, "val")
    order = np.random.default_rng(plan.seed).permutation(len(validation))[:SCALE_IMAGES]
    scales = reference_scales(head, [load(validation[i]) for i in order])
    start = {"fingerprint": fingerprint(head), "split": split, "scales": scales}
    return start | choose_default(head, validation, plan.seed) | measure_maps(head, tested, plan)


def choose_default(head: WindowHead, validation: Sequence[Example], seed: int) -> dict:
    """ "default": the signed layer with the highest AUROC on splices of validation images; "validation": the AUROC of each.

    Best by the mean over a synthetic region in a real image and the reverse, so that a map that follows content alone gains nothing.
    Choice, not from the paper.
    """
    layers = [layer for layer in layers_of(head) if layer != ERROR_LAYER]
    kinds = [kind for kind in KINDS if kind != CONTROL]
    splices = [splice for splice in make_splices(validation, DEFAULT_SPLICES, seed, load) if splice.kind in kinds]
    results = splice_test(
        lambda pixels: {layer: heatmap.values for layer, heatmap in heatmaps(head, pixels, layers).items()},
        progress(splices, title="default"),
        seed,
    )
    both = {layer: float(np.mean([results[layer][kind]["auroc"][0] for kind in kinds])) for layer in layers}
    return {"default": max(both, key=both.__getitem__), "validation": both}


def report(measures: Mapping) -> str:
    """The card's tables and a sentence on each layer."""
    aurocs = ", ".join(f"{layer} {value:.2f}" for layer, value in measures["validation"].items())
    return (
        f"Measured on {measures['split']}; colours scaled on val. Shown first: {measures['default']}, which tells the origins in "
        f"{DEFAULT_SPLICES} pairs of splices of val best (AUROC: {aurocs}).\n\n{maps_report(measures)}"
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


def read(path: Path, head) -> Measures:
    """The measures of this very head; empty where there is no file or the file belongs to another head."""
    if not path.is_file():
        return Measures()
    measures = load_json(path)
    if measures["fingerprint"] != fingerprint(head):
        return Measures()
    return Measures(measures["scales"], measures, measures["split"], measures["default"])
