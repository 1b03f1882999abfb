"""Concept activations and SynthCLIC's gated concept model on the projected feature (arXiv 2602.12381).

A concept is an antonym pair; its direction is the normalised difference of the two prompts' unit embeddings. With the
unit image embedding z: activation s = T z, gate m = σ(G z + g), contribution_i = w_i s_i m_i, and the logit is the sum
of the contributions plus a bias. Gates depend on the image and are pushed towards zero in training.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.clip.backbone import Backbone, Sizes
from detector.clip.vocabulary import Concept, vocabulary
from detector.devices import to_numpy
from detector.methods.base import Evidence, Score, Shapes


def direction(backbone: Backbone, positive_prompts: list[str], negative_prompts: list[str]) -> Tensor:
    """(C, E) unit rows pointing from the negative to the positive pole."""
    count = len(positive_prompts)
    embedded = backbone.encode_text([*positive_prompts, *negative_prompts])
    return F.normalize(embedded[:count] - embedded[count:], dim=1)


def concept_directions(backbone: Backbone, concepts: tuple[Concept, ...] | None = None) -> Tensor:
    """(C, E) unit rows for the given concepts, by default the whole vocabulary."""
    concepts = vocabulary() if concepts is None else concepts
    return direction(backbone, [c.positive_prompt for c in concepts], [c.negative_prompt for c in concepts])


@dataclass(frozen=True)
class ConceptHead:
    """directions: (C, E) unit rows; gate_weight: (C, E); gate_bias, weight: (C,); bias: scalar."""

    directions: Tensor
    gate_weight: Tensor
    gate_bias: Tensor
    weight: Tensor
    bias: Tensor

    def activations(self, projected: Tensor) -> Tensor:
        """(B, E) → (B, C) cosines in [−1, 1]; positive: closer to the positive pole. Normalises its input."""
        return F.normalize(projected, dim=1) @ self.directions.T

    def gates(self, projected: Tensor) -> Tensor:
        """(B, C) in (0, 1), deterministic."""
        return torch.sigmoid(F.normalize(projected, dim=1) @ self.gate_weight.T + self.gate_bias)

    def contributions(self, projected: Tensor) -> Tensor:
        """(B, C) in logits; positive speaks for synthetic; their sum plus `bias` is the logit."""
        return self.weight * self.activations(projected) * self.gates(projected)

    def logits(self, projected: Tensor) -> Tensor:
        """(B,); higher speaks for synthetic."""
        return self.contributions(projected).sum(1) + self.bias

    def score(self, evidence: Evidence) -> Score:
        return Score(to_numpy(self.logits(evidence.clip.projected)))

    def scaled(self, slope: float, offset: float) -> ConceptHead:
        """The same head with logit·slope + offset."""
        return replace(self, weight=self.weight * slope, bias=self.bias * slope + offset)

    def tensors(self) -> dict[str, Tensor]:
        return dict(vars(self))

    @staticmethod
    def shapes(sizes: Sizes) -> Shapes:
        return {"directions": ("concepts", sizes.projected), "gate_weight": ("concepts", sizes.projected), "gate_bias": ("concepts",),
                "weight": ("concepts",), "bias": ()}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> ConceptHead:
        return cls(**tensors)


@dataclass(frozen=True)
class ConceptRecipe:
    """Training as in the authors' script; patience is the authors' configuration file's."""

    batch: int = 256
    epochs: int = 100
    patience: int = 10
    gate_rate: float = 1e-2
    rate: float = 1e-3
    weight_decay: float = 1e-5
    sparsity: float = 1e-4  # weight of the KL term, and the gates' prior probability
    temperature: float = 0.1


class _Gated(nn.Module):
    """The trainable part: gate layer and readout over fixed directions."""

    def __init__(self, directions: Tensor):
        super().__init__()
        count, width = directions.shape
        self.register_buffer("directions", directions, persistent=False)
        self.gate = nn.Linear(width, count)
        self.readout = nn.Linear(count, 1)
        nn.init.xavier_normal_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)
        nn.init.xavier_normal_(self.readout.weight)
        nn.init.constant_(self.readout.bias, 0.1)

    def sampled(self, projected: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """Logits (B,) with binary-concrete gates, and the gates' probabilities (B, C)."""
        unit = F.normalize(projected, dim=1)
        gate_logits = self.gate(unit)
        uniform = torch.rand_like(gate_logits).clamp(1e-8, 1 - 1e-8)
        gates = torch.sigmoid((gate_logits + uniform.log() - (1 - uniform).log()) / temperature).clamp(1e-6, 1 - 1e-6)
        return self.readout(unit @ self.directions.T * gates).squeeze(1), torch.sigmoid(gate_logits)

    def head(self) -> ConceptHead:
        """The head, on the CPU."""
        parts = (self.directions, self.gate.weight, self.gate.bias, self.readout.weight[0], self.readout.bias[0])
        return ConceptHead(*(p.detach().clone().cpu() for p in parts))


def gate_divergence(probability: Tensor, prior: float) -> Tensor:
    """Mean over the batch of Σ_i KL(Bernoulli(p_i) ‖ Bernoulli(prior)), in nats. probability: (B, C)."""
    tiny = 1e-7
    on = probability * ((probability + tiny).log() - probability.new_tensor(prior + tiny).log())
    off = (1 - probability) * ((1 - probability + tiny).log() - probability.new_tensor(1 - prior + tiny).log())
    return (on + off).sum(1).mean()


def fit_concepts(train: tuple[Tensor, Tensor], val: tuple[Tensor, Tensor], directions: Tensor, *, seed: int = 0,
                 recipe: ConceptRecipe = ConceptRecipe()) -> ConceptHead:
    """Train on (projected (N, E), labels (N,)), on the device where they lie; keeps the epoch with the best validation AUROC.

    The head is on the CPU.
    """
    from sklearn.metrics import roc_auc_score  # slow to import, and scoring needs none of it

    torch.manual_seed(seed)
    model = _Gated(directions).to(train[0].device)
    val_features, val_labels = val[0].cpu(), to_numpy(val[1])
    readout = {"params": model.readout.parameters(), "lr": recipe.rate, "weight_decay": recipe.weight_decay}
    gate = {"params": model.gate.parameters(), "lr": recipe.gate_rate, "weight_decay": 0.0}
    optimiser = torch.optim.AdamW([gate, readout])
    best, chosen, waited = -1.0, model.head(), 0
    for _ in range(recipe.epochs):
        for rows in torch.randperm(len(train[1])).to(train[1].device).split(recipe.batch):
            logits, probability = model.sampled(train[0][rows], recipe.temperature)
            loss = F.binary_cross_entropy_with_logits(logits, train[1][rows])
            optimiser.zero_grad()
            (loss + recipe.sparsity * gate_divergence(probability, recipe.sparsity)).backward()
            optimiser.step()
        head = model.head()
        auroc = roc_auc_score(val_labels, to_numpy(head.logits(val_features)))
        waited = 0 if auroc > best else waited + 1
        if not waited:
            best, chosen = auroc, head
        if waited >= recipe.patience:
            break
    return chosen
