"""What is each part of SDD worth?"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from sklearn.metrics import roc_auc_score

from detector.clip.backbone import Backbone
from detector.devices import to_numpy
from detector.evaluation.studies.base import Corpus, chance, chance_words, heads_table, only, over_seeds
from detector.methods.registry import find_heads, read_head
from detector.methods.sdd.bag import middle_window
from detector.methods.sdd.config import SddConfig
from detector.methods.sdd.head import SddHead
from detector.methods.sdd.recipe import PLACES, PLACES_RECIPE, SddRecipe
from detector.methods.sdd.train import SddRun, fit_sdd
from detector.methods.table import Table

ABLATIONS = {
    "all": PLACES,
    "without STS": replace(PLACES, use_sts=False),
    "without CFDL": replace(PLACES, use_cfdl=False),
    "without the enhancer": replace(PLACES, use_enhancer=False),
}
ABLATION_RECIPE = replace(PLACES_RECIPE, epochs=2)  # short, because there are twelve trainings
ABLATION_CHECKPOINTS = Path("checkpoints/sdd-study")


def sdd_study(corpora: list[Corpus], backbone: Backbone, seeds: int) -> dict:
    """The recipe of `train sdd` over seeds, and Table 4 of arXiv 2508.12341 on our data: all of SDD and without each of its parts, for a
    shorter time.

    A training goes on from its checkpoint, if there is one.
    """
    corpus = only(corpora)
    trainings = {"as shipped": (PLACES, PLACES_RECIPE)} | {name: (config, ABLATION_RECIPE) for name, config in ABLATIONS.items()}
    rows = {
        name: {"epochs": recipe.epochs, "measures": over_seeds(partial(_fit, corpus, backbone, config, recipe), corpus, seeds)[1]}
        for name, (config, recipe) in trainings.items()
    }
    return {"seeds": seeds, "chance": chance(corpus.tests), "rows": rows, "streams": streams(corpus, backbone)}


def streams(corpus: Corpus, backbone: Backbone) -> dict[str, dict[str, float]]:
    """AUROC of the halves of the shipped head's classifier: split → "both", "CLS token", "enhancer" → AUROC.

    One window in the middle of each image; a half left out is replaced by its mean over `val`. {} where there is no head, or
    one that reads out each token.
    """
    path = find_heads(backbone).get("sdd")
    if path is None:
        return {}
    head, _ = read_head(path, "sdd", backbone)
    if head.model.config.readout != "summary":
        return {}
    parts = {name: _halves_of(head, table) for name, table in {"val": corpus.val, **corpus.tests}.items()}
    typical = [half.mean(0, keepdim=True) for half in parts["val"]]
    areas = {}
    for split, table in corpus.tests.items():
        token, summary = parts[split]
        inputs = {
            "both": (token, summary),
            "CLS token": (token, typical[1].expand_as(summary)),
            "enhancer": (typical[0].expand_as(token), summary),
        }
        areas[split] = {
            name: float(roc_auc_score(table.labels, to_numpy(head.model.classify(torch.cat(pair, 1))[:, 0])))
            for name, pair in inputs.items()
        }
    return areas


@torch.inference_mode()
def _halves_of(head: SddHead, table: Table) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, D) CLS tokens and (N, 256) summaries of the enhancer, of the middle window of each image."""
    outputs = [head.model(head.prepare([middle_window(pixels, head.size)])) for pixels in table.evidence.pixels]
    return torch.cat([out.tokens[:, 0] for out in outputs]), torch.cat([out.features for out in outputs])


def _fit(corpus: Corpus, backbone: Backbone, config: SddConfig, recipe: SddRecipe, seed: int) -> SddHead:
    prefix, train, val = backbone.fingerprint[:8], corpus.train.pictures.originals(), corpus.val.pictures.originals()
    off = [part for part in ("use_sts", "use_cfdl", "use_enhancer") if not getattr(config, part)]
    checkpoint = ABLATION_CHECKPOINTS / f"{'-'.join([prefix, str(recipe.epochs), *off, str(seed)])}.pt"
    return fit_sdd(train, val, backbone, SddRun(config, recipe, seed, checkpoint, resume=True)).head


def sdd_report(result: dict) -> str:
    """In words how they were trained, then the table."""
    return (
        f"Mean and range over {result['seeds']} seeds. Every row but the first is trained for fewer epochs than the shipped head: "
        "these rows compare with one another. The enhancer's own training comes before and is shared by the rows of a seed. "
        f"{chance_words(result)}\n\n"
        + heads_table(result["rows"], {"epochs": lambda row: str(row["epochs"])})
        + _streams_words(result["streams"])
    )


def _streams_words(areas: dict[str, dict[str, float]]) -> str:
    if not areas:
        return ""
    words = "; ".join(f"{split}: " + ", ".join(f"{name} {value:.3f}" for name, value in row.items()) for split, row in areas.items())
    return f"\n\nWhat each half of the shipped head's classifier reaches with the other held at its mean (AUROC, one window): {words}."
