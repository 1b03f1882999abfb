"""Training of SDD: the bag of real tokens, the losses of arXiv 2508.12341, and a loop that a crash sets back by one epoch.

Both classes get the same random windows at native resolution: scaled a little, mirrored, blurred, compressed. With a
teacher (ours) the enhancer is first trained by itself: its windows' labels, and the logits of the `residual` head trained on
the same images. Early stopping reads the `val` split; test splits are never read here.
"""

from __future__ import annotations

import copy
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.checkpoints import write_whole
from detector.clip.backbone import Backbone
from detector.data.datasets import Example
from detector.data.images import load_photo
from detector.data.windows import crop_window, window_boxes
from detector.devices import training_autocast
from detector.methods.calibration import calibrated
from detector.methods.residual import train as residual_train
from detector.methods.residual.features import WINDOW, features
from detector.methods.residual.head import ResidualHead
from detector.methods.sdd.head import SddHead, normalisation
from detector.methods.sdd.model import FEATURES, Enhancer, Sdd, SddConfig
from detector.methods.sdd.recipe import SHIPPED, SHIPPED_RECIPE, SddRecipe
from detector.methods.sdd.windows import WORKERS, batches, draw_window, window_of
from detector.methods.table import Fitted, Table, Training
from detector.progress import progress

LAYOUT = "trained tensors"  # what a checkpoint holds; older ones held CLIP, too


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
    free, chosen = torch.ones(len(tokens), dtype=torch.bool, device=tokens.device), []
    for level in torch.linspace(float(divergence.min()), float(divergence.max()), size, device=tokens.device):
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
    return crop_window(pixels, window_boxes(pixels.shape[1], pixels.shape[0], size, limit=1)[0], size)


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
    """ "loss" and its terms. The reconstruction aims at the tokens, which it does not move, on real images only (the paper)."""
    with training_autocast(images.device):
        out = model(images)
    terms = {
        "entropy": F.binary_cross_entropy_with_logits(out.logits.float(), labels),
        "metric": triplet_loss(out.features.float(), labels, recipe.margin),
    }
    rows = torch.ones_like(labels, dtype=torch.bool) if recipe.reconstruct_all else labels == 0
    error = (out.reconstruction.float() - out.tokens.detach().float())[rows]
    terms["reconstruction"] = error.square().mean() if model.config.use_cfdl and len(error) else out.logits.sum() * 0
    total = recipe.entropy * terms["entropy"] + recipe.metric * terms["metric"] + recipe.reconstruction * terms["reconstruction"]
    return {"loss": total, **terms}


# --- the enhancer by itself (ours) ---------------------------------------------------------------------------------

Teacher = Callable[[np.ndarray], float]  # (S, S, 3) uint8 → logit, higher speaks for synthetic


@dataclass(frozen=True)
class Pool:
    """Windows (N, S, S, 3) uint8 drawn once, their labels (N,) and the teacher's logits (N,), cut at ±6."""

    windows: np.ndarray
    labels: Tensor
    logits: Tensor


def residual_teacher(head: ResidualHead) -> Teacher:
    """The `residual` head on the middle of a window: it reads squares of its own size, and four would take four times as long."""

    def logit(window: np.ndarray) -> float:
        start = max(0, (window.shape[0] - WINDOW) // 2)
        return float(head.logits(features(window[start : start + WINDOW, start : start + WINDOW])[None])[0])

    return logit


def draw_pool(pictures: Sequence[np.ndarray], labels: np.ndarray, size: int, teacher: Teacher, recipe: SddRecipe, seed: int) -> Pool:
    """`recipe.pretrain_windows` random windows of every picture, scored by the teacher."""
    generator = np.random.default_rng((seed, 1))
    windows, logits = [], []
    with ThreadPoolExecutor(max_workers=WORKERS) as pool:
        for _ in progress(range(recipe.pretrain_windows), title="sdd: windows"):
            draws = [draw_window(p.shape, size, generator) for p in pictures]
            made = list(pool.map(window_of, pictures, [size] * len(draws), draws))
            windows += made
            logits += pool.map(teacher, made)
    each = torch.as_tensor(np.tile(labels, recipe.pretrain_windows), dtype=torch.float32)
    return Pool(np.stack(windows), each, torch.tensor(logits).clamp(-6, 6))


class Alone(nn.Module):
    """The enhancer under neutral modulation, and a classifier of its own that training throws away."""

    def __init__(self, enhancer: Enhancer):
        super().__init__()
        self.enhance = enhancer
        classify = nn.Sequential(
            nn.BatchNorm1d(FEATURES), nn.Linear(FEATURES, FEATURES), nn.BatchNorm1d(FEATURES), nn.ReLU(), nn.Linear(FEATURES, 1)
        )
        self.classify = classify.to(enhancer.summary.weight.device)

    def forward(self, images: Tensor) -> Tensor:
        return self.classify(self.enhance(images, None)).squeeze(1)


class Pretraining:
    """The enhancer's own training, epoch by epoch: on labels and the teacher's logits (smooth L1).

    file: written after every epoch. It holds nothing of the rest of the model, so that runs that differ there can share it.
    """

    def __init__(self, model: Sdd, recipe: SddRecipe, steps: int, seed: int, file: Path | None):
        self.alone = Alone(model.enhance).train()
        self.mean, self.recipe, self.steps, self.seed, self.file = copy.deepcopy(self.alone), recipe, steps, seed, file
        self.optimiser = torch.optim.AdamW(self.alone.parameters(), lr=recipe.pretrain_rate, weight_decay=1e-3)
        total = max(1, recipe.pretrain_epochs * steps)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimiser, recipe.pretrain_rate, total_steps=total)
        self.epoch = 0

    @property
    def _parts(self) -> dict[str, object]:
        return {"alone": self.alone, "mean": self.mean, "optimiser": self.optimiser, "schedule": self.schedule}

    def restore(self, made: str) -> None:
        """Go on from the file, if it is there and was made the same way; else from the start."""
        saved = torch.load(self.file, map_location="cpu", weights_only=True) if self.file and self.file.is_file() else {}
        if saved.get("made") == made:
            self.epoch = saved["epoch"]
            for name, part in self._parts.items():
                part.load_state_dict(saved[name])

    def run_epoch(self, head: SddHead, pool: Pool, made: str) -> None:
        generator = torch.Generator().manual_seed(self.seed + 1000 * self.epoch)
        order = torch.randperm(len(pool.labels), generator=generator)[: self.steps * self.recipe.pretrain_batch]
        for rows in progress(order.split(self.recipe.pretrain_batch), title=f"sdd: enhancer, epoch {self.epoch + 1}"):
            loss = teacher_loss(self.alone(head.prepare(pool.windows[rows.numpy()])), pool, rows, self.recipe.teacher_share)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            self.optimiser.step()
            self.schedule.step()
            follow(self.mean, self.alone, self.recipe.average)
        self.epoch += 1
        if self.file:
            write_whole(self.file, {name: part.state_dict() for name, part in self._parts.items()} | {"epoch": self.epoch, "made": made})


def pretrain_enhancer(
    model: Sdd, head: SddHead, draw: Callable[[], Pool], images: int, recipe: SddRecipe, seed: int, file: Path | None = None, made: str = ""
) -> None:
    """Train the model's enhancer by itself on a pool, then let the modulation start neutral.

    draw: makes the pool of `recipe.pretrain_windows` windows of each of `images`, asked only where an epoch is left to do. file:
    what a broken training goes on from, if `made` is the same.
    """
    steps = images * recipe.pretrain_windows // recipe.pretrain_batch
    training = Pretraining(model, recipe, steps, seed, file)
    training.restore(made)
    pool = draw() if training.epoch < recipe.pretrain_epochs else None
    while training.epoch < recipe.pretrain_epochs:
        training.run_epoch(head, pool, made)
    model.enhance.load_state_dict(training.mean.enhance.state_dict())
    for stage in model.enhance.stages:
        stage.neutralise()


def teacher_loss(logits: Tensor, pool: Pool, rows: Tensor, share: float) -> Tensor:
    """(1 − share) · entropy of the labels, both classes weighing the same, + share · smooth L1 to the teacher's logits."""
    labels, taught = pool.labels[rows].to(logits.device), pool.logits[rows].to(logits.device)
    rarity = float((pool.labels == 0).sum() / (pool.labels == 1).sum())
    entropy = F.binary_cross_entropy_with_logits(logits, labels, torch.where(labels == 1, rarity, 1.0))
    return (1 - share) * entropy + share * F.smooth_l1_loss(logits, taught)


# --- the loop ------------------------------------------------------------------------------------------------------


def validation_auroc(head: SddHead, pictures: Sequence[np.ndarray], labels: np.ndarray) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels, head.unscaled(pictures)))


def fit_sdd(
    train: Sequence[Example],
    val: Sequence[Example],
    backbone: Backbone,
    config: SddConfig = SddConfig(),
    recipe: SddRecipe = SddRecipe(),
    seed: int = 0,
    checkpoint: Path | None = None,
    resume: bool = False,
    teacher: Callable[[], Teacher] | None = None,
    enhancer: Path | None = None,
) -> Trained:
    """Train on windows of `train`, keep the weights (their running mean) with the best AUROC on `val`.

    checkpoint: a file written after every epoch, so that `resume` loses at most the current one. teacher: makes that of the
    enhancer, asked only where the recipe trains the enhancer first. enhancer: the same for the enhancer's own training; default:
    beside the checkpoint.
    """
    torch.manual_seed(seed)
    pictures, val_pictures = ([load_photo(e.path).pixels for e in part] for part in (train, val))
    labels, val_labels = (np.array([e.label for e in part]) for part in (train, val))
    model = Sdd(backbone.model.visual, config, build_bag(backbone, train, config, seed))
    mean = copy.deepcopy(model, {id(t): t for t in (*model.tower.parameters(),) if not t.requires_grad})
    head, optimiser = SddHead(mean.eval(), normalisation(backbone)), _optimiser(model, recipe)
    state, made = {"epoch": 0, "best": -1.0, "waited": 0, "kept": None, "log": []}, _made(backbone, config, recipe, seed)
    if resume and checkpoint and checkpoint.is_file():
        state = _restore(checkpoint, model, mean, optimiser, made)
    elif teacher and recipe.pretrain_epochs and config.use_enhancer:
        file = enhancer or (checkpoint.with_suffix(".enhancer.pt") if checkpoint else None)
        if file and not resume:
            file.unlink(missing_ok=True)
        pretrain_enhancer(
            model,
            head,
            lambda: draw_pool(pictures, labels, head.size, teacher(), recipe, seed),
            len(labels),
            recipe,
            seed,
            file,
            _made_alone(backbone, config, recipe, seed),
        )
        mean.load_state_dict(model.state_dict())
    while state["epoch"] < recipe.epochs and state["waited"] < recipe.patience:
        for group in optimiser.param_groups:  # falls linearly to a twentieth
            group["lr"] = recipe.rate * group["times"] * (1 - 0.95 * state["epoch"] / recipe.epochs)
        data = batches(pictures, labels, head.size, recipe, (seed, state["epoch"]))
        sums = train_epoch(model, mean, head, optimiser, data, recipe)
        state = _after_epoch(state, mean, validation_auroc(head, val_pictures, val_labels), sums)
        if checkpoint:
            _save(checkpoint, model, mean, optimiser, state, made)
    if state["kept"]:
        mean.load_trained(state["kept"])
    return Trained(SddHead(mean.eval().requires_grad_(False), normalisation(backbone)), state["log"])


@dataclass(frozen=True)
class Trained:
    """The head, not yet calibrated, and for each epoch its validation AUROC and mean losses."""

    head: SddHead
    log: list[dict]


def _optimiser(model: Sdd, recipe: SddRecipe) -> torch.optim.AdamW:
    """Two groups, each with `times`: what its rate is of the recipe's."""
    enhancer = set(model.enhance.parameters())
    rest = [p for p in model.parameters() if p.requires_grad and p not in enhancer]
    groups = [{"params": rest, "times": 1.0}, {"params": list(model.enhance.parameters()), "times": recipe.enhancer_rate}]
    return torch.optim.AdamW(groups, lr=recipe.rate, weight_decay=recipe.weight_decay)


def _after_epoch(state: dict, mean: Sdd, auroc: float, sums: dict[str, float]) -> dict:
    """The state with one more epoch: its measures, and the weights if they are the best so far."""
    better = auroc > state["best"]
    line = {"epoch": state["epoch"] + 1, "auroc_val": round(auroc, 4)} | sums
    print(line, file=sys.stderr, flush=True)
    return {
        "epoch": line["epoch"],
        "best": max(auroc, state["best"]),
        "waited": 0 if better else state["waited"] + 1,
        "kept": {n: v.clone() for n, v in mean.trained().items()} if better else state["kept"],
        "log": [*state["log"], line],
    }


def train_epoch(model: Sdd, mean: Sdd, head: SddHead, optimiser, data: Iterator, recipe: SddRecipe) -> dict[str, float]:
    """One pass; `mean` follows the trained parameters and takes over the batch statistics. Returns mean losses."""
    found: list[dict[str, Tensor]] = []  # read off at the end: each reading would wait for the device
    model.train()
    for windows, labels in progress(data, title="sdd"):
        labels = torch.as_tensor(labels, dtype=torch.float32, device=model.device)
        losses = sdd_loss(model, head.prepare(list(windows)), labels, recipe)
        optimiser.zero_grad(set_to_none=True)
        losses["loss"].backward()
        torch.nn.utils.clip_grad_norm_([p for group in optimiser.param_groups for p in group["params"]], 5.0)
        optimiser.step()
        follow(mean, model, recipe.average)
        found.append({name: value.detach() for name, value in losses.items()})
    return {name: round(sum(float(losses[name]) for losses in found) / len(found), 4) for name in found[0]}


@torch.no_grad()
def follow(mean: nn.Module, model: nn.Module, average: float) -> None:
    """mean ← average · mean + (1 − average) · model for trained parameters; buffers are copied."""
    for ours, theirs in zip(mean.parameters(), model.parameters(), strict=True):
        if theirs.requires_grad:
            ours.lerp_(theirs, 1 - average)
    for ours, theirs in zip(mean.buffers(), model.buffers(), strict=True):
        ours.copy_(theirs)


def _made(backbone: Backbone, config: SddConfig, recipe: SddRecipe, seed: int) -> str:
    """What a checkpoint belongs to, its layout first; more or fewer epochs may follow it."""
    return json.dumps([LAYOUT, backbone.fingerprint, asdict(config), asdict(replace(recipe, epochs=0)), seed])


def _made_alone(backbone: Backbone, config: SddConfig, recipe: SddRecipe, seed: int) -> str:
    """The same for the enhancer's own training, which the rest of the model does not touch."""
    own = {name: value for name, value in asdict(recipe).items() if name.startswith(("pretrain", "teacher", "average"))}
    return json.dumps([backbone.fingerprint, config.inputs, config.covariance, config.modulation, config.modulated_stages, own, seed])


def _save(path: Path, model: Sdd, mean: Sdd, optimiser, state: dict, made: str) -> None:
    """Without CLIP's own weights, which the backbone has."""
    parts = {"model": model.trained(), "mean": mean.trained(), "optimiser": optimiser.state_dict(), "state": state, "made": made}
    write_whole(path, parts)


def _restore(path: Path, model: Sdd, mean: Sdd, optimiser, made: str) -> dict:
    """The state of a checkpoint. ValueError, one sentence, if it was made with other settings."""
    saved = torch.load(path, map_location="cpu", weights_only=True)
    if saved.get("made") != made:
        raise ValueError(f"The checkpoint {path} was made with other settings; leave out --resume or name another folder.")
    model.load_trained(saved["model"])
    mean.load_trained(saved["mean"])
    optimiser.load_state_dict(saved["optimiser"])
    return saved["state"]


# --- as a method ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SddRun:
    """How `sdd` is trained. checkpoints: folder of what `resume` goes on from, a file for each backbone and seed."""

    config: SddConfig = SHIPPED
    recipe: SddRecipe = SHIPPED_RECIPE
    checkpoints: Path | None = None
    resume: bool = False


def sdd_teacher(train: Table, val: Table, training: Training) -> Teacher:
    """The `residual` head trained on these tables, as the teacher of SDD's enhancer."""
    return residual_teacher(calibrated(residual_train.fit(train, val, training).head, val, training.backbone))


def fit(train: Table, val: Table, training: Training) -> Fitted:
    """SDD on the tables' pictures as they are: it draws windows of its own. training.options: an `SddRun`."""
    run, backbone, seed = training.options or SddRun(), training.backbone, training.seed
    checkpoint = run.checkpoints / f"{re.sub(r'[^A-Za-z0-9_.-]', '-', backbone.name)}-{seed}.pt" if run.checkpoints else None
    parts = [table.pictures.originals() for table in (train, val)]
    trained = fit_sdd(*parts, backbone, run.config, run.recipe, seed, checkpoint, run.resume, partial(sdd_teacher, train, val, training))
    return Fitted(trained.head, {**trained.head.details(), "recipe": asdict(run.recipe), "seed": seed, "epochs": trained.log})
