"""The measures of maps as Markdown tables for a card."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from detector.markdown import markdown_table
from interpret.attribution.bench import DIRECTED
from interpret.attribution.faithfulness import BASELINES, trust
from interpret.attribution.splices import KINDS


def _cell(numbers: Sequence[float]) -> str:
    """Mean and interval; "–" where there was nothing to measure."""
    if math.isnan(numbers[0]):
        return "–"
    return "{:.2f} [{:.2f}, {:.2f}]".format(*numbers)


def maps_report(results: Mapping) -> str:
    """Tables of `measure_maps`' numbers with 95 % bootstrap intervals in brackets, and a sentence on each layer."""
    parts = [_splice_table(results), _gain_table(results), _pooled_table(results)]
    parts += [_group_table(results, "sizes", "size of region"), _group_table(results, "sources", "generator")]
    return "\n\n".join([*parts, _curve_table(results), _sentences(results)])


def _splice_table(results: Mapping) -> str:
    splices, counts = results["splices"], results["counts"]
    named = {name: measures for name, measures in splices["maps"].items()}
    named |= {f"*{name}* ({measures['reading']})": measures for name, measures in splices["baselines"].items()}
    rows = []
    for name, measures in named.items():
        kinds = measures["kinds"]
        others = [f"{kinds[kind][measure][0]:.2f}" for measure in ("ap", "pointing") for kind in DIRECTED]
        rows.append([name, str(measures["draws"]), *(_cell(kinds[kind]["auroc"]) for kind in KINDS), *others])
    shorter = [f"{measure} {short}" for measure in ("AP", "pointing") for short in ("s in r", "r in s")]
    return (
        f"Splices: {counts['splices']} of each kind; costly maps on the first {counts['subset']} alone. AUROC of places, 0.5 is "
        "chance; average precision (AP) and pointing game for synthetic in real (s in r) and real in synthetic (r in s). In italics, "
        "controls that know nothing of the detector, each in the reading that suits it best.\n\n"
        + markdown_table(["map", "draws", *KINDS, *shorter], rows)
    )


def _gain_table(results: Mapping) -> str:
    rows = [
        [name, *(f"{_cell(measures['gain'][kind]['auroc'])} over {measures['gain'][kind]['baseline']}" for kind in DIRECTED)]
        for name, measures in results["splices"]["maps"].items()
    ]
    return "Gain in AUROC over the control that is best on the same splices:\n\n" + markdown_table(["map", *DIRECTED], rows)


def _pooled_table(results: Mapping) -> str:
    rows = [
        [name, *(_cell(measures["pooled"][kind][form]) for form in ("logits", "standing out") for kind in DIRECTED)]
        for name, measures in results["splices"]["maps"].items()
    ]
    headers = [f"{kind}, {form}" for form in ("logits", "standing out") for kind in DIRECTED]
    return (
        "The places of all splices together, where a picture's own level counts too: logits against what stands out of its picture "
        "(within one picture both have the same AUROC).\n\n" + markdown_table(["map", *headers], rows)
    )


def _group_table(results: Mapping, group: str, title: str) -> str:
    """Of the maps that were measured on the most splices; of fewer the groups are too small."""
    most = max(measures["draws"] for measures in results["splices"]["maps"].values())
    rows = [
        [name, value, str(numbers["splices"]), *(_cell(numbers[kind]) for kind in DIRECTED)]
        for name, measures in results["splices"]["maps"].items()
        if measures["draws"] == most
        for value, numbers in measures[group].items()
        if numbers["splices"]
    ]
    return f"AUROC by {title}:\n\n" + markdown_table(["map", title, "splices", *DIRECTED], rows)


def _curve_table(results: Mapping) -> str:
    rows = [
        [layer, curve, *(_cell(numbers["gain"][baseline]) for baseline in BASELINES)]
        for layer, curves in results["curves"].items()
        for curve, numbers in curves.items()
    ]
    return (
        f"Deletion and insertion on {results['counts']['images']} images: gain over each baseline in logits, above 0 is better.\n\n"
        + markdown_table(["map", "measure", *BASELINES], rows)
    )


def _sentences(results: Mapping) -> str:
    return "\n".join(
        f"- {layer}: {trust(results, layer)}. |Spearman| with shuffled weights: all {_cell(values['all'])}, "
        f"classifier only {_cell(values['classifier'])}."
        for layer, values in results["randomisation"].items()
    )
