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

from detector.data.datasets import DataError, Example
from detector.hub.weights import tensor_digest
from detector.methods.registry import heads_folders
from detector.progress import progress
from interpret.attribution.cam import DEFAULT, ERROR, WindowHead, heatmaps, layers_of, reference_scales
from interpret.attribution.faithfulness import failures, load, maps_report, measure_maps
from interpret.attribution.splices import CONTROL, KINDS, make_splices, splice_test

FILE = "maps.json"
UNMEASURED = 1.0  # logits per window at full colour, where no scale was measured
SCALE_IMAGES = 30
CHOOSING = 20  # splices of each kind by which the default layer is chosen


@dataclass(frozen=True)
class Measures:
    """scales: layer → value at full colour. results: of `measure_maps`, or None where this head was not measured.

    split: the images behind `results`. default: the layer that is shown first.
    """

    scales: Mapping[str, float] = field(default_factory=dict)
    results: Mapping | None = None
    split: str = ""
    default: str = DEFAULT

    def scale(self, layer: str) -> float:
        """The value at full colour, the same for every image."""
        return self.scales.get(layer, UNMEASURED)

    def failed(self, layer: str) -> list[str] | None:
        """The tests that a layer's map failed; None where it was not measured."""
        return failures(self.results, layer) if self.results and layer in self.results["randomisation"] else None

    def trust(self, layer: str) -> str:
        """How far a layer's map can be trusted, in one or two sentences (Markdown)."""
        failed = self.failed(layer)
        if failed is None:
            return "How far this map can be trusted has not been measured for this head (`python -m detector measure-maps`)."
        counts = self.results["counts"]
        tests = f"on our tests ({counts['images']} images and {counts['triples']} splices of each kind, {self.split})"
        if not failed:
            return f"This map **beats its baselines** {tests}."
        return (
            f"This map **does not beat its baselines** {tests}: it failed {_listed(failed)}. Take it as a hint at what the detector "
            "reads, not as proof of which part is synthetic."
        )


def _listed(phrases: Sequence[str]) -> str:
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def fingerprint(head) -> str:
    """Sixteen hex digits of all that training made of a head (its `tensors()`)."""
    return tensor_digest(head.tensors())[:16]


def path_of(backbone: str) -> Path:
    """Where a backbone's `maps.json` lies: beside its folder of heads."""
    return heads_folders(backbone)[0].parent / FILE


# --- measuring -----------------------------------------------------------------------------------------------------


def chosen(examples: Sequence[Example], split: str) -> list[Example]:
    """The examples whose split begins with `split`, such as "test". DataError, one sentence, if a class is missing."""
    found = [example for example in examples if example.split.startswith(split)]
    if {example.label for example in found} != {0, 1}:
        known = ", ".join(sorted({example.split or "(none)" for example in examples}))
        raise DataError(f"There are no images of both classes in a split '{split}'; this folder has the splits {known}.")
    return found


def measure(head: WindowHead, examples: Sequence[Example], split: str, seed: int = 0, images: int = 40, triples: int = 40) -> dict:
    """Scales on the `val` split, everything of `measure_maps` on `split`: plain numbers, NaN where something is undefined."""
    tested, validation = chosen(examples, split), chosen(examples, "val")
    order = np.random.default_rng(seed).permutation(len(validation))[:SCALE_IMAGES]
    scales = reference_scales(head, [load(validation[i]) for i in order])
    known = {"fingerprint": fingerprint(head), "split": split, "scales": scales} | choose_default(head, validation, seed)
    return known | measure_maps(head, tested, seed, images, triples)


def choose_default(head: WindowHead, validation: Sequence[Example], seed: int) -> dict:
    """ "default": the signed layer that tells the origins in splices of validation images best, and "validation": all their AUROC.

    Best by the mean over a synthetic region in a real image and the reverse, so that a map that follows content alone gains nothing.
    Choice, not from the paper.
    """
    layers = [layer for layer in layers_of(head) if layer != ERROR]
    kinds = [kind for kind in KINDS if kind != CONTROL]
    splices = [splice for splice in make_splices(validation, CHOOSING, seed, load) if splice.kind in kinds]
    found = splice_test(
        lambda pixels: {layer: own.values for layer, own in heatmaps(head, pixels, layers).items()},
        progress(splices, title="default"),
        seed,
    )
    both = {layer: float(np.mean([found[layer][kind]["auroc"][0] for kind in kinds])) for layer in layers}
    return {"default": max(both, key=both.get), "validation": both}


def report(measured: Mapping) -> str:
    """The card's tables and a sentence on each layer."""
    chosen_by = ", ".join(f"{layer} {value:.2f}" for layer, value in measured["validation"].items())
    return (
        f"Measured on {measured['split']}; colours scaled on val. Shown first: {measured['default']}, which tells the origins in "
        f"{CHOOSING} pairs of splices of val best (AUROC: {chosen_by}).\n\n{maps_report(measured)}"
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
    """`_without_nan` undone."""
    if isinstance(value, dict):
        return {name: _with_nan(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_with_nan(inner) for inner in value]
    return math.nan if value is None else value


def store(measured: Mapping, path: Path) -> None:
    """Write what `measure` found."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_without_nan(measured), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def stored(path: Path) -> dict:
    """What `store` wrote."""
    return _with_nan(json.loads(path.read_text(encoding="utf-8")))


def read(path: Path, head) -> Measures:
    """What was measured of this very head; empty where nothing was, or where the file tells of another one."""
    if not path.is_file():
        return Measures()
    measured = stored(path)
    if measured["fingerprint"] != fingerprint(head):
        return Measures()
    return Measures(measured["scales"], measured, measured["split"], measured["default"])
