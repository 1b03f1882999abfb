"""The protocol that leaves sources out: how well methods do on images of generators and collections that no head has seen."""

from __future__ import annotations

import numpy as np

from detector.evaluation.matching import Resampling, weighted_auroc
from detector.evaluation.metrics import decisions
from detector.training.stacking import Stack
from detector.verdict.fusion import ERROR, conformal_band, cross_fitted


def leave_sources_out(stack: Stack) -> dict[str, dict[str, dict]]:
    """Corpus, and "all" where there are several, → method, and "verdict" first → `auroc`, `auroc_95`, `images` and `sources`.

    Images are compared within a fold, since heads of different folds do not share a scale. The interval is a bootstrap over sources. The
    last two are numbers of real and synthetic ones. The verdict is fitted on other sources than those it is measured on; it has also
    the `decisions` with the conformal band of these logits.
    """
    fused = cross_fitted(np.column_stack(list(stack.logits.values())), stack.labels, stack.sources)
    band = conformal_band(fused, stack.labels, stack.sources, ERROR)
    logits = {"verdict": fused} | {method: np.nan_to_num(values, nan=0.0) for method, values in stack.logits.items()}
    corpora = list(dict.fromkeys(stack.corpora.tolist()))
    groups = {corpus: stack.originals & (stack.corpora == corpus) for corpus in corpora}
    groups |= {"all": stack.originals} if len(corpora) > 1 else {}
    results = {corpus: {method: _measures(stack, values, rows) for method, values in logits.items()} for corpus, rows in groups.items()}
    for corpus, rows in groups.items():
        results[corpus]["verdict"] |= decisions(band, stack.labels[rows], fused[rows])
    return results


def _measures(stack: Stack, logits: np.ndarray, rows: np.ndarray) -> dict:
    labels, sources = stack.labels[rows], stack.sources[rows]
    resampling = Resampling(folds=stack.folds[rows], units=sources)
    return weighted_auroc(logits[rows], labels, resampling=resampling) | {
        "images": [int((labels == label).sum()) for label in (0, 1)],
        "sources": [len(np.unique(sources[labels == label])) for label in (0, 1)],
    }
