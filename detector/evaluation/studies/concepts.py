"""How good and how sparse is the gated concept model?"""

from __future__ import annotations

import torch

from detector.clip.backbone import Backbone
from detector.evaluation.studies.base import Corpus, chance, chance_words, heads_table, only, over_seeds, seed_range, spread
from detector.methods.concepts.head import ConceptHead, concept_directions
from detector.methods.concepts.train import fit_concepts
from detector.methods.orthogonal.train import fit_linear_probe


def concepts_study(corpora: list[Corpus], backbone: Backbone, seeds: int) -> dict:
    """The gated concept model beside the linear probe, and how sparse it is on `val` images."""
    corpus = only(corpora)
    device, directions = backbone.device, concept_directions(backbone)
    train, val = corpus.train.projected(device), corpus.val.projected(device)
    pooled = corpus.train.pooled(device), corpus.val.pooled(device)
    _, probe = over_seeds(lambda seed: fit_linear_probe(*pooled, seed=seed), corpus, seeds)
    heads, gated = over_seeds(lambda seed: fit_concepts(train, val, directions, seed=seed), corpus, seeds)
    sparse = [sparsity(head, corpus.val.evidence.clip.projected) for head in heads]
    return {
        "seeds": seeds,
        "chance": chance(corpus.tests),
        "concepts": len(directions),
        "sparsity": {name: spread([s[name] for s in sparse]) for name in sparse[0]},
        "rows": {"linear probe": {"measures": probe}, "concept model": {"measures": gated}},
    }


def sparsity(head: ConceptHead, projected: torch.Tensor) -> dict[str, float]:
    """How few concepts speak, over the images whose projected features (B, E) are given.

    "above_half", "above_tenth": mean number of gates above 0.5 and 0.1 in an image. "ever": share, 0 to 1, of all concepts whose
    gate is above 0.5 in at least one image. "needed": mean number of concepts that make up 90 % of an image's summed absolute
    contributions, the largest first.
    """
    gates, parts = head.gates(projected), head.contributions(projected).abs().sort(dim=1, descending=True).values
    is_below = parts.cumsum(1) < 0.9 * parts.sum(1, keepdim=True)
    return {
        "above_half": float((gates > 0.5).float().sum(1).mean()),
        "above_tenth": float((gates > 0.1).float().sum(1).mean()),
        "ever": float((gates > 0.5).any(0).float().mean()),
        "needed": float((is_below.sum(1) + 1).float().mean()),
    }


def concepts_report(result: dict) -> str:
    """In words how sparse the gates are, then the table."""
    half, tenth, concepts = (seed_range(result["sparsity"][name], 1) for name in ("above_half", "above_tenth", "needed"))
    ever = result["sparsity"]["ever"]
    return (
        f"Mean and range over {result['seeds']} seeds. Of {result['concepts']} gates {half} are above 0.5 in a validation image "
        f"and {tenth} above 0.1; {ever['mean']:.0%} ({ever['low']:.0%}–{ever['high']:.0%}) of the concepts have a gate above 0.5 "
        f"in at least one; {concepts} concepts make up 90 % of an image's contributions. "
        f"{chance_words(result)}\n\n" + heads_table(result["rows"], {})
    )
