"""Training of the gated concept model, as in the authors' script."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.clip.vocabulary import vocabulary
from detector.devices import to_numpy
from detector.methods.concepts.head import ConceptHead, concept_directions
from detector.methods.table import SOURCE_POWER, Fitted, Table, Training
from detector.trainer import Plan, Rows, train_rows


@dataclass(frozen=True)
class ConceptRecipe:
    """Training as in the authors' script; patience is the authors' configuration file's, which their script does not read."""

    batch: int = 256
    epochs: int = 100
    patience: int | None = 10  # epochs without a better validation AUROC; None: all epochs, the best of which is kept
    gate_rate: float = 1e-2
    rate: float = 1e-3
    weight_decay: float = 1e-5
    sparsity: float = 1e-4  # weight of the KL term, and the gates' prior probability
    temperature: float = 0.1
    power: float = SOURCE_POWER  # of the sources' weights, see `Table.weights` (choice)
    copies: bool = True  # ours: random copies of the training images are learnt, too


PAPER_RECIPE = ConceptRecipe(patience=None, copies=False, power=0.0)  # the authors' script; docs/methods.md, 1.4


class _Gated(nn.Module):
    """The trainable part: gate layer and readout over fixed directions."""

    directions: Tensor

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

    def optimiser(self, recipe: ConceptRecipe) -> torch.optim.Optimizer:
        readout = {"params": self.readout.parameters(), "lr": recipe.rate, "weight_decay": recipe.weight_decay}
        return torch.optim.AdamW([{"params": self.gate.parameters(), "lr": recipe.gate_rate, "weight_decay": 0.0}, readout])

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


def fit_concepts(
    train: tuple[Tensor, Tensor],
    val: tuple[Tensor, Tensor],
    directions: Tensor,
    *,
    seed: int = 0,
    recipe: ConceptRecipe = ConceptRecipe(),
    weights: np.ndarray | None = None,
) -> ConceptHead:
    """Train on (projected (N, E), labels (N,)), on the device where they lie; keeps the epoch with the best validation AUROC.

    The head is on the CPU. weights: (N,) how often a training image is drawn; None: all equally often.
    """
    from sklearn.metrics import roc_auc_score  # slow to import, and scoring needs none of it

    torch.manual_seed(seed)
    model, (features, labels) = _Gated(directions).to(train[0].device), train
    val_features, val_labels = val[0].cpu(), to_numpy(val[1])

    def loss(rows: Tensor) -> Tensor:
        logits, probability = model.sampled(features[rows], recipe.temperature)
        entropy = F.binary_cross_entropy_with_logits(logits, labels[rows])
        return entropy + recipe.sparsity * gate_divergence(probability, recipe.sparsity)

    def auroc() -> float:
        return float(roc_auc_score(val_labels, to_numpy(model.head().logits(val_features))))

    drawn = None if weights is None else torch.from_numpy(weights)
    plan, rows = Plan(recipe.epochs, recipe.patience), Rows(len(labels), recipe.batch, labels.device, weights=drawn)
    return train_rows(model, model.optimiser(recipe), plan, rows, loss, auroc).head()


def fit(train: Table, val: Table, training: Training) -> Fitted:
    """The concept model on the projected feature of the tables, over the project's vocabulary. training.options: a `ConceptRecipe`."""
    backbone, recipe = training.backbone, training.recipe(ConceptRecipe())
    learnt = train if recipe.copies else train.originals()
    tables = learnt.projected(backbone.device), val.projected(backbone.device)
    head = fit_concepts(*tables, concept_directions(backbone), seed=training.seed, recipe=recipe, weights=learnt.weights(recipe.power))
    return Fitted.by(recipe, head, {"concepts": [concept.name for concept in vocabulary()]})
