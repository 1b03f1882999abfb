"""The losses of SDD (arXiv 2508.12341)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from detector.methods.sdd.model import SddOutput
from detector.methods.sdd.recipe import SddRecipe


def triplet_loss(features: Tensor, labels: Tensor, margin: float) -> Tensor:
    """Batch-hard triplets by Euclidean distance: the farthest of one's own class against the nearest of the other.

    features: (B, F), labels: (B,). 0 where a batch holds only one class. The paper names no sampling: choice.
    """
    same = labels[:, None] == labels[None]
    if bool(same.all()):
        return features.sum() * 0
    distance = (features[:, None] - features[None]).square().sum(-1).clamp(min=1e-12).sqrt()
    positive = distance.masked_fill(~same, -torch.inf).amax(1)
    negative = distance.masked_fill(same, torch.inf).amin(1)
    return F.relu(positive - negative + margin).mean()


def sdd_loss(out: SddOutput, shares: Tensor, recipe: SddRecipe) -> dict[str, Tensor]:
    """ "loss" and its terms. shares: (B, g, g) synthetic share of each token's square, 0 to 1.

    Entropy and metric loss read the windows of one class; the loss on tokens ("places") reads all of them. The reconstruction aims at
    its target, which it does not move, on real windows only (the paper).
    """
    labels = shares.mean((1, 2))
    pure = (shares == shares[:, :1, :1]).all(2).all(1)  # windows of one class
    terms = {
        "entropy": _entropy(out.logits[pure], labels[pure]),
        "metric": triplet_loss(out.features.float()[pure], labels[pure], recipe.margin),
    }
    if recipe.places and out.token_logits is not None:
        terms["places"] = _entropy(out.token_logits, shares)
    rows = torch.ones_like(labels, dtype=torch.bool) if recipe.reconstruct_all else labels == 0
    error = (out.reconstruction.float() - out.target.detach().float())[rows]
    terms["reconstruction"] = error.square().mean() if len(error) else out.logits.sum() * 0
    return {"loss": sum(getattr(recipe, name) * term for name, term in terms.items()), **terms}


def _entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy, the mean over all logits; 0 where there are none."""
    return F.binary_cross_entropy_with_logits(logits.float(), labels) if len(logits) else logits.sum() * 0
