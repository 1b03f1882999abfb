"""What is each part of SDD worth?"""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from detector.clip.backbone import Backbone
from detector.evaluation.studies.base import Corpus, chance, chance_words, heads_table, only, over_seeds
from detector.methods.sdd.config import SddConfig
from detector.methods.sdd.head import SddHead
from detector.methods.sdd.recipe import PLACES, PLACES_RECIPE
from detector.methods.sdd.train import SddRun, fit_sdd

ABLATIONS = {
    "all": PLACES,
    "without STS": replace(PLACES, use_sts=False),
    "without CFDL": replace(PLACES, use_cfdl=False),
    "without the enhancer": replace(PLACES, use_enhancer=False),
}
ABLATION_RECIPE = replace(PLACES_RECIPE, epochs=2, windows=4)  # short, because there are twelve trainings
ABLATION_CHECKPOINTS = Path("checkpoints/sdd-study")


def sdd_study(corpora: list[Corpus], backbone: Backbone, seeds: int) -> dict:
    """Table 4 of arXiv 2508.12341 on our data: all of SDD and without each of its parts, over seeds, trained for a shorter time than the
    shipped head.

    A training goes on from its checkpoint, if there is one.
    """
    corpus = only(corpora)
    rows = {name: {"measures": over_seeds(partial(_fit, corpus, backbone, config), corpus, seeds)[1]} for name, config in ABLATIONS.items()}
    return {"seeds": seeds, "chance": chance(corpus.tests), "rows": rows, "recipe": asdict(ABLATION_RECIPE)}


def _fit(corpus: Corpus, backbone: Backbone, config: SddConfig, seed: int) -> SddHead:
    prefix, train, val = backbone.fingerprint[:8], corpus.train.pictures.originals(), corpus.val.pictures.originals()
    off = [part for part in ("use_sts", "use_cfdl", "use_enhancer") if not getattr(config, part)]
    checkpoint = ABLATION_CHECKPOINTS / f"{'-'.join([prefix, *off, str(seed)])}.pt"
    return fit_sdd(train, val, backbone, SddRun(config, ABLATION_RECIPE, seed, checkpoint, resume=True)).head


def sdd_report(result: dict) -> str:
    """In words how they were trained, then the table."""
    recipe = result["recipe"]
    return (
        f"Mean and range over {result['seeds']} seeds. Each row is trained for {recipe['epochs']} epochs on {recipe['windows']} windows of "
        "each image of one data folder, less than the shipped head: the rows compare with one another. "
        f"{chance_words(result)}\n\n" + heads_table(result["rows"], {})
    )
