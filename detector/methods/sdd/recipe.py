"""How SDD is trained: rates, weights of the losses, epochs; and the forms of the model that the command line offers."""

from __future__ import annotations

from dataclasses import dataclass

from detector.methods.sdd.config import SddConfig
from detector.methods.table import SOURCE_POWER


@dataclass(frozen=True)
class SddRecipe:
    """Weights of the losses: BCE and metric loss as the released code has them, reconstruction 1; margin: the paper's 8; decay
    and AdamW: the code's. The rest: choice, for a small corpus."""

    epochs: int = 30
    batch: int = 64
    rate: float = 1e-3  # at its peak; it rises over the first 30 % of the steps and then falls to zero
    weight_decay: float = 5e-4
    patience: int = 8  # epochs without a better validation AUROC
    entropy: float = 1.5
    reconstruction: float = 1.0
    metric: float = 1 / 3
    margin: float = 8.0  # of Euclidean distances between summaries f
    reconstruct_all: bool = False  # released code: the reconstruction loss counts synthetic images too
    average: float = 0.99  # exponential mean of the weights, which is what is validated and kept
    plain: float = 0.3  # share of the windows that are cut from the picture as it is; the others come from a random copy of it
    windows: int = 8  # drawn once of each training image, and mirrored at random
    epoch_windows: int = 4  # of each training image, on average, in an epoch
    power: float = SOURCE_POWER  # of the sources' weights in a draw, see `source_weights`
    splices: float = 0.0  # ours: share of the windows that hold a region of another picture, see `splice_windows`
    places: float = 0.0  # ours: weight of the cross-entropy of each token's logit with the synthetic share of its square


PLACES = SddConfig(  # ours: small data; the logit is the mean of a logit for each token, so that its map is exact
    heads=8,
    adapted_blocks=1,
    target="unit",
    shortcut=False,
    inputs="local",
    readout="tokens",
    widths=(24, 48, 64),
    dense=True,
    windows=9,
)
PLACES_RECIPE = SddRecipe(epochs=6, rate=2e-3, weight_decay=0.02, patience=6, metric=0.0, splices=0.25, places=0.5)

# docs/methods.md, 2: the paper where it speaks, else its released code. Ours are the windows at native resolution, the linear fall of the
# rate (the code divides it by ten) and the patience, of which neither says anything; 256 tokens are what a processor can afford
PAPER = SddConfig(bag=256, lora_dropout=0.8, attention_dropout=0.1, biases=True)
PAPER_RECIPE = SddRecipe(epochs=100, rate=1e-4, average=0.0, plain=1.0)
