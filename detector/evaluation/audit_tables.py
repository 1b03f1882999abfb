"""The shortcut audit as Markdown. No figure in it is copied by hand."""

from __future__ import annotations

from collections.abc import Sequence

from detector.markdown import markdown_table

NONE = "–"


def audit_report(result: dict) -> str:
    """Markdown of what `detector.evaluation.audit.audit` measured: warnings, sets of facts, single facts, pairs of sources, matching."""
    (real, synthetic), (real_sources, synthetic_sources) = result["images"], result["sources"]
    parts = [
        f"{real} real images of {real_sources} sources, {synthetic} synthetic images of {synthetic_sources} sources. AUROC of file facts "
        "alone; 0.5: they tell nothing. Intervals of 95 %.",
        *(f"**{sentence}**" for sentence in result["warnings"]),
        "Sets of facts, cross-validated with random folds (images drawn for the interval) and with folds of whole sources of both classes "
        "(sources drawn):",
        sets_table(result["sets"]),
        "Single facts; above 0.5: higher in synthetic images. Any shape: boosting on the one fact, cross-validated.",
        facts_table(result["facts"]),
        f"All facts, logistic regression, pair by pair: {_telling_pairs(result)} The highest:",
        _worst_pairs_table(result),
        "All pairs, real sources in columns:",
        pairs_table(result["pairs"]),
        "Matched subset (overlap weights on all facts): what the facts tell before and after.",
        matched_table(result["matched"]),
    ]
    return "\n\n".join(parts)


def audit_summary(result: dict) -> str:
    """Markdown for a card: what was measured, the warnings, sets of facts, the pairs of sources that differ most, and matching."""
    (real, synthetic), (real_sources, synthetic_sources) = result["images"], result["sources"]
    parts = [
        f"{real} real images of {real_sources} sources, {synthetic} synthetic images of {synthetic_sources} sources "
        f"(`{result['split']}` of {' and '.join(result['data'])}). AUROC of file facts alone, with 95 % intervals; 0.5: they tell nothing.",
        *result["warnings"],
        sets_table(result["sets"]),
        f"All facts, logistic regression: {_telling_pairs(result)} The highest:",
        _worst_pairs_table(result),
        "Matched subset (overlap weights on all facts): what the facts tell before and after.",
        matched_table(result["matched"]),
    ]
    return "\n\n".join(parts)


def _telling_pairs(result: dict) -> str:
    pairs = [auroc for row in result["pairs"].values() for auroc in row.values() if auroc is not None]
    telling = sum(auroc >= result["telling"] for auroc in pairs)
    return f"{telling} of {len(pairs)} pairs of sources have an AUROC of at least {result['telling']}."


def _worst_pairs_table(result: dict) -> str:
    return markdown_table(["real source", "synthetic source", "AUROC"], ([a, b, f"{auroc:.3f}"] for a, b, auroc in result["worst_pairs"]))


def sets_table(sets: dict[str, dict]) -> str:
    """One row for each set of facts."""
    plans = {"images": "random folds", "sources": "sources left out"}
    headers = ["facts", *(f"{classifier}, {title}" for title in plans.values() for classifier in ("logistic", "boosting"))]
    rows = (
        [name, *(_interval(kinds[kind] and kinds[kind][classifier]) for kind in plans for classifier in ("logistic", "boosting"))]
        for name, kinds in sets.items()
    )
    return markdown_table(headers, rows)


def facts_table(facts: dict[str, dict]) -> str:
    """One row for each fact."""
    headers = ["fact", "median real", "median synthetic", "AUROC (95 %)", "any shape"]
    return markdown_table(
        headers,
        (
            [name, *map(_number, fact["median"]), _interval(fact if "auroc" in fact else None), f"{fact['any_shape']:.3f}"]
            for name, fact in facts.items()
        ),
    )


def pairs_table(pairs: dict[str, dict[str, float | None]]) -> str:
    """One row for each synthetic source, one column for each real one."""
    synthetic: Sequence[str] = list(next(iter(pairs.values())))
    rows = ([name, *(_figure(row[name]) for row in pairs.values())] for name in synthetic)
    return markdown_table(["synthetic source", *pairs], rows)


def matched_table(matched: dict) -> str:
    """What the facts tell before and after weighting."""
    real, synthetic = matched["effective"]
    rows = []
    for state, title in (("before", "as they are"), ("after", f"weighted, worth {real:.0f} real and {synthetic:.0f} synthetic")):
        name, auroc = matched[state]["worst_fact"]
        rows.append([title, f"{name} {auroc:.3f}", _interval(matched[state]["logistic"]), _interval(matched[state]["boosting"])])
    return markdown_table(["images", "single fact furthest from 0.5", "logistic (95 %)", "boosting (95 %)"], rows)


def _interval(skill: dict | None) -> str:
    return NONE if skill is None else f"{skill['auroc']:.3f} ({skill['auroc_95'][0]:.3f}–{skill['auroc_95'][1]:.3f})"


def _figure(auroc: float | None) -> str:
    return NONE if auroc is None else f"{auroc:.2f}"


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
