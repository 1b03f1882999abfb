"""Training of SDD: the bag of real tokens, the losses of arXiv 2508.12341, and a loop that a crash sets back by one epoch.

Both classes get the same random windows at native resolution: scaled a little, mirrored, blurred, compressed. Early stopping
reads the `val` split; test splits are never read here.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from detector.augment import recompress
from detector.backbone import Backbone
from detector.data import Example
from detector.images import load_photo
from detector.progress import progress
from detector.sdd import Sdd, SddConfig, SddHead, normalisation
from detector.windows import cut, window_boxes


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


# --- the bag of real tokens ----------------------------------------------------------------------------------------


def jensen_shannon(anchor: Tensor, tokens: Tensor) -> Tensor:
    """(D,), (N, D) → (N,) divergence in bits, 0 to 1, of softmaxed channels."""
    p, q = F.softmax(anchor, dim=-1), F.softmax(tokens, dim=-1)
    middle = (p + q) / 2
    divergence = lambda a: (a * (a.clamp(min=1e-12) / middle.clamp(min=1e-12)).log2()).sum(-1)  # noqa: E731
    return (divergence(p.expand_as(q)) + divergence(q)) / 2


def sample_bag(tokens: Tensor, size: int, by_divergence: bool = True, seed: int = 0) -> Tensor:
    """(N, D) patch tokens of real images → (size, D): one token at each of `size` equal steps of divergence from the anchor.

    Anchor: the token nearest the mean; steps between the smallest and the largest divergence, each token used once (choices;
    the paper's steps on [0, 1] would mostly be empty). Without `by_divergence` the tokens are drawn at random.
    """
    if not by_divergence:
        chosen = torch.randperm(len(tokens), generator=torch.Generator().manual_seed(seed))[:size]
        return tokens[chosen]
    anchor = tokens[(tokens - tokens.mean(0)).norm(dim=1).argmin()]
    divergence = jensen_shannon(anchor, tokens)
    free, chosen = torch.ones(len(tokens), dtype=torch.bool), []
    for level in torch.linspace(float(divergence.min()), float(divergence.max()), size):
        distance = (divergence - level).abs().masked_fill(~free, torch.inf)
        best = int(distance.argmin())
        free[best] = False
        chosen.append(best)
    return tokens[chosen]


def build_bag(backbone: Backbone, examples: Sequence[Example], config: SddConfig, seed: int = 0, images: int = 256) -> Tensor:
    """(config.bag, D) from windows of real training images through the frozen tower, raw tokens of the last block."""
    real = [example for example in examples if example.label == 0]
    generator = np.random.default_rng(seed)
    chosen = [real[i] for i in generator.permutation(len(real))[:images]]
    mean, deviation = normalisation(backbone)
    tokens = []
    for start in range(0, len(chosen), 16):
        windows = [middle_window(load_photo(e.path).pixels, backbone.size) for e in chosen[start : start + 16]]
        batch = (torch.from_numpy(np.stack(windows)).permute(0, 3, 1, 2).float() / 255 - mean) / deviation
        tokens.append(backbone.encode(batch).patches.flatten(0, 1))
    return sample_bag(torch.cat(tokens), config.bag, config.use_sts, seed)


def middle_window(pixels: np.ndarray, size: int) -> np.ndarray:
    return cut(pixels, window_boxes(pixels.shape[1], pixels.shape[0], size, most=1)[0], size)


# --- losses --------------------------------------------------------------------------------------------------------


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


def sdd_loss(model: Sdd, images: Tensor, labels: Tensor, recipe: SddRecipe) -> dict[str, Tensor]:
    """"loss" and its terms. The reconstruction aims at the tokens, which it does not move, on real images only (the paper)."""
    out = model(images)
    terms = {"entropy": F.binary_cross_entropy_with_logits(out.logits, labels),
             "metric": triplet_loss(out.features, labels, recipe.margin)}
    rows = torch.ones_like(labels, dtype=torch.bool) if recipe.reconstruct_all else labels == 0
    error = (out.reconstruction - out.tokens.detach())[rows]
    terms["reconstruction"] = error.square().mean() if model.config.use_cfdl and len(error) else out.logits.sum() * 0
    total = (recipe.entropy * terms["entropy"] + recipe.metric * terms["metric"] + recipe.reconstruction * terms["reconstruction"])
    return {"loss": total, **terms}


# --- windows to train on -------------------------------------------------------------------------------------------


def random_window(pixels: np.ndarray, size: int, generator: np.random.Generator) -> np.ndarray:
    """A random (size, size, 3) window, scaled by 0.8 to 1.25, mirrored, sometimes blurred, often compressed once more."""
    if generator.random() < 0.5:
        factor = generator.uniform(0.8, 1.25)
        kernel = (cv2.INTER_AREA, cv2.INTER_CUBIC, cv2.INTER_LINEAR)[generator.integers(3)]
        pixels = cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=kernel)
    y, x = (int(generator.integers(max(1, side - size + 1))) for side in pixels.shape[:2])
    window = cut(pixels, (x, y, min(x + size, pixels.shape[1]), min(y + size, pixels.shape[0])), size)
    window = window[:, ::-1] if generator.random() < 0.5 else window
    if generator.random() < 0.1:
        window = cv2.GaussianBlur(np.ascontiguousarray(window), (0, 0), generator.uniform(0.3, 0.8))
    window = np.ascontiguousarray(window)
    return recompress(window, ".jpg", int(generator.integers(75, 101))) if generator.random() < 0.5 else window


def batches(pictures: Sequence[np.ndarray], labels: np.ndarray, size: int, recipe: SddRecipe, seed: tuple[int, int]) -> Iterator:
    """(windows (B, S, S, 3), labels (B,)) with as many real as synthetic ones, one epoch of the smaller class twice over."""
    generator = np.random.default_rng(seed)
    half = recipe.batch // 2
    groups = [np.flatnonzero(labels == label) for label in (0, 1)]
    steps = max(1, len(labels) // recipe.batch)
    drawn = [np.concatenate([generator.permutation(g) for _ in range(-(-steps * half // len(g)))]) for g in groups]
    for step in range(steps):
        rows = np.concatenate([d[step * half : (step + 1) * half] for d in drawn])
        yield np.stack([random_window(pictures[i], size, generator) for i in rows]), labels[rows]


# --- the loop ------------------------------------------------------------------------------------------------------


def validation_auroc(head: SddHead, pictures: Sequence[np.ndarray], labels: np.ndarray) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels, [head.pool(head.window_logits(_scored(p, head))) for p in pictures]))


def _scored(pixels: np.ndarray, head: SddHead) -> list[np.ndarray]:
    boxes = window_boxes(pixels.shape[1], pixels.shape[0], head.size, most=head.model.config.windows)
    return [cut(pixels, box, head.size) for box in boxes]


def fit_sdd(train: Sequence[Example], val: Sequence[Example], backbone: Backbone, config: SddConfig = SddConfig(),
            recipe: SddRecipe = SddRecipe(), seed: int = 0, checkpoint: Path | None = None, resume: bool = False) -> SddHead:
    """Train on windows of `train`, keep the weights (their running mean) with the best AUROC on `val`.

    checkpoint: a file written after every epoch, so that `resume` loses at most the current one.
    """
    torch.manual_seed(seed)
    pictures, val_pictures = ([load_photo(e.path).pixels for e in part] for part in (train, val))
    labels, val_labels = (np.array([e.label for e in part]) for part in (train, val))
    model = Sdd(backbone.model.visual, config, build_bag(backbone, train, config, seed))
    mean = copy.deepcopy(model, {id(t): t for t in (*model.tower.parameters(),) if not t.requires_grad})
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=recipe.rate, weight_decay=recipe.weight_decay)
    state = {"epoch": 0, "best": -1.0, "waited": 0, "kept": None, "log": []}
    if resume and checkpoint and checkpoint.is_file():
        state = _restore(checkpoint, model, mean, optimiser)
    head = SddHead(mean.eval(), normalisation(backbone))
    for epoch in range(state["epoch"], recipe.epochs):
        if state["waited"] >= recipe.patience:
            break
        for group in optimiser.param_groups:  # falls linearly to a twentieth
            group["lr"] = recipe.rate * (1 - 0.95 * epoch / recipe.epochs)
        sums = train_epoch(model, mean, head, optimiser, batches(pictures, labels, head.size, recipe, (seed, epoch)), recipe)
        auroc = validation_auroc(head, val_pictures, val_labels)
        better = auroc > state["best"]
        kept = {n: v.clone() for n, v in mean.state_dict().items()} if better else state["kept"]
        state = {"epoch": epoch + 1, "best": max(auroc, state["best"]), "waited": 0 if better else state["waited"] + 1, "kept": kept,
                 "log": [*state["log"], {"epoch": epoch + 1, "auroc_val": round(auroc, 4)} | sums]}
        print(state["log"][-1], flush=True)
        if checkpoint:
            _save(checkpoint, model, mean, optimiser, state)
    if state["kept"]:
        mean.load_state_dict(state["kept"])
    return SddHead(mean.eval().requires_grad_(False), normalisation(backbone))


def train_epoch(model: Sdd, mean: Sdd, head: SddHead, optimiser, data: Iterator, recipe: SddRecipe) -> dict[str, float]:
    """One pass; `mean` follows the trained parameters and takes over the batch statistics. Returns mean losses."""
    sums: dict[str, float] = {}
    count = 0
    model.train()
    for windows, labels in progress(data, title="sdd"):
        losses = sdd_loss(model, head.prepare(list(windows)), torch.as_tensor(labels, dtype=torch.float32), recipe)
        optimiser.zero_grad(set_to_none=True)
        losses["loss"].backward()
        torch.nn.utils.clip_grad_norm_([p for group in optimiser.param_groups for p in group["params"]], 5.0)
        optimiser.step()
        follow(mean, model, recipe.average)
        count += 1
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach())
    return {name: round(value / count, 4) for name, value in sums.items()}


@torch.no_grad()
def follow(mean: Sdd, model: Sdd, average: float) -> None:
    """mean ← average · mean + (1 − average) · model for trained parameters; buffers are copied."""
    for ours, theirs in zip(mean.parameters(), model.parameters(), strict=True):
        if theirs.requires_grad:
            ours.lerp_(theirs, 1 - average)
    for ours, theirs in zip(mean.buffers(), model.buffers(), strict=True):
        ours.copy_(theirs)


def _save(path: Path, model: Sdd, mean: Sdd, optimiser, state: dict) -> None:
    """Write beside the target and rename, so that an interrupted write never replaces a good checkpoint."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    torch.save({"model": model.state_dict(), "mean": mean.state_dict(), "optimiser": optimiser.state_dict(), "state": state}, temporary)
    os.replace(temporary, path)


def _restore(path: Path, model: Sdd, mean: Sdd, optimiser) -> dict:
    saved = torch.load(path, map_location="cpu", weights_only=True)
    model.load_state_dict(saved["model"])
    mean.load_state_dict(saved["mean"])
    optimiser.load_state_dict(saved["optimiser"])
    return saved["state"]
