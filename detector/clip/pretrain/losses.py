"""The losses: captions against images, edited copies along their attribute, the next token of a caption."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from detector.clip.attributes import ATTRIBUTES
from detector.clip.pretrain.data import EDITS, Batch
from detector.clip.pretrain.model import CaptionModel


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


def normalise_pixels(images: np.ndarray, preprocess: dict[str, Any]) -> Tensor:
    """(B, S, S, 3) uint8 → (B, 3, S, S) float32 in CLIP's normalised units."""
    mean, std = (torch.tensor(preprocess[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    return (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - mean) / std


def tower_loss(subject: CaptionModel, batch: Batch, attribute_weight: float) -> dict[str, Tensor]:
    """Both losses of the first stage for one batch, from one pass of each tower, and "loss", their weighted sum."""
    model, tokenizer, device = subject.model, subject.tokenizer, subject.device
    distinct = list(dict.fromkeys(batch.texts))
    attributes = sorted({EDITS[edit][0] for edit in batch.edits})
    prompts = [prompt for index in attributes for prompt in ATTRIBUTES[index].prompts]
    text = model.encode_text(tokenizer(distinct + prompts).to(device))
    image = model.encode_image(normalise_pixels(batch.images, subject.preprocess).to(device))
    position = {value: index for index, value in enumerate(distinct)}
    owner = torch.tensor([position[value] for value in batch.texts], device=device)
    contrastive = contrastive_loss(image, text[: len(distinct)], owner, model.logit_scale.exp())
    poles = text[len(distinct) :].view(len(attributes), 2, -1)
    directions = F.normalize(poles[:, 0] - poles[:, 1], dim=1)
    places = torch.tensor([attributes.index(EDITS[edit][0]) for edit in batch.edits], device=device)
    pole = torch.tensor([float(EDITS[edit][1]) for edit in batch.edits], device=device)
    count = len(batch.edits)
    attribute = attribute_loss(image[:count], image[-count:], directions[places], pole)
    return {"loss": contrastive + attribute_weight * attribute, "contrastive": contrastive, "attribute": attribute}


def caption_targets(tokenizer: Any, texts: list[str]) -> tuple[Tensor, Tensor]:
    """Tokens (B, L) and next-token labels (B, L − 1) with −100 after the end of text."""
    tokens = tokenizer(texts)
    length = int((tokens == tokenizer.eot_token_id).int().argmax(1).max()) + 1
    tokens = tokens[:, :length]
    labels = tokens[:, 1:].clone()
    after = torch.arange(length - 1)[None] > (labels == tokenizer.eot_token_id).int().argmax(1, keepdim=True)
    return tokens, labels.masked_fill(after, -100)


def caption_loss(subject: CaptionModel, image_tokens: Tensor, texts: list[str]) -> Tensor:
    """Mean cross-entropy of the next token, nats. image_tokens: (B, N, D)."""
    tokens, labels = (t.to(image_tokens.device) for t in caption_targets(subject.tokenizer, texts))
    with torch.no_grad():
        _, embedded = subject.model._encode_text(tokens)
    logits = subject.model.text_decoder(image_tokens, embedded[:, : labels.shape[1]])
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
