"""Train the embedded model, a small CoCa, from scratch on image-caption pairs and on photographic attributes.

Two stages, both resumable. The towers learn content (contrastive loss over captions) and attributes (an edited copy of
a photograph must lie further along the attribute's text direction than the copy before the edit). Then the caption
decoder learns on the frozen towers. Nothing here knows which images are real or synthetic.

Choices, not from a paper: patches are dropped at random for speed (as in FLIP, arXiv 2212.00794) and come back for the
last epochs; the weight matrices inside the blocks are updated along orthogonalised momentum (Muon), the rest by AdamW.
"""

from __future__ import annotations

import csv
import json
import math
import os
import tarfile
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detector.checkpoints import write_whole
from detector.clip.attributes import ATTRIBUTES
from detector.clip.backbone import WEIGHTS_FILE, fingerprint
from detector.clip.tokenizer import simple_tokenizer
from detector.hub.weights import read_weights, write_weights

EDITS = [
    (index, pole, operation)
    for index, attribute in enumerate(ATTRIBUTES)
    for pole, operation in ((1, attribute.operation), (-1, attribute.opposite))
    if operation is not None
]


@dataclass
class PretrainConfig:
    """How the embedded model is trained. Lengths in images or steps, rates per step."""

    epochs: int = 22  # passes over as many images as the training split has
    batch: int = 216  # photographs in a step
    edited: int = 40  # of which so many also appear as an edited copy
    edits_per_batch: int = 10  # distinct operations in a step: fewer prompts to encode
    flickr_share: float = 0.6  # of the draws; its captions are sentences, the others' class names
    early_epochs: int = 6  # that leave out `early_dropout` of the patches
    early_dropout: float = 0.7
    patch_dropout: float = 0.5  # share of patches left out after that
    full_epochs: int = 1  # last epochs that see every patch
    matrix_rate: float = 0.02  # step of the orthogonalised matrices
    other_rate: float = 1.5e-3  # AdamW's step for everything else
    weight_decay: float = 0.1
    attribute_weight: float = 1.0
    caption_epochs: int = 11  # passes over as many captions as there are images for the decoder
    caption_batch: int = 128
    caption_flickr_share: float = 0.9  # of the decoder's draws: sentences teach more than class names
    caption_others: int = 150  # images of each other source that the decoder sees
    caption_patch_dropout: float = 0.25  # share of image tokens that a step of the decoder leaves out
    seed: int = 0


# --- data ----------------------------------------------------------------------------------------------------------


@dataclass
class Pairs:
    """The images of one split in memory, uint8 RGB, with all their captions and their source."""

    images: list[np.ndarray]
    captions: list[list[str]]
    sources: list[str]


def load_pairs(folder: Path, split: str) -> Pairs:
    """Read `<split>.tar` and `captions.csv` (columns file, split, source, caption) from `folder`."""
    captions, sources = defaultdict(list), {}
    with open(folder / "captions.csv", newline="", encoding="utf-8") as rows:
        for row in csv.DictReader(rows):
            if row["split"] == split:
                captions[row["file"]].append(row["caption"])
                sources[row["file"]] = row["source"]
    pairs = Pairs([], [], [])
    with tarfile.open(folder / f"{split}.tar") as archive:
        for member in archive:
            name = Path(member.name).name
            if name in captions:
                data = np.frombuffer(archive.extractfile(member).read(), np.uint8)
                pairs.images.append(cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB))
                pairs.captions.append(captions[name])
                pairs.sources.append(sources[name])
    return pairs


def random_crop(image: np.ndarray, smallest: float, generator: np.random.Generator) -> tuple[int, ...]:
    """A box (y, x, height, width) of `smallest` to all of the image's area and an aspect of 3:4 to 4:3."""
    height, width = image.shape[:2]
    area = height * width * generator.uniform(smallest, 1)
    aspect = math.exp(generator.uniform(math.log(3 / 4), math.log(4 / 3)))
    h, w = min(height, round(math.sqrt(area / aspect))), min(width, round(math.sqrt(area * aspect)))
    return int(generator.integers(height - h + 1)), int(generator.integers(width - w + 1)), h, w


def cut(image: np.ndarray, box: tuple[int, ...], size: int, flip: bool) -> np.ndarray:
    y, x, h, w = box
    patch = cv2.resize(image[y : y + h, x : x + w], (size, size), interpolation=cv2.INTER_AREA)
    return patch[:, ::-1] if flip else patch


@dataclass
class Batch:
    images: np.ndarray  # (batch + edited, S, S, 3) uint8; the edited copies of the first photographs come last
    texts: list[str]  # one for each image
    edits: list[int]  # for each edited copy the index into EDITS


def make_batch(pairs: Pairs, chosen: np.ndarray, size: int, config: PretrainConfig, generator) -> Batch:
    """Crop, flip and caption the chosen images; append the edited copies with the attribute in their captions."""
    images, texts, copies, copy_texts, edits = [], [], [], [], []
    offered = generator.choice(len(EDITS), config.edits_per_batch, replace=False)
    for position, index in enumerate(chosen):
        image, flip = pairs.images[index], bool(generator.integers(2))
        edited = position < config.edited
        box = random_crop(image, 0.75 if edited else 0.4, generator)
        images.append(cut(image, box, size, flip))
        texts.append(str(generator.choice(pairs.captions[index])))
        if edited:
            edit = int(offered[position % len(offered)])
            attribute, pole, operation = EDITS[edit]
            concept = ATTRIBUTES[attribute].concept
            copies.append(cut(operation(image, float(generator.uniform())), box, size, flip))
            phrase = concept.positive if pole > 0 else concept.negative
            copy_texts.append(f"{texts[-1].rstrip(' .')}, with {phrase}")
            edits.append(edit)
    return Batch(np.stack(images + copies), texts + copy_texts, edits)


def draw_weights(sources: list[str], flickr_share: float) -> np.ndarray:
    """Probability of each image in a draw where Flickr8k as a whole has `flickr_share` and the others have the rest."""
    flickr = np.array([source == "flickr8k" for source in sources])
    weights = np.where(flickr, flickr_share / max(flickr.sum(), 1), (1 - flickr_share) / max((~flickr).sum(), 1))
    return weights / weights.sum()


def batches(pairs: Pairs, size: int, config: PretrainConfig, epoch: int) -> Iterator[Batch]:
    """One epoch of batches, drawn by source and prepared a few ahead in a thread; the same for the same epoch."""
    generator, weights = np.random.default_rng((config.seed, epoch)), draw_weights(pairs.sources, config.flickr_share)
    steps = max(1, len(pairs.images) // config.batch)

    def draw() -> Batch:
        chosen = generator.choice(len(weights), min(config.batch, np.count_nonzero(weights)), replace=False, p=weights)
        return make_batch(pairs, chosen, size, config, generator)

    with ThreadPoolExecutor(max_workers=1) as pool:  # one worker: the generator is used in order
        ahead = deque(pool.submit(draw) for _ in range(min(3, steps)))
        for step in range(steps):
            yield ahead.popleft().result()
            if step + 3 < steps:
                ahead.append(pool.submit(draw))


# --- model and optimiser -------------------------------------------------------------------------------------------


def build_model(model_cfg: dict) -> nn.Module:
    """open_clip's CoCa from the `model_cfg` of an open_clip configuration, with every parameter initialised."""
    from open_clip.coca_model import CoCa

    cfg = {key: value for key, value in model_cfg.items() if key != "custom_text"}
    vision = cfg.pop("vision_cfg") | {"patch_dropout": 0.5}  # builds the module; its rate is set by the epoch
    model = CoCa(vision_cfg=vision, **cfg)
    # open_clip leaves this one matrix as the memory happened to be
    nn.init.normal_(model.text_decoder.text_projection, std=cfg["multimodal_cfg"]["width"] ** -0.5)
    return model


def orthogonalise(matrix: Tensor, steps: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrix, roughly, by five quintic Newton-Schulz steps (Jordan et al. 2024)."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalised, for matrices inside transformer blocks; float32 throughout.

    torch's own Muon computes in bfloat16, which is a hundred times slower on processors without that type.
    """

    def __init__(self, parameters, lr: float, momentum: float = 0.95, weight_decay: float = 0.0):
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                momentum = state.setdefault("momentum", torch.zeros_like(parameter))
                momentum.lerp_(parameter.grad, 1 - group["momentum"])
                update = parameter.grad.lerp(momentum, group["momentum"])
                rows, columns = update.shape
                parts = update.split(columns) if rows == 3 * columns else (update,)  # query, key and value apart
                update = torch.cat([orthogonalise(part) * max(1, part.shape[0] / columns) ** 0.5 for part in parts])
                parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"])


def make_optimisers(module: nn.Module, config: PretrainConfig) -> list[torch.optim.Optimizer]:
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    matrices = [p for name, p in named if p.ndim == 2 and ("resblocks" in name or "cross_attn" in name)]
    chosen = {id(p) for p in matrices}
    decayed = [p for _, p in named if id(p) not in chosen and p.ndim >= 2]
    plain = [p for _, p in named if id(p) not in chosen and p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return [
        Muon(matrices, lr=config.matrix_rate, weight_decay=config.weight_decay),
        torch.optim.AdamW(groups, lr=config.other_rate, betas=(0.9, 0.98)),
    ]


def set_rate(optimisers: list, progress: float) -> None:
    """Warm up over the first 4 %, then fall linearly to a fiftieth."""
    factor = min(progress / 0.04, 1.0) * max(0.02, 1 - max(progress - 0.04, 0) / 0.96)
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = group.setdefault("peak", group["lr"]) * factor


# --- losses --------------------------------------------------------------------------------------------------------


def contrastive_loss(image: Tensor, text: Tensor, owner: Tensor, scale: Tensor) -> Tensor:
    """Symmetric InfoNCE where one text may belong to several images.

    image: (B, D) unit rows; text: (U, D) unit rows, one for each distinct text; owner: (B,) index of each image's text.
    """
    logits = scale * image @ text.T  # (B, U)
    to_text = F.cross_entropy(logits, owner)
    belongs = F.one_hot(owner, len(text)).float()  # (B, U)
    to_image = -(belongs / belongs.sum(0) * logits.log_softmax(0)).sum(0).mean()
    return (to_text + to_image) / 2


def attribute_loss(clean: Tensor, edited: Tensor, direction: Tensor, pole: Tensor, scale: float = 25.0) -> Tensor:
    """−log σ of the rise along the attribute's direction. clean, edited, direction: (E, D) unit rows; pole: (E,) ±1."""
    rise = ((edited - clean) * direction).sum(1) * pole
    return F.softplus(-scale * rise).mean()


def normalise_pixels(images: np.ndarray, preprocess: dict) -> Tensor:
    """(B, S, S, 3) uint8 → (B, 3, S, S) float32 in CLIP's normalised units."""
    mean, std = (torch.tensor(preprocess[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    return (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - mean) / std


def tower_loss(model, tokenizer, batch: Batch, preprocess: dict, config: PretrainConfig, device) -> dict[str, Tensor]:
    """Both losses of the first stage for one batch, from one pass of each tower."""
    distinct = list(dict.fromkeys(batch.texts))
    attributes = sorted({EDITS[edit][0] for edit in batch.edits})
    prompts = [prompt for index in attributes for prompt in ATTRIBUTES[index].prompts]
    text = model.encode_text(tokenizer(distinct + prompts).to(device))
    image = model.encode_image(normalise_pixels(batch.images, preprocess).to(device))
    position = {value: index for index, value in enumerate(distinct)}
    owner = torch.tensor([position[value] for value in batch.texts], device=device)
    contrastive = contrastive_loss(image, text[: len(distinct)], owner, model.logit_scale.exp())
    poles = text[len(distinct) :].view(len(attributes), 2, -1)
    directions = F.normalize(poles[:, 0] - poles[:, 1], dim=1)
    chosen = torch.tensor([attributes.index(EDITS[edit][0]) for edit in batch.edits], device=device)
    pole = torch.tensor([float(EDITS[edit][1]) for edit in batch.edits], device=device)
    count = len(batch.edits)
    attribute = attribute_loss(image[:count], image[-count:], directions[chosen], pole)
    return {"loss": contrastive + config.attribute_weight * attribute, "contrastive": contrastive, "attribute": attribute}


# --- measuring -----------------------------------------------------------------------------------------------------


def centre_square(image: np.ndarray, size: int) -> np.ndarray:
    scale = size / min(image.shape[:2])
    width, height = round(image.shape[1] * scale), round(image.shape[0] * scale)
    image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    y, x = (height - size) // 2, (width - size) // 2
    return image[y : y + size, x : x + size]


@torch.no_grad()
def embed_images(model, images: list[np.ndarray], size: int, preprocess: dict, device) -> Tensor:
    """(N, D) unit rows, in chunks of 256."""
    squares = [centre_square(image, size) for image in images]
    chunks = [np.stack(squares[i : i + 256]) for i in range(0, len(squares), 256)]
    return torch.cat([model.encode_image(normalise_pixels(chunk, preprocess).to(device)).cpu() for chunk in chunks])


@torch.no_grad()
def embed_texts(model, tokenizer, texts: list[str], device) -> Tensor:
    """(N, D) unit rows, in chunks of 256."""
    chunks = [texts[i : i + 256] for i in range(0, len(texts), 256)]
    return torch.cat([model.encode_text(tokenizer(chunk).to(device)).cpu() for chunk in chunks])


def recall_at(image: Tensor, text: Tensor, owner: Tensor, k: int = 10) -> float:
    """Share of images that find one of their own texts among the `k` nearest. owner: (T,) image index of each text."""
    nearest = (image @ text.T).topk(min(k, len(text)), dim=1).indices
    return (owner[nearest] == torch.arange(len(image))[:, None]).any(1).float().mean().item()


def zero_shot(image: Tensor, captions: list[str], prompt_embeddings: dict[str, Tensor]) -> float:
    """Share of images whose own class sentence is the nearest of all class sentences of that source."""
    names = sorted(prompt_embeddings)
    predicted = (image @ torch.stack([prompt_embeddings[name] for name in names]).T).argmax(1)
    return float(np.mean([names[p] == own for p, own in zip(predicted.tolist(), captions, strict=True)]))


def attribute_rise(model, tokenizer, images: list[np.ndarray], size: int, preprocess: dict, device) -> dict[str, float]:
    """For each operation the share of `images` in which its concept's activation moves the right way at strength 0.5."""
    prompts = [prompt for attribute in ATTRIBUTES for prompt in attribute.prompts]
    poles = embed_texts(model, tokenizer, prompts, device).view(len(ATTRIBUTES), 2, -1)
    directions = F.normalize(poles[:, 0] - poles[:, 1], dim=1)
    clean = embed_images(model, images, size, preprocess, device)
    rises = {}
    for index, pole, operation in EDITS:
        edited = embed_images(model, [operation(image, 0.5) for image in images], size, preprocess, device)
        moved = pole * (edited - clean) @ directions[index] > 0
        rises[f"{ATTRIBUTES[index].concept.name} {'+' if pole > 0 else '−'}"] = moved.float().mean().item()
    return rises


def measure(model, tokenizer, pairs: Pairs, size: int, preprocess: dict, device, attributes: int = 0) -> dict:
    """Retrieval on Flickr8k, zero-shot on two class sets, and, on so many photographs, the attribute operations."""
    model.eval()
    of = {name: [i for i, s in enumerate(pairs.sources) if s == name] for name in set(pairs.sources)}
    image = embed_images(model, pairs.images, size, preprocess, device)
    flickr = of.get("flickr8k", [])
    texts = [(position, text) for position, i in enumerate(flickr) for text in pairs.captions[i]]
    result = {}
    if texts:
        embedded = embed_texts(model, tokenizer, [text for _, text in texts], device)
        owner = torch.tensor([position for position, _ in texts])
        result["flickr8k_r10"] = recall_at(image[flickr], embedded, owner)
    for source in ("imagenette", "intel_scenes"):
        captions = [pairs.captions[i][0] for i in of.get(source, [])]
        if captions:
            names = sorted(set(captions))
            prompts = dict(zip(names, embed_texts(model, tokenizer, names, device), strict=True))
            result[f"{source}_zero_shot"] = zero_shot(image[of[source]], captions, prompts)
    if attributes and flickr:
        photographs = [pairs.images[i] for i in flickr[:attributes]]
        result["attribute_rise"] = attribute_rise(model, tokenizer, photographs, size, preprocess, device)
    return result


# --- stages --------------------------------------------------------------------------------------------------------


def save_checkpoint(path: Path, model: nn.Module, optimisers: list, **state) -> None:
    write_whole(path, {"model": model.state_dict(), "optimisers": [o.state_dict() for o in optimisers], **state})


def load_checkpoint(path: Path, model: nn.Module, optimisers: list) -> dict:
    state = torch.load(path, map_location="cpu", weights_only=True)
    model.load_state_dict(state["model"])
    for optimiser, saved in zip(optimisers, state["optimisers"], strict=True):
        optimiser.load_state_dict(saved)
    return state


def dropout_at(epoch: int, config: PretrainConfig) -> float:
    if epoch >= config.epochs - config.full_epochs:
        return 0.0
    return config.early_dropout if epoch < config.early_epochs else config.patch_dropout


def train_towers(model, tokenizer, train: Pairs, val: Pairs, size, preprocess, config, path: Path, resume: bool, device):
    """First stage. Returns the seconds it took, summed over interruptions."""
    model.text_decoder.requires_grad_(False)
    optimisers = make_optimisers(model, config)
    first, seconds = 0, 0.0
    if resume and path.exists():
        state = load_checkpoint(path, model, optimisers)
        first, seconds = state["epoch"], state["seconds"]
    for epoch in range(first, config.epochs):
        started, sums, count = time.monotonic(), defaultdict(float), 0
        model.train()
        model.visual.patch_dropout.prob = dropout_at(epoch, config)
        steps = max(1, len(train.images) // config.batch)
        for step, batch in enumerate(batches(train, size, config, epoch)):
            set_rate(optimisers, (epoch + (step + 1) / steps) / config.epochs)
            losses = tower_loss(model, tokenizer, batch, preprocess, config, device)
            losses["loss"].backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            for optimiser in optimisers:
                optimiser.step()
                optimiser.zero_grad(set_to_none=True)
            model.logit_scale.data.clamp_(max=math.log(100))
            count += 1
            for name, value in losses.items():
                sums[name] += value.item()
            if step % 10 == 9 or step + 1 == steps:
                means = " ".join(f"{name} {value / count:.3f}" for name, value in sums.items())
                print(f"\rtowers {epoch + 1}/{config.epochs} step {step + 1}/{steps} {means} "
                      f"{(time.monotonic() - started) / count:.1f} s/step", end="", flush=True)
        seconds += time.monotonic() - started
        save_checkpoint(path, model, optimisers, epoch=epoch + 1, seconds=seconds)
        print("\n ", {name: round(value, 3) for name, value in measure(model, tokenizer, val, size, preprocess, device).items()})
    return seconds


def caption_targets(tokenizer, texts: list[str]) -> tuple[Tensor, Tensor]:
    """Tokens (B, L) and next-token labels (B, L − 1) with −100 after the end of text."""
    tokens = tokenizer(texts)
    length = int((tokens == tokenizer.eot_token_id).int().argmax(1).max()) + 1
    tokens = tokens[:, :length]
    labels = tokens[:, 1:].clone()
    after = torch.arange(length - 1)[None] > (labels == tokenizer.eot_token_id).int().argmax(1, keepdim=True)
    return tokens, labels.masked_fill(after, -100)


@torch.no_grad()
def patch_features(model, images: np.ndarray, preprocess: dict, device) -> Tensor:
    return model._encode_image(normalise_pixels(images, preprocess).to(device))[1]


def caption_loss(model, tokenizer, image_tokens: Tensor, texts: list[str]) -> Tensor:
    """Mean cross-entropy of the next token, nats. image_tokens: (B, N, D)."""
    tokens, labels = (t.to(image_tokens.device) for t in caption_targets(tokenizer, texts))
    with torch.no_grad():
        _, embedded = model._encode_text(tokens)
    logits = model.text_decoder(image_tokens, embedded[:, : labels.shape[1]])
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)


@torch.no_grad()
def caption_validation(model, tokenizer, pairs: Pairs, size, preprocess, device) -> float:
    flickr = [i for i, source in enumerate(pairs.sources) if source == "flickr8k"]
    chosen = (flickr or list(range(len(pairs.sources))))[:256]
    images = np.stack([centre_square(pairs.images[i], size) for i in chosen])
    tokens = patch_features(model, images, preprocess, device)
    return caption_loss(model, tokenizer, tokens, [pairs.captions[i][0] for i in chosen]).item()


def decoder_pairs(pairs: Pairs, others: int) -> Pairs:
    """All of Flickr8k and the first `others` images of each other source."""
    seen: dict[str, int] = defaultdict(int)
    chosen = []
    for index, source in enumerate(pairs.sources):
        seen[source] += 1
        if source == "flickr8k" or seen[source] <= others:
            chosen.append(index)
    return Pairs(*([part[index] for index in chosen] for part in (pairs.images, pairs.captions, pairs.sources)))


def kept_tokens(model, pairs: Pairs, size: int, preprocess: dict, device, folder: Path) -> np.ndarray:
    """(images, 2, N, D) float16 patch tokens of every image, plain and mirrored; kept in `folder`, since the towers are frozen."""
    path = folder / f"tokens-{fingerprint(model)}-{len(pairs.images)}.npy"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        tokens = None
        for start in range(0, len(pairs.images), 32):
            squares = np.stack([centre_square(image, size) for image in pairs.images[start : start + 32]])
            both = np.stack([squares, squares[:, :, ::-1]], axis=1)  # (32, 2, S, S, 3)
            made = patch_features(model, np.ascontiguousarray(both.reshape(-1, *squares.shape[1:])), preprocess, device)
            if tokens is None:
                shape = (len(pairs.images), 2, *made.shape[1:])
                tokens = np.lib.format.open_memmap(path.with_suffix(".partial"), mode="w+", dtype=np.float16, shape=shape)
            tokens[start : start + 32] = made.half().cpu().numpy().reshape(-1, *shape[1:])
            print(f"\rimage tokens {min(start + 32, len(pairs.images))}/{len(pairs.images)}", end="", flush=True)
        tokens.flush()
        os.replace(path.with_suffix(".partial"), path)
    return np.load(path, mmap_mode="r")


def caption_batches(pairs: Pairs, tokens: np.ndarray, config: PretrainConfig, epoch: int) -> Iterator[tuple[Tensor, list[str]]]:
    """One epoch of (image tokens (B, kept, D), a caption for each), drawn by source; the same for the same epoch.

    Half of the images are mirrored, and each step leaves out some image tokens: few images have captions by people.
    """
    generator, weights = np.random.default_rng((config.seed, 1000 + epoch)), draw_weights(pairs.sources, config.caption_flickr_share)
    size, places = min(config.caption_batch, np.count_nonzero(weights)), tokens.shape[2]
    for _ in range(max(1, len(weights) // config.caption_batch)):
        chosen = generator.choice(len(weights), size, replace=False, p=weights)
        kept = generator.permutation(places)[: max(1, round(places * (1 - config.caption_patch_dropout)))]
        drawn = tokens[chosen, generator.integers(2, size=size)][:, np.sort(kept)]
        yield torch.from_numpy(drawn).float(), [str(generator.choice(pairs.captions[index])) for index in chosen]


def decoder_epoch(model, tokenizer, pairs: Pairs, tokens: np.ndarray, optimisers, config: PretrainConfig, epoch: int, device) -> None:
    total, steps = 0.0, max(1, len(pairs.images) // config.caption_batch)
    for step, (image_tokens, texts) in enumerate(caption_batches(pairs, tokens, config, epoch)):
        set_rate(optimisers, (epoch + (step + 1) / steps) / config.caption_epochs)
        loss = caption_loss(model, tokenizer, image_tokens.to(device), texts)
        loss.backward()
        nn.utils.clip_grad_norm_(model.text_decoder.parameters(), 5.0)
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        total += loss.item()
        if step % 10 == 9 or step + 1 == steps:
            print(f"\rdecoder {epoch + 1}/{config.caption_epochs} step {step + 1}/{steps} loss {total / (step + 1):.3f}",
                  end="", flush=True)


def train_decoder(model, tokenizer, train: Pairs, val: Pairs, size, preprocess, config, path: Path, resume: bool, device,
                  improved: Callable[[float, float], None] | None = None):
    """Second stage: the caption decoder on frozen towers. Leaves the epoch with the lowest validation loss in `model`.

    improved: called with that loss and the seconds so far after each better epoch. Returns seconds and loss (nats per token).
    """
    model.requires_grad_(False)
    model.text_decoder.requires_grad_(True)
    model.eval()
    optimisers = make_optimisers(model.text_decoder, config)
    first, seconds, lowest, best = 0, 0.0, math.inf, None
    if resume and path.exists():
        state = load_checkpoint(path, model, optimisers)
        first, seconds, lowest, best = state["epoch"], state["seconds"], state["loss"], state.get("best")
    train = decoder_pairs(train, config.caption_others)
    tokens = kept_tokens(model, train, size, preprocess, device, path.parent) if first < config.caption_epochs else None
    for epoch in range(first, config.caption_epochs):
        started = time.monotonic()
        decoder_epoch(model, tokenizer, train, tokens, optimisers, config, epoch, device)
        seconds += time.monotonic() - started
        loss = caption_validation(model, tokenizer, val, size, preprocess, device)
        better = loss < lowest
        if better:
            lowest, best = loss, {name: value.detach().clone() for name, value in model.text_decoder.state_dict().items()}
        save_checkpoint(path, model, optimisers, epoch=epoch + 1, seconds=seconds, loss=lowest, best=best)
        print(f"\n  validation loss {loss:.3f} nats per token, {seconds:.0f} s")
        if better and improved:
            improved(lowest, seconds)
    if best is not None:
        model.text_decoder.load_state_dict(best)
    return seconds, lowest


def export(model: nn.Module, configuration: dict, metrics: dict, out: Path) -> None:
    """Write float16 weights, the open_clip configuration and the metrics: a folder that open_clip itself can load."""
    write_export({name: value.half().cpu().contiguous() for name, value in model.state_dict().items()}, configuration, metrics, out)


def write_export(weights: dict[str, Tensor], configuration: dict, metrics: dict, out: Path) -> None:
    """The three files of a backbone folder; the weights replace older ones only when they are written in full."""
    write_weights(out / WEIGHTS_FILE, weights, {"format": "pt", "licence": "research and education"})
    (out / "open_clip_config.json").write_text(json.dumps(configuration, indent=2) + "\n", encoding="utf-8")
    (out / "metrics.json").write_text(json.dumps(metrics, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def pretrain(pairs: Path, out: Path, checkpoints: Path, configuration: dict, config: PretrainConfig, resume: bool,
             device: torch.device | str = "cpu") -> dict:
    """Both stages, then the measures on the `test` split, then the export. Returns the metrics."""
    torch.manual_seed(config.seed)
    preprocess, size = configuration["preprocess_cfg"], configuration["model_cfg"]["vision_cfg"]["image_size"]
    text = configuration["model_cfg"]["text_cfg"]
    tokenizer = simple_tokenizer(text["vocab_size"], text["context_length"])
    model = build_model(configuration["model_cfg"]).to(device)
    train, val = load_pairs(pairs, "train"), load_pairs(pairs, "val")
    print(f"{len(train.images)} training images, {sum(map(len, train.captions))} captions")
    arguments = (model, tokenizer, train, val, size, preprocess, config)
    tower_seconds = train_towers(*arguments, checkpoints / "towers.pt", resume, device)
    decoder_seconds, caption_nats = train_decoder(*arguments, checkpoints / "decoder.pt", resume, device)
    test = load_pairs(pairs, "test")
    metrics = measure(model, tokenizer, test, size, preprocess, device, attributes=200) | {
        "caption_nats_per_token_val": caption_nats, "tower_seconds": tower_seconds, "decoder_seconds": decoder_seconds,
        "images": len(train.images), "config": asdict(config)}
    export(model, configuration, metrics, out)
    return metrics


def refine_decoder(pairs: Path, weights: Path, out: Path, checkpoints: Path, config: PretrainConfig, resume: bool,
                   device: torch.device | str = "cpu") -> dict:
    """Train only the caption decoder, on from the exported folder `weights`; both towers stay as they are, bit for bit.

    `out` gets the decoder of the epoch with the lowest validation loss, anew after each better epoch. Returns the metrics.
    """
    torch.manual_seed(config.seed)
    configuration = json.loads((weights / "open_clip_config.json").read_text(encoding="utf-8"))
    metrics = json.loads((weights / "metrics.json").read_text(encoding="utf-8"))
    shipped = read_weights(weights / WEIGHTS_FILE)[0]
    model, text = build_model(configuration["model_cfg"]), configuration["model_cfg"]["text_cfg"]
    model.load_state_dict(shipped)
    model.to(device)
    preprocess, size = configuration["preprocess_cfg"], configuration["model_cfg"]["vision_cfg"]["image_size"]
    tokenizer, val = simple_tokenizer(text["vocab_size"], text["context_length"]), load_pairs(pairs, "val")
    before = {"caption_nats_per_token_val": metrics.get("caption_nats_per_token_val"), "seconds": metrics.get("decoder_seconds", 0.0)}

    def keep(loss: float, seconds: float) -> None:
        metrics.update(caption_nats_per_token_val=loss, decoder_seconds=before["seconds"] + seconds, decoder_before=before,
                       decoder_config={name: value for name, value in asdict(config).items() if name.startswith("caption")})
        write_export(shipped | decoder_weights(model), configuration, metrics, out)

    seconds, loss = train_decoder(model, tokenizer, load_pairs(pairs, "train"), val, size, preprocess, config,
                                  checkpoints / "decoder.pt", resume, device, keep)
    keep(loss, seconds)
    return metrics


def decoder_weights(model: nn.Module) -> dict[str, Tensor]:
    """The decoder's tensors in float16, under the names that the whole model gives them."""
    return {f"text_decoder.{name}": value.half().cpu().contiguous() for name, value in model.text_decoder.state_dict().items()}
