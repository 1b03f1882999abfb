"""Would the verdict still be the same had the picture been saved again, resized, blurred, cropped or mirrored?

Every change of `detector.data.perturbations.VARIANTS` is made of the picture's own pixels, and each result goes through all methods and the
verdict like an image of its own. A verdict that turns with a harmless change says little. Choices, ours.

The changed pictures are taken PASS_SIZE at a time, fewer where they would hold more than `detector.suite.BATCH_PIXELS` pixels (60 million,
180 MB); between passes the work can be stopped. A picture of more than PIXEL_LIMIT is first shrunk to that, so that its
enlargement fits too. One of that size took 510 MB beside the model and 20 seconds of one core; one of 256 pixels 4 seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from scipy.special import expit

from detector.steps import checkpoint

if TYPE_CHECKING:
    import numpy as np
    import plotly.graph_objects as go

    from detector.analysis import Analysis
    from detector.data.images import Photo
    from detector.data.perturbations import Variant
    from detector.suite import Suite

PIXEL_LIMIT = 24_000_000
PASS_SIZE = 3  # pictures: all twelve at once were hardly faster on two cores (3.5 s against 3.7 s), one by one took 5.3 s
OPPOSITE = {"synthetic": "real", "real": "synthetic"}
TONES = (
    "rgb(0,158,115)",
    "rgb(204,121,167)",
    "rgb(86,160,200)",
    "rgb(180,140,20)",
    "rgb(140,86,75)",
    "rgb(130,130,130)",
    "rgb(40,120,130)",
    "rgb(150,150,60)",
)  # neither side's colour
MARKS = ("square", "diamond", "triangle-up", "cross", "x", "star", "pentagon", "hourglass")


@dataclass(frozen=True)
class Outcome:
    """What one changed picture gets. label and probability: the verdict's, None without one.

    probabilities: method → σ(logit), None for a method that cannot read this copy, such as one whose caption says nothing.
    """

    name: str
    words: str
    probabilities: dict[str, float | None]
    label: str | None
    probability: float | None


@dataclass(frozen=True)
class Stability:
    """outcomes: the picture as it is, then each change. left_out: changes that cannot be made of a picture of this size.

    shrunk: whether the picture was reduced to PIXEL_LIMIT first. band: probabilities between which the verdict gives no label.
    """

    outcomes: tuple[Outcome, ...]
    left_out: tuple[str, ...] = ()
    shrunk: bool = False
    band: tuple[float, float] | None = None

    @property
    def flips(self) -> tuple[Outcome, ...]:
        """The changes under which the verdict's label is another than for the picture as it is."""
        first = self.outcomes[0]
        return tuple(outcome for outcome in self.outcomes[1:] if outcome.label != first.label)


# --- the changed pictures ------------------------------------------------------------------------------------------


def stability(suite: Suite, photo: Photo) -> Stability:
    """All methods and the verdict on the photo as it is and on every change that can be made of it."""
    from detector.data.perturbations import VARIANTS, shrink_to

    pixels = shrink_to(photo.pixels, PIXEL_LIMIT)
    possible = [variant for variant in VARIANTS if variant.fits(pixels)]
    analyses: list[Analysis] = []
    for photos in _passes(photo, pixels, possible):
        analyses += suite.analyze_photos(photos)
        photos.clear()  # lets go of their pixels before the next pass is made
    outcomes = tuple(_outcome(variant, analysis, methods_of(suite)) for variant, analysis in zip(possible, analyses, strict=True))
    left_out = tuple(variant.name for variant in VARIANTS if not variant.fits(pixels))
    edges = suite.roster.leading.band if suite.roster.leading else None
    band = None if edges is None else (float(expit(edges[0])), float(expit(edges[1])))
    return Stability(outcomes, left_out, pixels is not photo.pixels, band)


def methods_of(suite: Suite) -> tuple[str, ...]:
    """This project's methods and, of the heads that others have released, those of the training set in use and the one that leads."""
    leader, trainings = suite.roster.leading, {None, suite.released.training}
    return tuple(key for key, name in suite.roster.names.items() if name.training in trainings or leader and leader.name == str(name))


def _passes(photo: Photo, pixels: np.ndarray, variants: list[Variant]) -> Iterator[list[Photo]]:
    """The changed pictures, PASS_SIZE at once or as many as stay within BATCH_PIXELS, at least one."""
    from detector.suite import BATCH_PIXELS

    batch: list[Photo] = []
    pixel_count = 0
    for variant in variants:
        checkpoint()
        changed = replace(photo, pixels=variant.apply(pixels))
        count = changed.width * changed.height
        if len(batch) == PASS_SIZE or batch and pixel_count + count > BATCH_PIXELS:
            yield batch
            batch, pixel_count = [], 0
        batch.append(changed)
        pixel_count += count
    yield batch


def _outcome(variant: Variant, analysis: Analysis, methods: tuple[str, ...]) -> Outcome:
    verdict, scores = analysis.verdict, analysis.detectors
    probabilities = {name: scores[name]["probability"] if name in scores else None for name in methods}
    return Outcome(variant.name, variant.words, probabilities, verdict.label if verdict else None, verdict.probability if verdict else None)


# --- words ---------------------------------------------------------------------------------------------------------


def verdict_sentence(result: Stability) -> str:
    """One sentence that names every change under which the label is another one; "flips" is between real and synthetic."""
    first, changes = result.outcomes[0], len(result.outcomes) - 1
    if first.label is None:
        return "There is no verdict on this backbone; the chart shows each method by itself."
    if not result.flips:
        return f"The verdict stays {first.label} under all {changes} changes."
    parts = [
        f"{_turns(first.label, label)} when the image is {_join([o.words for o in result.flips if o.label == label])}"
        for label in ("synthetic", "real", "inconclusive")
        if any(o.label == label for o in result.flips)
    ]
    return f"The verdict {', and it '.join(parts)}."


def _turns(old: str, new: str) -> str:
    return f"flips from {old} to {new}" if OPPOSITE.get(old) == new else f"changes from {old} to {new}"


def _join(phrases: list[str]) -> str:
    """With commas and "or"; a verb that was just said ("saved as") is not said again."""
    verbs = [phrase.split()[:2] for phrase in phrases]
    short = [" ".join(phrase.split()[2:]) if i and verbs[i] == verbs[i - 1] else phrase for i, phrase in enumerate(phrases)]
    return short[0] if len(short) == 1 else ", ".join(short[:-1]) + " or " + short[-1]


def details(result: Stability) -> str:
    """Plain text beside that sentence: how far the verdict moves, which method moves most, and what was left out."""
    return " ".join(part for part in (_range(result), _most_moved(result), _limits(result)) if part)


def _range(result: Stability) -> str:
    values = [outcome.probability for outcome in result.outcomes if outcome.probability is not None]
    return f"Its probability lies between {100 * min(values):.0f} % and {100 * max(values):.0f} %." if values else ""


def _most_moved(result: Stability) -> str:
    """The method whose probability moves most from the picture as it is, and under which change."""
    from interpret.render.text import method_name

    moves = [
        (abs(probability - first), method, first, probability, outcome.words)
        for outcome in result.outcomes[1:]
        for method, first in result.outcomes[0].probabilities.items()
        if first is not None and (probability := outcome.probabilities[method]) is not None
    ]
    distance, method, first, probability, words = max(moves, key=lambda move: move[0], default=(0.0, "", 0.0, 0.0, ""))
    if distance < 0.005:
        return ""
    start = f"Most moved of the methods: {method_name(method)}, from {100 * first:.0f} % to {100 * probability:.0f} %"
    return f"{start} when the image is {words}."


def _limits(result: Stability) -> str:
    parts = []
    if result.left_out:
        parts.append(f"Left out, because the format holds no sides this long: {', '.join(result.left_out)}.")
    if result.shrunk:
        parts.append(
            f"The image was first shrunk to {PIXEL_LIMIT // 10**6} megapixels, so that its own verdict here may differ from the one above."
        )
    return " ".join(parts)


def headers(result: Stability) -> list[str]:
    """Column titles of `rows`: the change, the verdict, then each method."""
    from interpret.render.text import method_name

    return ["the image", "verdict", *(method_name(name) for name in result.outcomes[0].probabilities)]


def rows(result: Stability) -> list[list[str]]:
    """The figure in numbers: one row for each outcome, probabilities of synthetic in percent."""
    return [
        [o.name, f"{_percent(o.probability)} {o.label}" if o.label else "none", *map(_percent, o.probabilities.values())]
        for o in result.outcomes
    ]


def _percent(probability: float | None) -> str:
    return "–" if probability is None else f"{100 * probability:.0f} %"


# --- chart ---------------------------------------------------------------------------------------------------------


def stability_chart(result: Stability) -> go.Figure:
    """One line for the verdict and one for each method, from the picture as it is on top down through the changes.

    To the right speaks for synthetic. A straight line down is a method that no change moves. The verdict's dots have the colour
    of its label; the grey field holds the probabilities for which it gives none.
    """
    import plotly.graph_objects as go

    from interpret.render.figures import INK, NEUTRAL, REAL, SYNTHETIC, _layout
    from interpret.render.text import method_name

    figure, names = go.Figure(), [outcome.name for outcome in result.outcomes]
    if result.band:
        figure.add_vrect(x0=result.band[0], x1=result.band[1], fillcolor="rgba(128,128,128,0.16)", line_width=0, layer="below")
    for i, method in enumerate(result.outcomes[0].probabilities):
        tone, values = TONES[i % len(TONES)], [o.probabilities[method] for o in result.outcomes]
        figure.add_scatter(
            x=values,
            y=names,
            name=method_name(method),
            mode="lines+markers",
            line={"color": tone, "width": 1.5},
            marker={"symbol": MARKS[i % len(MARKS)], "size": 7},
            hovertemplate="%{y}: %{x:.0%}",
        )
    if result.outcomes[0].label:
        colours = [{"synthetic": SYNTHETIC, "real": REAL}.get(o.label or "", NEUTRAL) for o in result.outcomes]
        figure.add_scatter(
            x=[o.probability for o in result.outcomes],
            y=names,
            name="Verdict",
            mode="lines+markers",
            line={"color": INK, "width": 3.5},
            customdata=[o.label for o in result.outcomes],
            marker={"size": 12, "color": colours, "line": {"color": "white", "width": 1.5}},
            hovertemplate="%{y}: %{x:.0%}, %{customdata}",
        )
    _layout(figure, len(names) + len(figure.data) // 2, "← real · probability of synthetic · synthetic →", [-0.02, 1.02])
    return figure.update_layout(showlegend=True, legend={"traceorder": "reversed"}).update_xaxes(tickformat=".0%")
