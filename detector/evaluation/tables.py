"""Stored figures as the Markdown of README and model cards, so that no figure there is copied by hand.

Nothing heavy is imported here, since the page uses this module too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from detector.data.perturbations import AS_IS
from detector.evaluation.audit_tables import audit_summary
from detector.markdown import markdown_table, write_between_marks

_MARK = re.compile(r"<!-- ((evaluation|robustness|sources|weights|leave_sources_out|audit)(?: [a-z_]+)*) -->")
MEAN_TEXTS = "image and crops: mean texts"  # the control of ITEM's study that shows what the words are worth

NOT_MEASURED = "Not measured."

# --- evaluate ------------------------------------------------------------------------------------------------------


def overall_table(results: dict) -> str:
    """Markdown: one row for each split and method."""
    headers = ["split", "method", "AUROC (95 %)", "AP", "balanced accuracy", "TPR at 1 % FPR", "TPR at 5 % FPR", "ECE", "Brier"]
    names = ("ap", "balanced_accuracy", "tpr_at_1_fpr", "tpr_at_5_fpr", "ece", "brier")
    return markdown_table(
        headers,
        (
            [split, method, _interval(figures["overall"]), *_cells(figures["overall"], names)]
            for split, methods in results.items()
            for method, figures in methods.items()
        ),
    )


def _interval(figures: dict) -> str:
    low, high = figures["auroc_95"]
    return f"{figures['auroc']:.3f} ({low:.3f}–{high:.3f})"


def _cells(figures: dict, names: Iterable[str]) -> list[str]:
    return [f"{figures[name]:.3f}" for name in names]


def papers_table(results: dict) -> str:
    """Markdown: the measures that the papers report, a row for each method, columns for each split; '' where these were not measured."""
    if not all("accuracy" in figures["overall"] for methods in results.values() for figures in methods.values()):
        return ""
    names = {"mean_ap_over_sources": "mAP over sources", "accuracy": "accuracy", "f1": "F1"}
    rows = []
    for method in _methods(results):
        figures = [results[split].get(method, {}).get("overall") for split in results]
        rows.append([method, *(f"{overall[key]:.3f}" if overall else "–" for overall in figures for key in names)])
    return markdown_table(["method", *(f"{split} {name}" for split in results for name in names.values())], rows)


def source_table(results: dict, method: str = "verdict") -> str:
    """Markdown: one row for each synthetic source, compared as `metrics.by_source` does."""
    headers = ["split", "synthetic source", "images", "AUROC (95 %)", "AP", "balanced accuracy", "TPR at 1 % FPR", "TPR at 5 % FPR"]
    names = ("ap", "balanced_accuracy", "tpr_at_1_fpr", "tpr_at_5_fpr")
    return markdown_table(
        headers,
        (
            [split, source, str(m["images"][1]), _interval(m), *_cells(m, names)]
            for split, methods in results.items()
            for source, m in methods[method]["sources"].items()
        ),
    )


def frozen_table(results: dict) -> str:
    """Markdown: TPR and FPR at thresholds that the validation images set; '' where these were not measured."""
    rows = []
    for split, methods in results.items():
        for method, figures in methods.items():
            levels = [figures["overall"].get(f"frozen_at_{percent}_fpr") for percent in (1, 5)]
            if all(levels):
                rows.append([split, method, *(f"{m['tpr']:.3f} ({m['fpr']:.3f})" for m in levels)])
    headers = ["split", "method", "TPR (FPR) at the threshold for 1 %", "TPR (FPR) at the threshold for 5 %"]
    return markdown_table(headers, rows) if rows else ""


def decision_table(results: dict) -> str:
    """Markdown: how many images the verdict gives a label, and how many of these labels are wrong."""
    names = {
        "coverage": "images with a label",
        "error_of_labelled": "of these wrong",
        "real_called_synthetic": "real called synthetic",
        "synthetic_called_real": "synthetic called real",
    }
    return markdown_table(
        ["split", *names.values()],
        ([split, *(f"{methods['verdict']['overall'][name]:.1%}" for name in names)] for split, methods in results.items()),
    )


def report(results: dict) -> str:
    """Tables that compare all methods, each under a sentence that says what it is."""
    parts = [overall_table(results)]
    if thresholds_table := frozen_table(results):
        parts.append(
            "TPR above is at the threshold that is best in hindsight. At thresholds frozen on the images that the verdict was fitted on, "
            "above which 1 % or 5 % of the real ones lie, with the share of real test images above them:\n\n" + thresholds_table
        )
    if papers := papers_table(results):
        parts.append(
            'What the papers report: the mean over synthetic sources of the AP, then accuracy and F1 of "synthetic" '
            "at logit 0:\n\n" + papers
        )
    if all("verdict" in methods for methods in results.values()):
        parts.append(
            'The verdict\'s labels, "inconclusive" being none (the last two columns are shares of all images of that class):'
            "\n\n" + decision_table(results)
        )
    return "\n\n".join(parts)


def evaluation_summary(results: dict) -> str:
    """Markdown: a row for each method, the AUROC with its interval on each split; "–" where it was not measured."""
    rows = []
    for method in _methods(results):
        parts = [methods.get(method) for methods in results.values()]
        rows.append([method, *(_interval(part["overall"]) if part else "–" for part in parts)])
    return markdown_table(["method", *(f"{split}, AUROC (95 %)" for split in results)], rows)


def _methods(results: dict) -> list[str]:
    return list(dict.fromkeys(method for methods in results.values() for method in methods))


def method_report(results: dict, method: str) -> str:
    """The figures of one method for its card: `report` of it alone, then by synthetic source, then by real collection."""
    part = {split: {method: methods[method]} for split, methods in results.items() if method in methods}
    if not part:
        return NOT_MEASURED
    real = _rows(part, [method], "real_sources", lambda m: m["images"], lambda m: f"{m['false_positive_rate']:.0%}")
    texts = [
        report(part),
        subgroups_table(part, method),
        "By synthetic source, against the real images of its split (few images say little):",
        source_table(part, method),
        "Real images above logit 0, by collection:",
        markdown_table(["split", "real source", "images", "called synthetic"], real),
    ]
    return "\n\n".join(text for text in texts if text)


def subgroups_table(results: dict, method: str) -> str:
    """By kind and size of the pictures, and on matched images, after a sentence; '' where this was not measured."""
    rows = []
    for split, figures in ((split, methods[method]) for split, methods in results.items()):
        groups = {name: (m["images"], m) for name, m in figures.get("subgroups", {}).items()}
        if matched := figures.get("matched"):
            groups["matched in file facts"] = ([round(count) for count in matched["effective"]], matched)
        for name, (images, m) in groups.items():
            rates = [f"{m[key]:.0%}" if key in m else "–" for key in ("coverage", "error_of_labelled")]
            rows.append([split, name, " + ".join(map(str, images)), _interval(m) if "auroc" in m else "–", *rates])
    columns = ["split", "pictures", "real + synthetic", "AUROC (95 %)", "labelled", "of these wrong"]
    headers = columns if method == "verdict" else columns[:4]
    sentence = (
        "By what CLIP takes the picture for, by its long side, and on images weighted so that both classes have the same file facts "
        "(their number is what the weighted set is worth; absent where the classes cannot be matched):"
    )
    return f"{sentence}\n\n{markdown_table(headers, [row[: len(headers)] for row in rows])}" if rows else ""


# --- by source, for the cards -------------------------------------------------------------------------------------


def sources_table(results: dict, methods: Sequence[str]) -> str:
    """Markdown from `evaluate`'s results: a row for each synthetic source with every method's AUROC, then one for each real
    source with the share that is called synthetic at logit 0 (lower is better); "–" where a method was not measured."""
    synthetic = _rows(results, methods, "sources", lambda m: m["images"][1], lambda m: f"{m['auroc']:.3f}")
    real = _rows(results, methods, "real_sources", lambda m: m["images"], lambda m: f"{m['false_positive_rate']:.0%}")
    return "\n\n".join(
        [
            "AUROC of each generator against the real images of its split (0.5 is chance; few images say little):",
            markdown_table(["split", "synthetic source", "images", *methods], synthetic),
            "Real images called synthetic at logit 0, by collection:",
            markdown_table(["split", "real source", "images", *methods], real),
        ]
    )


def _rows(results: dict, methods: Sequence[str], kind: str, count: Callable[[dict], int], text: Callable[[dict], str]) -> list[list[str]]:
    rows = []
    for split, figures in results.items():
        groups = {method: figures.get(method, {}).get(kind, {}) for method in methods}
        for source in dict.fromkeys(source for sources in groups.values() for source in sources):
            of = [sources.get(source) for sources in groups.values()]
            rows.append([split, source, str(next(count(m) for m in of if m)), *(text(m) if m else "–" for m in of)])
    return rows


def write_sources(path: Path, results: dict) -> None:
    """Fill every mark `<!-- sources METHOD … -->` of a card."""
    for mark in marks_of(path, "sources"):
        write_between_marks(path, mark, sources_table(results, mark.split()[1:]))


# --- robustness ----------------------------------------------------------------------------------------------------


def robustness_table(results: dict, split: str) -> str:
    """Markdown: AUROC of every method (columns) at every level (rows) of one split; the interval for the verdict."""
    levels = results["splits"][split]
    methods = list(next(iter(levels.values())))
    return markdown_table(
        [split, *methods], ([name, *(_cell(method, figures[method]) for method in methods)] for name, figures in levels.items())
    )


def _cell(method: str, figures: dict) -> str:
    return _interval(figures) if method == "verdict" else f"{figures['auroc']:.3f}"


def changed_decision_table(results: dict) -> str:
    """Markdown: the verdict alone at every level, on every split; AUROC, and what it decides. '' without a verdict."""
    splits = results["splits"]
    if not all("verdict" in figures for levels in splits.values() for figures in levels.values()):
        return ""
    names = {
        "auroc": "AUROC",
        "coverage": "labelled",
        "real_called_synthetic": "real called synthetic",
        "synthetic_called_real": "synthetic called real",
    }
    rows = (
        [name, *(f"{splits[split][name]['verdict'][key]:{'.3f' if key == 'auroc' else '.0%'}}" for split in splits for key in names)]
        for name in next(iter(splits.values()))
    )
    return markdown_table(["image", *(f"{split} {text}" for split in splits for text in names.values())], rows)


def images_sentence(results: dict) -> str:
    """Which images were measured."""
    counts = (f"{real} real and {synthetic} synthetic images of {split}" for split, (real, synthetic) in results["images"].items())
    return f"A fixed random draw (seed {results['seed']}): {', '.join(counts)}."


def worst_sentences(results: dict) -> str:
    """For each split the changes under which the verdict fares worst, each measure by itself. '' without a verdict."""
    parts = []
    for split, levels in results["splits"].items():
        if not all("verdict" in figures for figures in levels.values()):
            return ""
        verdicts = {name: figures["verdict"] for name, figures in levels.items()}
        start, lowest = verdicts[AS_IS.name], min(verdicts, key=lambda name: verdicts[name]["auroc"])
        parts.append(
            f'On {split} the verdict\'s AUROC is {start["auroc"]:.3f} as it is and lowest for "{lowest}" '
            f"({verdicts[lowest]['auroc']:.3f}); it calls real images synthetic most often for "
            f"{_worst_level(verdicts, 'real_called_synthetic')}, synthetic ones real for {_worst_level(verdicts, 'synthetic_called_real')}."
        )
    return " ".join(parts)


def _worst_level(verdicts: dict[str, dict], key: str) -> str:
    """The change with the largest share, that share, and the one of the images as they are."""
    name = max(verdicts, key=lambda level: verdicts[level][key])
    return f'"{name}" ({verdicts[name][key]:.0%}, as it is {verdicts[AS_IS.name][key]:.0%})'


def robustness_report(results: dict) -> str:
    """The AUROC of every method at every level."""
    parts = [images_sentence(results)]
    parts += [f"AUROC, for the verdict with its 95 % interval:\n\n{robustness_table(results, split)}" for split in results["splits"]]
    return "\n\n".join(parts)


def method_robustness(results: dict, method: str) -> str:
    """One method at every level, for its card: AUROC with its interval; for the verdict also what it decides."""
    splits = results["splits"]
    if not all(method in levels[AS_IS.name] for levels in splits.values()):
        return NOT_MEASURED
    rows = ([name, *(_interval(levels[name][method]) for levels in splits.values())] for name in next(iter(splits.values())))
    parts = [images_sentence(results), markdown_table(["image", *(f"{split}, AUROC (95 %)" for split in splits)], rows)]
    if method == "verdict":
        parts += ["What the verdict decides:", changed_decision_table(results), worst_sentences(results)]
    return "\n\n".join(parts)


def robustness_summary(results: dict) -> str:
    """Which images were measured, and under which changes the verdict fares worst, in sentences."""
    return " ".join(part for part in (images_sentence(results), worst_sentences(results)) if part)


# --- whole sources left out, and the fusion's weights ---------------------------------------------------------------


def leave_sources_out_report(results: dict[str, dict[str, dict]]) -> str:
    """Markdown: a row for each method, a column for each corpus; then what the verdict decides."""
    methods = list(next(iter(results.values())))
    headers = ["method"]
    for corpus, figures in results.items():
        real, synthetic = figures[methods[0]]["sources"]
        headers.append(f"{corpus}, AUROC (95 %), {real} real and {synthetic} synthetic sources")
    rows = ([method, *(_interval(figures[method]) for figures in results.values())] for method in methods)
    decisions = (
        f"{corpus}, {figures['verdict']['coverage']:.0%} get a label, of which {figures['verdict']['error_of_labelled']:.0%} are wrong"
        for corpus, figures in results.items()
    )
    return f"{markdown_table(headers, rows)}\n\nOf the images of {'; '.join(decisions)}."


def weights_report(weights: dict[str, dict]) -> str:
    """Markdown of `fusion_weights`: a sentence on what reads CLIP, and a row for each method, the largest share first."""
    rows = [
        [name, f"{m['weight']:.2f}", f"{m['share']:.0%} ({m['share_95'][0]:.0%}–{m['share_95'][1]:.0%})"]
        for name, m in sorted(weights.items(), key=lambda item: -item[1]["share"])
    ]
    clip = sum(m["share"] for m in weights.values() if m["reads_clip"])
    sentence = (
        f"Of the spread of the verdict's logits, methods that read CLIP account for {clip:.0%}, those of pixels alone for {1 - clip:.0%}."
    )
    return f"{sentence}\n\n{markdown_table(['method', 'weight', 'share of the spread (95 %, over sources)'], rows)}"


# --- marks in Markdown files ---------------------------------------------------------------------------------------

Report = tuple[Callable[[dict], str], Callable[[dict], str], Callable[[dict, str], str]]  # all methods, summary, one method
REPORTS: dict[str, Report] = {
    "evaluation": (report, evaluation_summary, method_report),
    "robustness": (robustness_report, robustness_summary, method_robustness),
}
WHOLE: dict[str, Callable[[dict], str]] = {"weights": weights_report, "leave_sources_out": leave_sources_out_report, "audit": audit_summary}


def marks_of(path: Path, *kinds: str) -> list[str]:
    """The marks `<!-- KIND … -->` of a file, without their brackets. ValueError, one sentence, if it has none.

    kinds: "evaluation" and "robustness", alone or followed by "summary" or a method; "sources", followed by methods; those of `WHOLE`.
    """
    marks = [mark for mark, kind in _MARK.findall(path.read_text(encoding="utf-8")) if kind in kinds]
    if not marks:
        raise ValueError(f"{path.name} has no marks such as '<!-- {kinds[0]} -->' … '<!-- end {kinds[0]} -->'.")
    return marks


def text_of_mark(mark: str, results: dict) -> str:
    """What stands between a mark and its end. results: what was measured for a mark of this kind."""
    kind, *rest = mark.split()
    if kind in WHOLE:
        return WHOLE[kind](results)
    everything, summary, one_method = REPORTS[kind]
    if not rest:
        return everything(results)
    return summary(results) if rest == ["summary"] else one_method(results, rest[0])


def write_figures(path: Path, figures: Mapping[str, dict]) -> None:
    """Fill the marks of a file whose kind is a key of `figures` (kind → what was measured); marks of other kinds stay as they are."""
    for mark, kind in _MARK.findall(path.read_text(encoding="utf-8")):
        if kind in figures:
            write_between_marks(path, mark, text_of_mark(mark, figures[kind]))


# --- what training measured ----------------------------------------------------------------------------------------


def embedded_report(metrics: dict) -> str:
    """What `pretrain` measured on its `test` split, with the aims, and the attribute operations that fell short."""
    rises = metrics.get("attribute_rise", {})
    failures = {name: share for name, share in rises.items() if share < 0.8}
    names = {
        "flickr8k_r10": ("image → text R@10 on Flickr8k", 0.35),
        "imagenette_zero_shot": ("zero-shot accuracy, ten Imagenette classes", 0.65),
        "intel_scenes_zero_shot": ("zero-shot accuracy, six Intel scenes", 0.75),
    }
    rows = [(text, metrics[name], aim) for name, (text, aim) in names.items() if name in metrics]
    if rises:
        rows.append(("operations whose concept rises in ≥ 80 % of 200 photographs", 1 - len(failures) / len(rises), 0.80))
    table = markdown_table(["measure", "value", "aim"], ([name, f"{value:.3f}", f"{aim:.2f}"] for name, value, aim in rows))
    if not failures:
        return table
    return f"{table}\n\nOperations that fall short: " + ", ".join(f"{n} ({v:.2f})" for n, v in sorted(failures.items())) + "."


def text_gains(cells: dict[str, dict[str, list[float]]], splits: Sequence[str]) -> dict[str, float]:
    """Split → mean AUROC with the images' own texts less that with one mean text for all; cells: from `controls`."""
    return {split: float(np.mean(cells["all"][split]) - np.mean(cells[MEAN_TEXTS][split])) for split in splits}
