"""The papers' own recipes by the name of the method."""

from __future__ import annotations

from collections.abc import Mapping

from detector.methods.concepts.train import PAPER_RECIPE as CONCEPTS
from detector.methods.item.train import PAPER_RECIPE as ITEM
from detector.methods.orthogonal.train import PAPER_RECIPE as ORTHOGONAL
from detector.methods.sdd import recipe as sdd
from detector.methods.sdd.train import SddOptions

PAPER: Mapping[str, object] = {
    "linear_probe": ORTHOGONAL,
    "orthogonal": ORTHOGONAL,
    "concepts": CONCEPTS,
    "item": ITEM,
    "sdd": SddOptions(sdd.PAPER, sdd.PAPER_RECIPE),
}


def recipe_options(recipe: str, method: str) -> dict[str, object]:
    """Method → what its `fit` reads from `Training.options`, for `train METHOD --recipe RECIPE`; of "all", the methods that have one.

    ValueError, one sentence, for a method without a recipe of its paper.
    """
    if recipe == "ours":
        return {}
    if method != "all" and method not in PAPER:
        raise ValueError(f"The method '{method}' has no recipe of a paper; {', '.join(PAPER)} have one.")
    return dict(PAPER)
