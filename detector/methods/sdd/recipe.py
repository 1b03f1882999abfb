"""How SDD is trained: rates, weights of the losses, epochs; and what the shipped head was trained with."""

from __future__ import annotations

from dataclasses import dataclass

from detector.methods.sdd.model import SddConfig


@dataclass(frozen=True)
class SddRecipe:
    """Weights of the losses: BCE and metric loss as the released code has them, reconstruction 1; margin: the paper's 8; decay
    and AdamW: the code's. epochs, rate, batch, patience, smoothing of the weights: choice, for a small corpus."""

    epochs: int = 30
    batch: int = 32
    rate: float = 5e-4
    weight_decay: float = 5e-4
    patience: int = 8  # epochs without a better validation AUROC
    entropy: float = 1.5
    reconstruction: float = 1.0
    metric: float = 1 / 3
    margin: float = 8.0  # of Euclidean distances between summaries f
    reconstruct_all: bool = False  # released code: the reconstruction loss counts synthetic images too
    average: float = 0.98  # exponential mean of the weights, which is what is validated and kept
    plain: float = 0.5  # share of the windows that are only cropped and mirrored
    enhancer_rate: float = 1.0  # times rate; below 1 for an enhancer that has been trained before
    pretrain_epochs: int = 0  # ours: of the enhancer by itself, over `pretrain_windows` windows of each image
    pretrain_windows: int = 4
    pretrain_rate: float = 2e-3
    pretrain_batch: int = 64
    teacher_share: float = 0.5  # of the teacher's logits in that loss, the rest is the labels'


SHIPPED = SddConfig(inputs="local", covariance=True)  # small data: the paper's plain pixels learn content first
SHIPPED_RECIPE = SddRecipe(epochs=6, enhancer_rate=0.4, pretrain_epochs=6, pretrain_windows=8)

# docs/methods.md, 2: the paper where it speaks, else its released code. Ours are the windows at native resolution, the linear fall of the
# rate (the code divides it by ten) and the patience, of which neither says anything; 256 tokens are what a processor can afford
PAPER = SddConfig(bag=256, lora_dropout=0.8, attention_dropout=0.1, biases=True)
PAPER_RECIPE = SddRecipe(epochs=100, rate=1e-4, average=0.0, plain=1.0)
