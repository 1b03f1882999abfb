"""Train the embedded model, a small CoCa, from scratch on image-caption pairs and on photographic attributes.

Two stages, both resumable. The towers learn content (contrastive loss over captions) and attributes (an edited copy of
a photograph must lie further along the attribute's text direction than the copy before the edit). Then the caption
decoder learns on the frozen towers. Nothing here knows which images are real or synthetic.

Choices, not from a paper: patches are dropped at random for speed (as in FLIP, arXiv 2212.00794) and come back for the
last epochs; the weight matrices inside the blocks are updated along orthogonalised momentum (Muon), the rest by AdamW.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from detector.checkpoints import write_whole
from detector.clip.backbone import WEIGHTS_FILE
from detector.clip.pretrain.data import Pairs, PretrainConfig, batches, decoder_pairs, draw_weights, load_pairs
from detector.clip.pretrain.losses import caption_loss, tower_loss
from detector.clip.pretrain.measures import caption_validation, centre_square, measure, patch_features
from detector.clip.pretrain.model import build_model, make_optimisers, set_rate
from detector.clip.tokenizer import simple_tokenizer
from detector.hub.weights import read_weights, tensor_digest, write_weights


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
                print(
                    f"\rtowers {epoch + 1}/{config.epochs} step {step + 1}/{steps} {means} "
                    f"{(time.monotonic() - started) / count:.1f} s/step",
                    end="",
                    flush=True,
                )
        seconds += time.monotonic() - started
        save_checkpoint(path, model, optimisers, epoch=epoch + 1, seconds=seconds)
        print("\n ", {name: round(value, 3) for name, value in measure(model, tokenizer, val, size, preprocess, device).items()})
    return seconds


def kept_tokens(model, pairs: Pairs, size: int, preprocess: dict, device, folder: Path) -> np.ndarray:
    """(images, 2, N, D) float16 patch tokens of every image, plain and mirrored; kept in `folder`, since the towers are frozen."""
    path = folder / f"tokens-{tensor_digest(model.visual.state_dict())[:16]}-{len(pairs.images)}.npy"
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
            print(
                f"\rdecoder {epoch + 1}/{config.caption_epochs} step {step + 1}/{steps} loss {total / (step + 1):.3f}", end="", flush=True
            )


def train_decoder(
    model,
    tokenizer,
    train: Pairs,
    val: Pairs,
    size,
    preprocess,
    config,
    path: Path,
    resume: bool,
    device,
    improved: Callable[[float, float], None] | None = None,
):
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


def pretrain(
    pairs: Path, out: Path, checkpoints: Path, configuration: dict, config: PretrainConfig, resume: bool, device: torch.device | str = "cpu"
) -> dict:
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
        "caption_nats_per_token_val": caption_nats,
        "tower_seconds": tower_seconds,
        "decoder_seconds": decoder_seconds,
        "images": len(train.images),
        "config": asdict(config),
    }
    export(model, configuration, metrics, out)
    return metrics


def refine_decoder(
    pairs: Path, weights: Path, out: Path, checkpoints: Path, config: PretrainConfig, resume: bool, device: torch.device | str = "cpu"
) -> dict:
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
        metrics.update(
            caption_nats_per_token_val=loss,
            decoder_seconds=before["seconds"] + seconds,
            decoder_before=before,
            decoder_config={name: value for name, value in asdict(config).items() if name.startswith("caption")},
        )
        write_export(shipped | decoder_weights(model), configuration, metrics, out)

    seconds, loss = train_decoder(
        model, tokenizer, load_pairs(pairs, "train"), val, size, preprocess, config, checkpoints / "decoder.pt", resume, device, keep
    )
    keep(loss, seconds)
    return metrics


def decoder_weights(model: nn.Module) -> dict[str, Tensor]:
    """The decoder's tensors in float16, under the names that the whole model gives them."""
    return {f"text_decoder.{name}": value.half().cpu().contiguous() for name, value in model.text_decoder.state_dict().items()}
