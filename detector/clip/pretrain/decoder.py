"""Second stage of pre-training: the caption decoder learns on the frozen towers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from detector.checkpoints import Checkpoint
from detector.clip.pretrain.data import Pairs, PretrainConfig, decoder_pairs, draw_weights
from detector.clip.pretrain.losses import caption_loss
from detector.clip.pretrain.measures import caption_validation, centre_square, patch_features
from detector.clip.pretrain.model import CaptionModel, make_optimisers, set_rate
from detector.clip.towers import Tower
from detector.hub.weights import tensor_digest
from detector.progress import progress
from detector.trainer import Losses, Plan, Trainer

CaptionBatch = tuple[Tensor, list[str]]  # (B, places, D) image tokens, a caption for each


def image_tokens(subject: CaptionModel, pairs: Pairs, folder: Path) -> np.ndarray:
    """(images, 2, N, D) float16 patch tokens of every image, plain and mirrored: made once and read from `folder` after that, since
    the towers are frozen."""
    path = folder / f"tokens-{tensor_digest(subject.model.visual.state_dict())[:16]}-{len(pairs.images)}.npy"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        array: np.ndarray | None = None
        for start in progress(range(0, len(pairs.images), 32), title="image tokens"):
            squares = np.stack([centre_square(image, subject.size) for image in pairs.images[start : start + 32]])
            both = np.stack([squares, squares[:, :, ::-1]], axis=1)  # (32, 2, S, S, 3)
            tokens = patch_features(subject, np.ascontiguousarray(both.reshape(-1, *squares.shape[1:])))
            if array is None:
                shape = (len(pairs.images), 2, *tokens.shape[1:])
                array = np.lib.format.open_memmap(path.with_suffix(".partial"), mode="w+", dtype=np.float16, shape=shape)
            array[start : start + 32] = tokens.half().cpu().numpy().reshape(-1, 2, *tokens.shape[1:])
        del array  # writes it
        os.replace(path.with_suffix(".partial"), path)
    return np.load(path, mmap_mode="r")


def caption_batches(pairs: Pairs, tokens: np.ndarray, config: PretrainConfig, epoch: int) -> Iterator[tuple[Tensor, list[str]]]:
    """One epoch of (image tokens (B, places, D), a caption for each), drawn by source; the same for the same epoch.

    Half of the images are mirrored, and each step leaves out some image tokens: few images have captions by people.
    """
    generator, weights = np.random.default_rng((config.seed, 1000 + epoch)), draw_weights(pairs.sources, config.caption_flickr_share)
    count, places = min(config.caption_batch, int(np.count_nonzero(weights))), tokens.shape[2]
    for _ in range(max(1, len(weights) // config.caption_batch)):
        rows = generator.choice(len(weights), count, replace=False, p=weights)
        subset = generator.permutation(places)[: max(1, round(places * (1 - config.caption_patch_dropout)))]
        sample = tokens[rows, generator.integers(2, size=count)][:, np.sort(subset)]
        yield torch.from_numpy(sample).float(), [str(generator.choice(pairs.captions[index])) for index in rows]


class DecoderTrainer(Trainer[Tower, CaptionBatch]):
    """Trains the caption decoder; the epoch with the lowest validation loss, in nats per token, is the result.

    folder: of the image tokens. improved: called after each better epoch.
    """

    def __init__(self, subject: CaptionModel, train: Pairs, val: Pairs, config: PretrainConfig, checkpoint: Checkpoint):
        subject.model.requires_grad_(False).eval()
        decoder = subject.model.text_decoder.requires_grad_(True)
        plan = Plan(config.caption_epochs, measure="nats_val", lower_is_better=True, clip=5.0, title="decoder")
        super().__init__(decoder, make_optimisers(decoder, config), plan, checkpoint)
        self.subject, self.pairs, self.val, self.config = subject, decoder_pairs(train, config.caption_others), val, config
        self.folder = checkpoint.path.parent
        self.improved: Callable[[DecoderTrainer], None] | None = None

    @cached_property
    def tokens(self) -> np.ndarray:
        return image_tokens(self.subject, self.pairs, self.folder)

    def batches(self, epoch: int) -> Iterator[CaptionBatch]:
        return caption_batches(self.pairs, self.tokens, self.config, epoch)

    def before_step(self, epoch: int, step: int) -> None:
        steps = max(1, len(self.pairs.images) // self.config.caption_batch)
        set_rate(self.optimisers, (epoch + (step + 1) / steps) / self.config.caption_epochs)

    def loss(self, batch: CaptionBatch) -> Losses:
        image_tokens, texts = batch
        return {"loss": caption_loss(self.subject, image_tokens.to(self.subject.device), texts)}

    def validate(self) -> float:
        self.module.eval()
        return caption_validation(self.subject, self.val)

    def after_epoch(self, better: bool) -> None:
        if better and self.improved:
            self.improved(self)
