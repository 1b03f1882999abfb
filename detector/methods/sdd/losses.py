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


def sdd_loss(out: SddOutput, labels: Tensor, recipe: SddRecipe) -> dict[str, Tensor]:
    """ "loss" and its terms. The reconstruction aims at its target, which it does not move, on real images only (the paper)."""
    terms = {
        "entropy": F.binary_cross_entropy_with_logits(out.logits.float(), labels),
        "metric": triplet_loss(out.features.float(), labels, recipe.margin),
    }
    rows = torch.ones_like(labels, dtype=torch.bool) if recipe.reconstruct_all else labels == 0
    error = (out.reconstruction.float() - out.target.detach().float())[rows]
    terms["reconstruction"] = error.square().mean() if len(error) else out.logits.sum() * 0
    total = recipe.entropy * terms["entropy"] + recipe.metric * terms["metric"] + recipe.reconstruction * terms["reconstruction"]
    return {"loss": total, **terms}
