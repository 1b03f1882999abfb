"""ITEM: how far an image lies from its caption, as a whole and thing by thing, and a small network on it (arXiv 2511.00427).

Known from the paper: fakes match their captions less than photographs do; the mismatch is measured in the space of a frozen CLIP
on two levels, the whole image and each object that the caption names; a network is trained on it. Captioner, finding and
placing of objects, form and sum of the mismatch and the network are not published; the following are choices (docs/methods.md, 3).
With unit embeddings: global δ_g = image − caption, s_g their cosine; for each of K ≤ 5 objects δ_k = crop − "a photo of a
{object}", s_k their cosine; u = [δ_g; mean δ_k; s_g, mean s_k, min s_k, K/5] → layer norm → Linear 512 → GELU → Linear 1.

δ holds the image embedding itself, so that a network could do without the words: `controls` measures what they add.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.clip.backbone import Backbone, ClipFeatures, Sizes
from detector.clip.captioning import Caption, caption
from detector.devices import to_numpy
from detector.methods.base import Evidence, HeadError, Score, Shapes
from detector.methods.item.localise import GENERIC, Box, box_of, crop, heatmap, patch_embeddings
from detector.methods.item.objects import MOST, find_objects

VERSION = "alignment-1"  # of captions, objects, boxes and what is measured of them; part of the key under which features are kept
AT_ONCE = 64  # images, or crops, in a batch of the vision tower


@dataclass(frozen=True)
class Found:
    """An object of a caption. score: cosine of its crop and "a photo of a {phrase}", higher: they match better. box: x0, y0, x1, y1
    in pixels of the image. heat: (g, g) over the centre square that CLIP sees, see `heatmap`; None for towers without patches."""

    phrase: str
    score: float
    box: Box
    heat: np.ndarray | None = None


@dataclass(frozen=True)
class Reading:
    """The caption of one image and its objects in order."""

    caption: Caption
    objects: tuple[Found, ...]


@dataclass(frozen=True)
class Alignment:
    """Images against their captions, B images. All embeddings are unit rows of width E; on the CPU, but for training (`to`).

    image: (B, E). caption: (B, E), NaN rows where there is no usable caption. crops, phrases: (B, 5, E) of each object's crop and
    text, zero beyond count: (B,) objects. texts: the captions, "" for none. readings: one an image, () for cached features.
    patches: (B, N, E), for `realign`.
    """

    image: Tensor
    caption: Tensor
    crops: Tensor
    phrases: Tensor
    count: Tensor
    texts: tuple[str, ...] = ()
    readings: tuple[Reading, ...] = ()
    patches: Tensor | None = None

    def __len__(self) -> int:
        return len(self.image)

    def to(self, device: torch.device) -> Alignment:
        """The same on another device, to train on; without readings and patches."""
        tensors = (part.to(device) for part in (self.image, self.caption, self.crops, self.phrases, self.count))
        return Alignment(*tensors, self.texts)

    @property
    def usable(self) -> Tensor:
        """(B,) whether the image has a caption; without one there is no ITEM score."""
        return ~self.caption.isnan().any(1)

    @property
    def cosine(self) -> Tensor:
        """(B,) s_g in [−1, 1]; higher: image and caption match better. NaN without a caption."""
        return (self.image * self.caption).sum(1)

    @property
    def object_cosines(self) -> Tensor:
        """(B, 5) s_k in [−1, 1], NaN beyond the image's own objects."""
        beyond = _places_of(self) >= self.count[:, None]
        return (self.crops * self.phrases).sum(2).masked_fill(beyond, torch.nan)

    @property
    def local(self) -> Tensor:
        """(B, E) mean δ_k; zero without objects."""
        return (self.crops - self.phrases).sum(1) / self.count.clamp(min=1)[:, None]

    @property
    def summary(self) -> Tensor:
        """(B, 4): s_g, mean s_k, min s_k, K/5. Without objects s_g stands in for s_k."""
        own = torch.where(self.count[:, None] > 0, self.object_cosines, self.cosine[:, None])
        least = own.nan_to_num(nan=torch.inf).amin(1)
        least = torch.where(self.usable, least, torch.nan)
        return torch.stack([self.cosine, own.nanmean(1), least, self.count / MOST], dim=1)

    @property
    def inputs(self) -> Tensor:
        """(B, 2 E + 4) what the network reads: δ_g, mean δ_k, summary."""
        return torch.cat([self.image - self.caption, self.local, self.summary], dim=1)

    def rows(self, index: Tensor | np.ndarray) -> Alignment:
        """The images of a mask or of places, without readings and patches."""
        places = np.arange(len(self))[to_numpy(torch.as_tensor(index))].tolist()
        tensors = (part[index] for part in (self.image, self.caption, self.crops, self.phrases, self.count))
        return Alignment(*tensors, tuple(self.texts[i] for i in places) if self.texts else ())


def _places_of(alignment: Alignment) -> Tensor:
    """(5,) numbers of the places for objects, on the alignment's device."""
    return torch.arange(alignment.crops.shape[1], device=alignment.count.device)


# --- measuring -----------------------------------------------------------------------------------------------------


def align(backbone: Backbone, pixels: Sequence[np.ndarray], images: Tensor, features: ClipFeatures,
          captions: Sequence[Caption | None] | None = None) -> Alignment:
    """Caption B images and measure how far they lie from it. Nothing but pixels and the user's captions goes in.

    pixels: (H, W, 3) uint8 each, for the crops. images: (B, 3, S, S) prepared; features: their one forward. captions: the
    user's, None where the image is to be captioned here.
    """
    captions = list(captions) if captions is not None else [None] * len(pixels)
    missing = [i for i, given in enumerate(captions) if given is None]
    if missing:
        for i, made in zip(missing, caption(backbone, images[missing], _chosen(features, missing)), strict=True):
            captions[i] = made
    objects = [find_objects(c.text) for c in captions]
    return _measured(backbone, pixels, F.normalize(features.projected, dim=1), patch_embeddings(backbone, features), captions, objects)


def realign(backbone: Backbone, pixels: np.ndarray, before: Alignment, written: Caption | None = None,
            objects: Sequence[str] | None = None) -> Alignment:
    """One image against an edited caption, an edited list of objects, or both; the image itself is not encoded again.

    Without `written` the caption stays; without `objects` they are found in the caption. Needs an alignment made by `align`.
    """
    written = written or before.readings[0].caption
    objects = find_objects(written.text) if objects is None else list(objects)[:MOST]
    return _measured(backbone, [pixels], before.image[:1], before.patches, [written], [objects])


def _measured(backbone: Backbone, pixels: Sequence[np.ndarray], image: Tensor, patches: Tensor | None,
              captions: Sequence[Caption], objects: Sequence[Sequence[str]]) -> Alignment:
    """Embeddings of captions, of the objects' texts and of their crops, all in batches."""
    owners = [row for row, names in enumerate(objects) for _ in names]
    places = [place for names in objects for place in range(len(names))]
    names = [name for row in objects for name in row]
    texts = _encoded(backbone, [f"a photo of a {name}" for name in names], image.shape[1])
    boxes, heats = _places(backbone, pixels, patches, owners, texts)
    cut = _crops(backbone, [crop(pixels[row], box) for row, box in zip(owners, boxes, strict=True)], image.shape[1])
    crops, phrases = (torch.zeros(len(pixels), MOST, image.shape[1]) for _ in range(2))
    crops[owners, places], phrases[owners, places] = cut, texts
    scores = (cut * texts).sum(1).tolist()
    found = [Found(*parts) for parts in zip(names, scores, boxes, heats, strict=True)]
    readings = tuple(Reading(c, tuple(f for f, owner in zip(found, owners, strict=True) if owner == row))
                     for row, c in enumerate(captions))
    return Alignment(image, _caption_embeddings(backbone, captions, image.shape[1]), crops, phrases,
                     torch.tensor([len(row) for row in objects]), tuple(c.text for c in captions), readings, patches)


def _chosen(features: ClipFeatures, rows: list[int]) -> ClipFeatures:
    return ClipFeatures(*(None if part is None else part[rows] for part in vars(features).values()))


def _encoded(backbone: Backbone, texts: list[str], width: int) -> Tensor:
    """(len(texts), E); nothing for no texts."""
    return backbone.encode_text(texts) if texts else torch.zeros(0, width)


def _caption_embeddings(backbone: Backbone, captions: Sequence[Caption], width: int) -> Tensor:
    embedded = torch.full((len(captions), width), torch.nan)
    usable = [row for row, c in enumerate(captions) if c.text]
    embedded[usable] = _encoded(backbone, [captions[row].text for row in usable], width)
    return embedded


def _places(backbone: Backbone, pixels: Sequence[np.ndarray], patches: Tensor | None, owners: list[int],
            texts: Tensor) -> tuple[list[Box], list[np.ndarray | None]]:
    """Box and heat of each text in its image; the whole image and None for towers without patches."""
    sizes = [(pixels[row].shape[1], pixels[row].shape[0]) for row in owners]
    if patches is None:
        return [(0, 0, width, height) for width, height in sizes], [None] * len(owners)
    generic = backbone.encode_text(list(GENERIC)).mean(0)
    heats = [heatmap(patches[row], text[None], generic)[0] for row, text in zip(owners, texts, strict=True)]
    return [box_of(heat, *size) for heat, size in zip(heats, sizes, strict=True)], heats


def _crops(backbone: Backbone, cut: list[np.ndarray], width: int) -> Tensor:
    """(crops, E) unit rows."""
    parts = [torch.zeros(0, width)]
    for start in range(0, len(cut), AT_ONCE):
        prepared = torch.stack([backbone.prepare(part) for part in cut[start : start + AT_ONCE]])
        parts.append(F.normalize(backbone.encode(prepared, tokens=False).projected, dim=1))
    return torch.cat(parts)


def record(alignment: Alignment, row: int = 0) -> dict:
    """One image's caption and objects as plain numbers, for the JSON object: "global" is s_g, None without a caption."""
    reading, cosine = alignment.readings[row], float(alignment.cosine[row])
    return {"caption": reading.caption.text, "caption_source": reading.caption.source, "global": cosine if cosine == cosine else None,
            "objects": [{"phrase": o.phrase, "score": o.score, "box": list(o.box)} for o in reading.objects]}


def caption_rank(alignment: Alignment, other_captions: Tensor, row: int = 0) -> float | None:
    """Share of M captions of other images, (M, E) unit rows, that match the image less than its own does: 0.5 is chance, 1 the best.
    None without a caption."""
    own = alignment.cosine[row]
    return None if own.isnan() else float((other_captions @ alignment.image[row] < own).float().mean())


# --- the head ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ItemHead:
    """F = 2 E + 4 inputs, H hidden units. norm_weight, norm_bias: (F,). hidden_weight: (H, F), hidden_bias: (H,).
    readout: (H,), bias: scalar."""

    norm_weight: Tensor
    norm_bias: Tensor
    hidden_weight: Tensor
    hidden_bias: Tensor
    readout: Tensor
    bias: Tensor

    def logits(self, alignment: Alignment) -> Tensor:
        """(B,); higher speaks for synthetic. NaN for an image without a usable caption."""
        inputs = alignment.inputs  # (B, F)
        inputs = F.layer_norm(inputs, inputs.shape[1:], self.norm_weight, self.norm_bias)
        return F.gelu(inputs @ self.hidden_weight.T + self.hidden_bias) @ self.readout + self.bias

    def score(self, evidence: Evidence) -> Score:
        """HeadError if the evidence holds no `alignment`. NaN for an image without a usable caption."""
        if evidence.alignment is None:
            raise HeadError("The item head reads image against caption, and this evidence holds no alignment: see `item.align`.")
        return Score(to_numpy(self.logits(evidence.alignment)))

    def scaled(self, slope: float, offset: float) -> ItemHead:
        """The same head with logit·slope + offset."""
        return replace(self, readout=self.readout * slope, bias=self.bias * slope + offset)

    def tensors(self) -> dict[str, Tensor]:
        return dict(vars(self))

    @staticmethod
    def shapes(sizes: Sizes) -> Shapes:
        inputs = 2 * sizes.projected + 4
        return {"norm_weight": (inputs,), "norm_bias": (inputs,), "hidden_weight": ("hidden", inputs), "hidden_bias": ("hidden",),
                "readout": ("hidden",), "bias": ()}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> ItemHead:
        return cls(**tensors)


def null_scores(alignment: Alignment, head: ItemHead, other_captions: Tensor, index: int = 0) -> np.ndarray:
    """(M,) logits of image `index` with each of M captions of other images, (M, E) unit rows, in place of its own.

    Its objects stay, since other ones would each need a crop encoded. Where the image's own logit lies among these says whether
    the words matter to the score or the picture alone makes it.
    """
    one = alignment.rows([index] * len(other_captions))
    return to_numpy(head.logits(replace(one, caption=other_captions)))


# --- training ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ItemRecipe:
    """Optimisation; all of it docs/methods.md, 3, where it is choice, not from the paper."""

    hidden: int = 512
    batch: int = 256
    epochs: int = 50
    patience: int = 5  # epochs without a better average precision on validation images
    rate: float = 1e-3
    weight_decay: float = 1e-2
    dropout: float = 0.1


Labelled = tuple[Alignment, Tensor]  # B images, (B,) labels: 1 synthetic


def _network(width: int, norm: bool, recipe: ItemRecipe) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(width) if norm else nn.Identity(), nn.Linear(width, recipe.hidden), nn.GELU(),
                         nn.Dropout(recipe.dropout), nn.Linear(recipe.hidden, 1), nn.Flatten(0))


def _train(train: tuple[Tensor, Tensor], val: tuple[Tensor, Tensor], norm: bool, seed: int, recipe: ItemRecipe) -> nn.Sequential:
    """AdamW on ((N, F), (N,)); keeps the epoch with the best validation average precision, in evaluation mode."""
    from sklearn.metrics import average_precision_score  # slow to import, and scoring needs none of it

    torch.manual_seed(seed)
    network = _network(train[0].shape[1], norm, recipe).to(train[0].device)
    val_labels = to_numpy(val[1])
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.rate, weight_decay=recipe.weight_decay)
    best, state, waited = -1.0, None, 0
    for _ in range(recipe.epochs):
        network.train()
        for rows in torch.randperm(len(train[1])).to(train[1].device).split(recipe.batch):
            optimiser.zero_grad()
            F.binary_cross_entropy_with_logits(network(train[0][rows]), train[1][rows]).backward()
            optimiser.step()
        with torch.no_grad():
            precision = average_precision_score(val_labels, to_numpy(network.eval()(val[0])))
        waited = waited + 1 if precision <= best else 0
        if not waited:
            best, state = precision, copy.deepcopy(network.state_dict())
        if waited >= recipe.patience:
            break
    network.load_state_dict(state)
    return network.requires_grad_(False)


def _readable(part: Labelled) -> tuple[Tensor, Tensor]:
    """Inputs and labels of the images that have a caption."""
    alignment, labels = part
    labels = torch.as_tensor(labels, dtype=torch.float32, device=alignment.image.device)
    return alignment.inputs[alignment.usable], labels[alignment.usable]


def fit_item(train: Labelled, val: Labelled, *, seed: int = 0, recipe: ItemRecipe = ItemRecipe()) -> ItemHead:
    """Train on (alignment, labels (N,)), on the alignment's device; early stopping on `val`. The head is on the CPU.

    Images without a usable caption are left out. HeadError if that leaves none of a class in one of the two."""
    for part in (train, val):
        if set(_readable(part)[1].tolist()) != {0.0, 1.0}:
            raise HeadError("The item head needs images of both classes with usable captions; this backbone writes too few.")
    network = _train(_readable(train), _readable(val), True, seed, recipe).cpu()
    norm, hidden, readout = network[0], network[1], network[4]
    return ItemHead(norm.weight, norm.bias, hidden.weight, hidden.bias, readout.weight[0], readout.bias[0])


# --- what the words are worth --------------------------------------------------------------------------------------


def without_objects(alignment: Alignment) -> Alignment:
    """The whole image and its caption only."""
    return replace(alignment, count=torch.zeros_like(alignment.count), crops=torch.zeros_like(alignment.crops),
                   phrases=torch.zeros_like(alignment.phrases))


def with_mean_text(alignment: Alignment, mean: Tensor, mean_phrase: Tensor) -> Alignment:
    """Every caption and every object's text replaced by the same one, (E,) each: crops still lie where the words had put them."""
    own = _places_of(alignment) < alignment.count[:, None]  # (B, 5)
    return replace(alignment, caption=mean.expand_as(alignment.image).where(alignment.usable[:, None], torch.nan),
                   phrases=torch.where(own[:, :, None], mean_phrase, 0.0))


def with_shuffled_text(alignment: Alignment, seed: int) -> Alignment:
    """Each image with the caption and the objects' texts of another one; of unlike numbers of objects the smaller counts."""
    other = torch.randperm(len(alignment), generator=torch.Generator().manual_seed(seed)).to(alignment.count.device)
    count = torch.minimum(alignment.count, alignment.count[other])
    own = (_places_of(alignment) < count[:, None])[:, :, None]
    return replace(alignment, caption=alignment.caption[other], count=count, crops=torch.where(own, alignment.crops, 0.0),
                   phrases=torch.where(own, alignment.phrases[other], 0.0))


MEAN_TEXTS = "image and crops: mean texts"  # the control that tells what the words are worth


def text_gains(cells: dict[str, dict[str, list[float]]], splits: Sequence[str]) -> dict[str, float]:
    """Split → mean AUROC with the images' own texts less that with one mean text for all; cells: from `controls`."""
    return {split: float(np.mean(cells["all"][split]) - np.mean(cells[MEAN_TEXTS][split])) for split in splits}


def _same(alignment: Alignment) -> Alignment:
    return alignment


def control_inputs(train: Alignment, seed: int) -> dict[str, Callable[[Alignment], Alignment]]:
    """Name → what is done to the alignments of every split. Mean texts come from the training images."""
    own = _places_of(train) < train.count[:, None]
    mean = F.normalize(train.caption[train.usable].mean(0), dim=0)
    mean_phrase = F.normalize(train.phrases[own].mean(0), dim=0) if own.any() else torch.zeros_like(mean)
    return {
        "all": _same,
        "global only": without_objects,
        "image only: mean caption, no objects": lambda a: with_mean_text(without_objects(a), mean, mean_phrase),
        MEAN_TEXTS: lambda a: with_mean_text(a, mean, mean_phrase),
        "shuffled captions": lambda a: with_shuffled_text(a, seed),
    }


def controls(train: Labelled, val: Labelled, tests: dict[str, Labelled], seeds: int = 3,
             recipe: ItemRecipe = ItemRecipe()) -> dict[str, dict[str, list[float]]]:
    """Control → split (`val` first) → AUROC of each seed. Each control is trained by itself, as `fit_item` does."""
    splits = {"val": val} | tests
    result: dict[str, dict[str, list[float]]] = {}
    for seed in range(seeds):
        for name, change in control_inputs(train[0], seed).items():
            changed = {split: _readable((change(a), labels)) for split, (a, labels) in ({"train": train} | splits).items()}
            _note(result, name, changed, True, seed, recipe)
        _note(result, "cosines only", _cosines({"train": train} | splits), False, seed, recipe)
    return result


def _cosines(splits: dict[str, Labelled]) -> dict[str, tuple[Tensor, Tensor]]:
    """The four numbers of the summary, standardised by the training images; no layer norm, which would take their level away."""
    cut = {split: (inputs[:, -4:], labels) for split, (inputs, labels) in ((s, _readable(part)) for s, part in splits.items())}
    mean, spread = cut["train"][0].mean(0), cut["train"][0].std(0).clamp(min=1e-6)
    return {split: ((values - mean) / spread, labels) for split, (values, labels) in cut.items()}


def _note(result: dict, name: str, splits: dict[str, tuple[Tensor, Tensor]], norm: bool, seed: int, recipe: ItemRecipe) -> None:
    """Train on `train`, and add the AUROC of each other split to the result."""
    from sklearn.metrics import roc_auc_score

    network = _train(splits["train"], splits["val"], norm, seed, recipe)
    for split, (inputs, labels) in splits.items():
        if split != "train":
            result.setdefault(name, {}).setdefault(split, []).append(float(roc_auc_score(to_numpy(labels), to_numpy(network(inputs)))))


def control_report(result: dict[str, dict[str, list[float]]]) -> str:
    """Markdown: a row for each control, for each split the mean AUROC and its range over seeds."""
    splits = list(next(iter(result.values())))
    lines = ["| the network reads | " + " | ".join(f"{split} AUROC" for split in splits) + " |", "|" + "---|" * (len(splits) + 1)]
    for name, found in result.items():
        cells = (f"{np.mean(v):.3f} ({min(v):.3f}–{max(v):.3f})" for v in found.values())
        lines.append("| " + " | ".join([name, *cells]) + " |")
    return "\n".join(lines)


# --- features for training -----------------------------------------------------------------------------------------


def extract_alignment(backbone: Backbone, groups: Iterable[Sequence[np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays of all images of all groups, in order: what `from_arrays` reads. A group is the views of one example, (H, W, 3) uint8.

    Embeddings of crops and of objects' texts in float16.
    """
    parts, waiting = [], []
    for group in groups:
        waiting += group
        if len(waiting) >= AT_ONCE:
            parts, waiting = [*parts, _arrays(backbone, waiting)], []
    parts += [_arrays(backbone, waiting)] if waiting else []
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _arrays(backbone: Backbone, pixels: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    images = torch.stack([backbone.prepare(one) for one in pixels])
    made = align(backbone, pixels, images, backbone.encode(images))
    return {"image": made.image.numpy(), "caption": made.caption.numpy(), "crops": made.crops.half().numpy(),
            "phrases": made.phrases.half().numpy(), "count": made.count.numpy(), "texts": np.array(made.texts)}


def from_arrays(arrays: dict[str, np.ndarray]) -> Alignment:
    """What `extract_alignment` gave, without readings and patches."""
    image, caption_, crops, phrases = (torch.from_numpy(arrays[name]).float() for name in ("image", "caption", "crops", "phrases"))
    return Alignment(image, caption_, crops, phrases, torch.from_numpy(arrays["count"]), tuple(arrays["texts"].tolist()))
